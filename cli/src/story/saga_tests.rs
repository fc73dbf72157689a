//! Stories of sagas, word for word.

use super::*;
use serde_json::json;

fn event(seq: u64, at: i64, kind: &str, step: &str, detail: Option<&str>) -> SagaEvent {
    let (kind, step, detail) = (kind.to_owned(), step.to_owned(), detail.map(str::to_owned));
    SagaEvent { seq, at: Timestamp(1_763_722_800_000 + at), kind, step, detail }
}

fn saga(fields: &serde_json::Value) -> Saga {
    let mut value = json!({
        "sagaId": "saga_1763722800000_0123", "type": "DEVICE_CREATION", "status": "RUNNING",
        "currentStep": "START_DEVICE", "stepIndex": 4, "deviceId": "0199", "startedAt": "2025-11-21T11:00:00Z",
        "updatedAt": "2025-11-21T11:00:00Z", "timeoutAt": "2025-11-21T11:10:00Z",
    });
    for (name, field) in fields.as_object().unwrap() {
        value[name] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn device() -> Device {
    Device { name: "pixel".into(), user_id: "alice".into(), host_id: "host-1".into(), ..Device::default() }
}

#[test]
fn a_creation_that_failed_and_was_undone() {
    let events = [
        event(1, 0, "started", "ALLOCATE_PORTS", None),
        event(2, 5, "waits", "ALLOCATE_PORTS", Some("HOST_ANSWER")),
        event(3, 60, "done", "ALLOCATE_PORTS", None),
        event(4, 2000, "retry", "CREATE_PROVIDER_DEVICE", Some("ENGINE_UNAVAILABLE: no docker.sock")),
        event(5, 3000, "turned", "START_DEVICE", Some("FAILED: BOOT_TIMEOUT: no boot within 120 s")),
        event(6, 125_000, "waits", "START_DEVICE", Some("HOST_ANSWER")),
        event(7, 130_000, "compensated", "START_DEVICE", None),
        event(8, 131_000, "ended", "ALLOCATE_PORTS", Some("COMPENSATED")),
    ];
    let saga = saga(&json!({
        "status": "COMPENSATED", "cause": "FAILED", "failedStep": "START_DEVICE", "currentStep": "ALLOCATE_PORTS",
        "errorMessage": "BOOT_TIMEOUT: no boot within 120 s", "endedAt": "2025-11-21T11:02:11Z",
    }));
    let page = explain(&saga, &events, Some(&device()), None, Timestamp(1_763_723_000_000));
    assert_eq!(
        page.render(false),
        "\
Saga saga_1763722800000_0123 (DEVICE_CREATION) creates device pixel of alice on host host-1.
It began at 2025-11-21T11:00:00.000Z, and ended COMPENSATED after 2m 11s.

What happened
    +0.0s  it begins with ALLOCATE_PORTS (the host leases an ADB and a WebRTC port)
    +0.0s  the host is told: ALLOCATE_PORTS (the host leases an ADB and a WebRTC port)
    +0.1s  ALLOCATE_PORTS is done
    +2.0s  CREATE_PROVIDER_DEVICE could not be done now, and is tried again after a pause: ENGINE_UNAVAILABLE: no docker.sock
    +3.0s  START_DEVICE failed (BOOT_TIMEOUT: no boot within 120 s): everything is undone
   +2m 5s  the host is told: START_DEVICE (the phone stops)
  +2m 10s  START_DEVICE is undone: the phone stops
  +2m 11s  it ends COMPENSATED

How it stands
  START_DEVICE failed, and everything is undone: BOOT_TIMEOUT: no boot within 120 s.

What you can do
  BOOT_TIMEOUT: look at the container's log on the host (docker logs), at the host's load and memory, and whether \
the kernel has binder; then start the device again.
  Order the device again; nothing of it is left, its name and quota are free.
"
    );
}

#[test]
fn one_that_waits_says_for_what_and_until_when() {
    let saga = saga(&json!({"waitReason": "HOST_UNREACHABLE"}));
    let host = Host {
        id: "host-1".into(),
        status: "UNREACHABLE".into(),
        last_seen_at: Some(Timestamp(1_763_722_785_000)),
        ..Host::default()
    };
    let page = explain(&saga, &[], Some(&device()), Some(&host), Timestamp(1_763_722_830_000));
    let text = page.render(false);
    for part in [
        "30s ago, and is RUNNING",
        "At work is step 5, START_DEVICE: the phone starts",
        "It waits for its host to be reachable again (HOST_UNREACHABLE).",
        "Host host-1 is UNREACHABLE, last heard 45s ago: it has been silent",
        "Its deadline is in 9m 30s",
        "phonefleet host forget host-1",
        "phonefleet saga compensate saga_1763722800000_0123",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn one_that_needs_an_operator_tells_how() {
    let saga = saga(&json!({
        "type": "DEVICE_DELETION", "status": "NEEDS_ATTENTION", "waitReason": "OPERATOR", "timeoutAt": null,
        "currentStep": "REMOVE_DEVICE", "errorMessage": "DATA_UNAVAILABLE: Permission denied",
    }));
    let text = explain(&saga, &[], None, None, Timestamp(1_763_722_830_000)).render(false);
    for part in [
        "deletes device 0199.",
        "stands still at REMOVE_DEVICE until an operator decides: DATA_UNAVAILABLE: Permission denied.",
        "DATA_UNAVAILABLE: the agent cannot use",
        "phonefleet saga resume saga_",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn what_is_not_known_is_shown_as_it_is() {
    let unknown = event(1, 0, "teleported", "FLY", Some("to the moon"));
    assert_eq!(sentence(&unknown, false), "FLY: teleported to the moon");
    let skipped = event(1, 0, "ended", "FLY", Some("ABANDONED: the device is being deleted"));
    assert_eq!(sentence(&skipped, true), "it ends ABANDONED: the device is being deleted");
    assert_eq!(sentence(&event(1, 0, "waits", "FLY", Some("GODOT")), false), "FLY waits for GODOT");
}
