//! `phonefleet saga`, and waiting for sagas.

use crate::fixture::{Ran, Served};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

#[test]
fn sagas_are_listed_the_newest_so_many() {
    let served = Served::new();
    let (_, first) = served.order("alice", "a");
    let (device, second) = served.order("alice", "b");
    let ids = |arguments: &[&str]| -> Vec<String> {
        let list = served.run(&[&["saga", "list", "-o", "json"], arguments].concat()).json();
        list.as_array().unwrap().iter().map(|saga| saga["sagaId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&[]), [first.clone(), second.clone()]);
    assert_eq!(ids(&["--limit", "1"]), [second.as_str()]);
    assert_eq!(ids(&["--device", "b"]), [second.as_str()]);
    assert_eq!(
        ids(&["--device", &device, "--type", "device_creation", "--status", "running"]),
        [second.as_str()]
    );
    assert!(ids(&["--status", "FAILED"]).is_empty());
    let ran = served.run(&["saga", "list", "--limit", "1"]);
    assert_eq!(ran.err, "1 older sagas are left out (--limit 0 shows them)\n");
    let text = ran.ok();
    assert!(text.starts_with("TYPE             STATUS   STEP            AGE"), "{text}");
    let error = served.run(&["saga", "list", "--status", "DANCING"]).failed(2);
    assert!(error.contains("status must be one of RUNNING"), "{error}");
    assert_eq!(served.run(&["saga", "get", "alice/b", "-o", "json"]).json()["sagaId"], second);
    assert!(served.run(&["saga", "get", &first]).ok().contains("step:        ALLOCATE_PORTS (1)\n"));
    let text = served.run(&["saga", "events", &first]).ok();
    assert!(text.starts_with("NO  AT ") && text.contains("started  ALLOCATE_PORTS  -\n"), "{text}");
    assert!(served.run(&["saga", "get", "saga_1_nobody"]).failed(3).contains("SAGA_NOT_FOUND"));
}

#[test]
fn an_operator_steers_a_saga() {
    let served = Served::new();
    let (_, saga) = served.order("alice", "pixel");
    served.sql(
        "UPDATE saga_state SET status = 'NEEDS_ATTENTION', resume_status = 'RUNNING', wait_reason = 'OPERATOR',
            error_message = 'IMAGE_MISSING: no such image', due_at = NULL",
    );
    let text = served.run(&["saga", "explain", "pixel"]).ok();
    for part in [
        "creates device pixel of alice",
        "until an operator decides: IMAGE_MISSING",
        "docker pull",
        "saga resume",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // It stands still: whoever waits for it is told at once.
    let ran = served.run(&["saga", "resume", &saga]);
    assert_eq!(ran.ok(), format!("saga {saga} (DEVICE_CREATION) is RUNNING\n"));
    let text = served.run(&["saga", "compensate", &saga]).ok();
    assert_eq!(text, format!("saga {saga} (DEVICE_CREATION) is COMPENSATING\n"));
    served.sql("UPDATE saga_state SET status = 'COMPENSATED', ended_at = started_at + 10, due_at = NULL");
    let error = served.run(&["saga", "compensate", &saga]).failed(4);
    assert!(error.contains("CONFLICT"), "{error}");
}

#[test]
fn an_operator_gives_up_a_saga() {
    let served = Served::new();
    let (_, saga) = served.order("alice", "pixel");
    let why = ["saga", "abandon", "pixel", "--reason", "its release is gone"];
    assert!(served.run(&why).failed(4).contains("CONFLICT"), "it is at work");
    served.sql("UPDATE saga_state SET status = 'NEEDS_ATTENTION', resume_status = 'RUNNING', due_at = NULL");
    let text = served.run(&["saga", "explain", "pixel"]).ok();
    assert!(text.contains(&format!("saga abandon {saga}")), "{text}");
    for _ in 0..2 {
        assert_eq!(served.run(&why).ok(), format!("saga {saga} (DEVICE_CREATION) is ABANDONED\n"));
    }
    let text = served.run(&["saga", "explain", &saga]).ok();
    assert!(text.contains("it ends ABANDONED: its release is gone"), "{text}");
}

/// Appends a line to the only saga's story.
fn event(served: &Served, kind: &str, step: &str, detail: &str) {
    served.sql(format!(
        "INSERT INTO saga_event(saga_id, seq, at, kind, step, detail)
            SELECT saga_id, event_count + 1, started_at + 100, '{kind}', '{step}', nullif('{detail}', '') FROM saga_state;
         UPDATE saga_state SET event_count = event_count + 1;"
    ));
}

#[test]
fn waiting_tells_the_steps_as_they_happen() {
    let served = Served::new();
    let mut child = served.program.start(&["device", "create", "pixel", "-u", "alice", "--wait"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.next().unwrap();
    assert!(line.starts_with("device pixel (") && line.contains("is CREATING: saga saga_"), "{line}");
    let line = lines.next().unwrap();
    assert_eq!(line, "   +0.0s  it begins with ALLOCATE_PORTS (the host leases an ADB and a WebRTC port)");
    event(&served, "done", "ALLOCATE_PORTS", "");
    assert_eq!(lines.next().unwrap(), "   +0.1s  ALLOCATE_PORTS is done");
    event(&served, "ended", "START_DEVICE", "COMPLETED");
    served.settle();
    assert_eq!(lines.next().unwrap(), "   +0.1s  it ends COMPLETED");
    assert_eq!(lines.next(), None);
    let ran = Ran::of(&child.wait_with_output().unwrap());
    let text = ran.ok();
    assert!(text.contains(") is RUNNING; adb connect 127.0.0.1:20000\n"), "{text}");
}

#[test]
fn an_end_otherwise_than_asked_for_fails() {
    let served = Served::new();
    let (_, saga) = served.order("alice", "pixel");
    served.sql(
        "UPDATE saga_state SET status = 'COMPENSATED', cause = 'FAILED', failed_step = 'START_DEVICE',
            error_message = 'BOOT_TIMEOUT: no boot', ended_at = started_at + 10, due_at = NULL",
    );
    // The deletion is another saga, which has not begun: it is not waited for.
    let child = served.program.start(&["device", "reset", "pixel", "--wait", "-o", "json"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let list = served.run(&["saga", "list", "--type", "DEVICE_RESET", "-o", "json"]).json();
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            break;
        }
        assert!(Instant::now() < deadline, "the reset is not ordered");
    }
    served.sql(
        "UPDATE saga_state SET status = 'FAILED', cause = 'FAILED', failed_step = 'RESET_DATA',
            error_message = 'DATA_UNAVAILABLE: disk', ended_at = started_at + 10, due_at = NULL
            WHERE type = 'DEVICE_RESET'",
    );
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!(ran.out, "");
    let error = ran.failed(1);
    assert!(
        error.contains("is FAILED: RESET_DATA failed: DATA_UNAVAILABLE: disk\n  phonefleet saga explain"),
        "{error}"
    );
    let text = served.run(&["saga", "explain", &saga]).ok();
    assert!(text.contains("START_DEVICE failed, and everything is undone: BOOT_TIMEOUT"), "{text}");
}

#[test]
fn a_wait_ends_and_what_is_waited_for_does_not() {
    let served = Served::new();
    let error = served
        .run(&["device", "create", "pixel", "-u", "alice", "--wait", "--wait-timeout", "300ms"])
        .failed(7);
    assert!(
        error.contains("no end within 0.3 s (--wait-timeout); the saga goes on: phonefleet saga events"),
        "{error}"
    );
    assert_eq!(served.run(&["saga", "get", "pixel", "-o", "json"]).json()["status"], "RUNNING");
}

#[test]
fn a_watched_story_ends_with_its_saga() {
    let served = Served::new();
    let (_, saga) = served.order("alice", "pixel");
    let mut child = served.program.start(&["saga", "events", &saga, "--watch", "-o", "json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let kind = |line: String| serde_json::from_str::<Value>(&line).unwrap()["kind"].clone();
    assert_eq!(kind(lines.next().unwrap()), "started");
    event(&served, "waits", "ALLOCATE_PORTS", "HOST_ANSWER");
    assert_eq!(kind(lines.next().unwrap()), "waits");
    event(&served, "ended", "START_DEVICE", "COMPLETED");
    served.settle();
    assert_eq!(kind(lines.next().unwrap()), "ended");
    assert_eq!(lines.next(), None);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_watched_list_tells_changes_only() {
    let served = Served::new();
    served.order("alice", "pixel");
    let mut child = served.program.start(&["device", "list", "--watch", "--interval", "20ms", "-o", "json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let status = |line: String| serde_json::from_str::<Value>(&line).unwrap()[0]["status"].clone();
    assert_eq!(status(lines.next().unwrap()), "CREATING");
    served.settle();
    assert_eq!(status(lines.next().unwrap()), "RUNNING");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(lines.next(), None);
}
