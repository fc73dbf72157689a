//! Devices as people see them.

use crate::models::Device;
use crate::output::page::{Cell, Page, Style};
use crate::output::time::age;
use phonefleet_protocol::time::Timestamp;

/// A table of devices. Whose they are is shown where they may be several users'.
pub fn table(devices: &[Device], with_user: bool, wide: bool, now: Timestamp) -> Page {
    let mut head = vec!["NAME", "STATUS", "HOST", "ADB", "AGE", "ID"];
    if with_user {
        head.insert(0, "USER");
    }
    if wide {
        head.extend(["CPU", "MEMORY", "SAGA", "REASON"]);
    }
    let rows = devices
        .iter()
        .map(|device| {
            let mut row = vec![
                device.name.as_str().into(),
                Cell::status(&device.status),
                device.host_id.as_str().into(),
                Cell::or_dash(device.adb_address.as_ref()),
                Cell::or_dash(device.created_at.map(|at| age(now, at))),
                Cell::new(&device.id, Style::Faint),
            ];
            if with_user {
                row.insert(0, device.user_id.as_str().into());
            }
            if wide {
                row.push(Cell::or_dash(device.cpu_cores));
                row.push(Cell::or_dash(device.memory_mb.map(|memory| format!("{memory} MB"))));
                row.push(Cell::or_dash(device.saga_id.as_ref()));
                row.push(Cell::or_dash(device.reason.as_ref()));
            }
            row
        })
        .collect();
    Page::table(&head, rows, "no devices; order one: phonefleet device create NAME --wait")
}

/// Everything about one device.
pub fn fields(device: &Device, now: Timestamp) -> Page {
    let size = device.width.zip(device.height).map(|(width, height)| format!("{width}x{height}"));
    let screen = size.map(|size| {
        let dpi = device.dpi.map(|dpi| format!(", {dpi} dpi")).unwrap_or_default();
        let fps = device.fps.map(|fps| format!(", {fps} frames/s")).unwrap_or_default();
        format!("{size}{dpi}{fps}")
    });
    let when = |at: Option<Timestamp>| Cell::or_dash(at.map(|at| format!("{at} ({} ago)", age(now, at))));
    let mut fields = vec![
        ("name", Cell::from(device.name.as_str())),
        ("id", device.id.as_str().into()),
        ("user", device.user_id.as_str().into()),
        ("status", Cell::status(&device.status)),
        ("reason", Cell::or_dash(device.reason.as_ref())),
        ("host", device.host_id.as_str().into()),
        ("adb", Cell::or_dash(device.adb_address.as_ref())),
        ("webrtc port", Cell::or_dash(device.ports.map(|ports| ports.webrtc))),
        ("container", Cell::or_dash(device.container_id.as_ref())),
        ("image", Cell::from(device.image.as_deref().unwrap_or("its host's"))),
        ("processors", Cell::or_dash(device.cpu_cores)),
        ("memory", Cell::or_dash(device.memory_mb.map(|memory| format!("{memory} MB")))),
        ("storage", Cell::or_dash(device.storage_mb.map(|storage| format!("{storage} MB")))),
        ("screen", Cell::or_dash(screen)),
        ("gpu", Cell::or_dash(device.gpu_mode.as_ref())),
        ("starts", Cell::or_dash(device.starts)),
        ("saga", Cell::or_dash(device.saga_id.as_ref())),
        ("ordered", when(device.created_at)),
        ("changed", when(device.updated_at)),
    ];
    if device.deleted_at.is_some() {
        fields.push(("gone", when(device.deleted_at)));
    }
    let mut page = Page::default();
    page.add_fields(fields);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn devices() -> Vec<Device> {
        let device = |fields| serde_json::from_value(fields).unwrap();
        vec![
            device(json!({
                "id": "0199-a", "name": "pixel", "userId": "alice", "hostId": "host-1", "status": "RUNNING",
                "adbAddress": "127.0.0.1:20000", "createdAt": "2025-11-21T11:00:00Z", "cpuCores": 2.0,
                "memoryMB": 4096, "sagaId": "saga_1_a", "width": 720, "height": 1280, "dpi": 320, "fps": 30,
                "ports": {"adb": 20000, "webrtc": 21000}, "image": null, "starts": 1, "gpuMode": "guest",
                "updatedAt": "2025-11-21T11:00:00Z",
            })),
            device(json!({
                "id": "0199-b", "name": "a-tablet", "userId": "bob", "hostId": "host-1", "status": "ERROR",
                "reason": {"code": "BOOT_TIMEOUT", "detail": "no boot"}, "createdAt": "2025-11-19T11:00:00Z",
            })),
        ]
    }

    const NOW: Timestamp = Timestamp(1_763_722_860_000);

    #[test]
    fn tables() {
        assert_eq!(
            table(&devices(), false, false, NOW).render(false),
            "NAME      STATUS   HOST    ADB              AGE  ID\n\
             pixel     RUNNING  host-1  127.0.0.1:20000  60s  0199-a\n\
             a-tablet  ERROR    host-1  -                2d   0199-b\n"
        );
        let wide = table(&devices(), true, true, NOW).render(false);
        assert!(
            wide.contains("alice  pixel     RUNNING") && wide.contains("BOOT_TIMEOUT: no boot\n"),
            "{wide}"
        );
        assert!(table(&[], true, true, NOW).render(false).starts_with("no devices; "));
    }

    #[test]
    fn one() {
        let text = fields(&devices()[0], NOW).render(false);
        for line in [
            "status:      RUNNING\n",
            "image:       its host's\n",
            "screen:      720x1280, 320 dpi, 30 frames/s\n",
            "webrtc port: 21000\n",
            "ordered:     2025-11-21T11:00:00.000Z (60s ago)\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
