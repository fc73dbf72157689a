//! A device as the API shows it.

use crate::store::device::{DeviceRow, Status};
use crate::store::host;
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::spec::GpuMode;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, Error};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// One device.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Device)]
pub struct DeviceView {
    /// Its id, a UUIDv7.
    id: String,
    /// Its name, unique among its user's devices.
    name: String,
    /// Whose it is.
    user_id: String,
    /// Where it is.
    host_id: String,
    /// What it does now.
    status: Status,
    /// Always `REDROID`.
    provider_type: &'static str,
    /// Container image; `null` takes the host's.
    image: Option<String>,
    /// Processors.
    cpu_cores: f64,
    /// Memory limit, MiB.
    #[serde(rename = "memoryMB")]
    memory_mb: u64,
    /// Storage that quota counts, MiB.
    #[serde(rename = "storageMB")]
    storage_mb: Option<u64>,
    /// Pixels.
    width: u32,
    /// Pixels.
    height: u32,
    /// Display density.
    dpi: u32,
    /// Frames a second.
    fps: u32,
    /// `guest`, `host` or `auto`.
    #[schema(value_type = String, example = "guest")]
    gpu_mode: GpuMode,
    /// Further arguments of `/init`.
    boot_args: Vec<String>,
    /// Free labels.
    labels: BTreeMap<String, String>,
    /// Its ports on its host, once leased.
    ports: Option<PortsView>,
    /// Where `adb connect` finds it.
    #[schema(example = "127.0.0.1:20000")]
    adb_address: Option<String>,
    /// The engine's id of its container.
    container_id: Option<String>,
    /// How often its wish has changed.
    generation: u64,
    /// Its newest saga.
    saga_id: Option<String>,
    /// Why it is not what it should be.
    reason: Option<ReasonView>,
    /// Starts since its creation.
    starts: u64,
    /// Accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Gone.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
}

/// Ports of a device on its host.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = DevicePorts)]
pub struct PortsView {
    /// ADB.
    adb: u16,
    /// Kept for a WebRTC streamer.
    webrtc: u16,
}

/// Why something is as it is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Reason)]
pub struct ReasonView {
    /// For programs, such as `BOOT_TIMEOUT`.
    code: String,
    /// For people.
    detail: String,
}

impl From<Reason> for ReasonView {
    fn from(Reason { code, detail }: Reason) -> Self {
        Self { code, detail }
    }
}

impl DeviceView {
    /// One row; `address` is where its host binds ports.
    pub fn new(row: DeviceRow, address: Option<&str>) -> Self {
        let spec = row.spec;
        let adb_address = row.ports.zip(address).map(|(ports, address)| at(address, ports.adb));
        Self {
            id: row.device_id.to_string(),
            name: row.name,
            user_id: row.user_id.into(),
            host_id: row.host_id.into(),
            status: row.status,
            provider_type: "REDROID",
            image: spec.image,
            cpu_cores: spec.cpu_cores,
            memory_mb: spec.memory_mb,
            storage_mb: spec.storage_mb,
            width: spec.width,
            height: spec.height,
            dpi: spec.dpi,
            fps: spec.fps,
            gpu_mode: spec.gpu_mode,
            boot_args: spec.boot_args,
            labels: row.labels,
            ports: row.ports.map(|ports| PortsView { adb: ports.adb, webrtc: ports.webrtc }),
            adb_address,
            container_id: row.container_id,
            generation: row.generation,
            saga_id: row.saga_id.map(String::from),
            reason: row.reason.map(ReasonView::from),
            starts: row.starts,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
        }
    }
}

/// `address:port`, also for IPv6.
fn at(address: &str, port: u16) -> String {
    if address.contains(':') && !address.starts_with('[') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// Where hosts bind ports, looked up once a page.
#[derive(Debug, Default)]
pub struct Addresses(HashMap<HostId, Option<String>>);

impl Addresses {
    /// Shows a row, with the address of its host.
    pub fn view(&mut self, connection: &Connection, row: DeviceRow) -> Result<DeviceView, Error> {
        if !self.0.contains_key(&row.host_id) {
            let address = host::find(connection, &row.host_id)?.map(|host| host.report.address);
            self.0.insert(row.host_id.clone(), address.filter(|address| !address.is_empty()));
        }
        let address = self.0.get(&row.host_id).cloned().flatten();
        Ok(DeviceView::new(row, address.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_of_both_families() {
        assert_eq!(super::at("127.0.0.1", 5), "127.0.0.1:5");
        assert_eq!(super::at("::1", 5), "[::1]:5");
    }
}
