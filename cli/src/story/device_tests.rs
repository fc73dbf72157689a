//! Stories of devices.

use super::*;
use serde_json::{Value, json};

fn around(device: &Value, host: Option<Value>, saga: Option<Value>) -> Around {
    let mut whole = json!({
        "id": "0199", "name": "pixel", "userId": "alice", "hostId": "host-1", "status": "RUNNING", "starts": 1,
        "createdAt": "2025-11-21T11:00:00Z",
    });
    for (name, field) in device.as_object().unwrap() {
        whole[name] = field.clone();
    }
    Around {
        device: serde_json::from_value(whole).unwrap(),
        host: host.map(|host| serde_json::from_value(host).unwrap()),
        saga: saga.map(|saga| serde_json::from_value(saga).unwrap()),
        events: Vec::new(),
    }
}

const NOW: Timestamp = Timestamp(1_763_722_860_000);

#[test]
fn one_that_runs() {
    let device = json!({
        "ports": {"adb": 20000, "webrtc": 21000}, "adbAddress": "127.0.0.1:20000", "containerId": "0123456789abcdef",
    });
    let host = json!({
        "id": "host-1", "status": "ONLINE", "devices": 3, "capacity": {"maxDevices": 10},
        "lastSeenAt": "2025-11-21T11:00:57Z",
    });
    let text = explain(&around(&device, Some(host), None), NOW).render(false);
    assert_eq!(
        text,
        "\
Device pixel (0199) of alice is RUNNING on host host-1: it has booted and answers.
Ordered at 2025-11-21T11:00:00.000Z, 1m ago, started 1 time.

Why it is where it is
  Host host-1 was named by the order, or had the fewest devices among the hosts with room for it when it was ordered. \
A device never moves.
  Host host-1 is ONLINE, last heard 3.0s ago: it was heard lately.
  It holds 3 devices and takes 10.
  Its ports there are 20000 (adb connect 127.0.0.1:20000) and 21000 (WebRTC).
  Its container there is 0123456789ab.

Why it is how it is
  It has booted and answers.

What you can do
  Use it: adb connect 127.0.0.1:20000
"
    );
}

#[test]
fn one_in_error_says_why_and_what_to_do() {
    let device =
        json!({"status": "ERROR", "reason": {"code": "CRASH_LOOP", "detail": "died 5 times in 10 min"}});
    let saga = json!({
        "sagaId": "saga_1_a", "type": "DEVICE_START", "status": "COMPENSATED", "cause": "FAILED",
        "failedStep": "START_DEVICE", "errorMessage": "CRASH_LOOP: died", "startedAt": "2025-11-21T11:00:00Z",
        "updatedAt": "2025-11-21T11:00:00Z", "endedAt": "2025-11-21T11:00:30Z",
    });
    let host = json!({"id": "host-1", "status": "UNREACHABLE"});
    let text = explain(&around(&device, Some(host), Some(saga)), NOW).render(false);
    for part in [
        "Its host says CRASH_LOOP: died 5 times in 10 min.",
        "Its newest saga, saga_1_a (DEVICE_START), is COMPENSATED: START_DEVICE failed",
        "the host is not heard now",
        "CRASH_LOOP: it died again and again",
        "phonefleet device start 0199 --wait",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn one_that_is_being_worked_on_names_the_saga() {
    let device = json!({"status": "CREATING", "sagaId": "saga_1_a"});
    let saga = json!({
        "sagaId": "saga_1_a", "type": "DEVICE_CREATION", "status": "RUNNING", "waitReason": "HOST_UNREACHABLE",
        "currentStep": "ALLOCATE_PORTS", "startedAt": "2025-11-21T11:00:00Z", "updatedAt": "2025-11-21T11:00:00Z",
    });
    let mut around = around(&device, None, Some(saga));
    around.events = (1..=20)
        .map(|seq| SagaEvent { seq, kind: "resumed".into(), step: "X".into(), ..SagaEvent::default() })
        .collect();
    let text = explain(&around, NOW).render(false);
    for part in [
        "does not know host host-1 any more",
        "Saga saga_1_a creates it, and is RUNNING: it goes on.",
        "At ALLOCATE_PORTS it waits for its host to be reachable again.",
        "(12 earlier lines: phonefleet saga events saga_1_a)",
        "phonefleet saga explain saga_1_a",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
