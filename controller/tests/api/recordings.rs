//! Orders of recordings: what is accepted, refused, shown, and counted.

use crate::fixture::{Answered, Fixture};
use phonefleet_controller::fleet::apply;
use phonefleet_controller::saga::{Engine, REGISTRY, RetryPolicy};
use phonefleet_controller::schedule::{self, Keep};
use phonefleet_link::Applied;
use phonefleet_protocol::event::Event;
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::recording::{EndCause, RecordingFacts, RecordingPhase};
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

pub const ENGINE: Engine = Engine {
    registry: REGISTRY,
    retry: RetryPolicy {
        retries: 3,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(60),
    },
};

/// A fixture with one running device; its id.
pub async fn with_phone() -> (Fixture, String) {
    let fixture = Fixture::new().await;
    let (device, _) = fixture.order("user-1", "phone-1").await;
    fixture.settle("RUNNING", "running").await;
    (fixture, device)
}

impl Fixture {
    /// Starts a recording; its id.
    pub async fn record(&self, device: &str) -> String {
        let answer = self.act(&format!("/devices/{device}/recordings")).await;
        assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.bytes));
        answer.data()["recordingId"].as_str().unwrap().to_owned()
    }

    /// Applies one event of a host, as its conversation does.
    pub async fn event(&self, host: &'static str, event: Event) -> Applied {
        self.write(move |tx| {
            apply::event(&ENGINE, tx, &host.parse().unwrap(), event.clone(), SystemClock.now())
        })
        .await
    }

    /// Its host says where a recording stands.
    pub async fn says(&self, facts: RecordingFacts) -> Applied {
        self.event("host-1", Event::RecordingChanged { facts, at: SystemClock.now() }).await
    }

    pub async fn recording(&self, id: &str) -> Value {
        self.get(&format!("/recordings/{id}")).await.data()
    }
}

pub fn facts(device: &str, recording: &str, phase: RecordingPhase) -> RecordingFacts {
    let ended = phase.is_terminal();
    RecordingFacts {
        recording_id: recording.parse().unwrap(),
        device_id: device.parse().unwrap(),
        phase,
        started_at: (phase != RecordingPhase::Starting).then_some(Timestamp(1_700_000_000_000)),
        ended_at: ended.then_some(Timestamp(1_700_000_004_000)),
        end_cause: ended.then_some(EndCause::Stopped),
        duration_ms: ended.then_some(4000),
        bytes: ended.then_some(1000),
        sha256: ended.then(|| "0a".repeat(32)),
        reason: None,
    }
}

pub fn failed(device: &str, recording: &str, code: &str) -> RecordingFacts {
    RecordingFacts {
        started_at: None,
        bytes: None,
        duration_ms: None,
        sha256: None,
        end_cause: None,
        reason: Some(Reason::new(code, "why")),
        ..facts(device, recording, RecordingPhase::Failed)
    }
}

fn is_refused(answer: &Answered, status: u16, code: &str, member: &str) -> Value {
    answer.refused(status, code)[member].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_lives_and_is_shown() {
    let (fixture, device) = with_phone().await;
    let path = format!("/devices/{device}/recordings");
    let body = json!({"maxDurationSeconds": 60, "bitRate": 1_000_000, "size": "720x1280"});
    let answer = fixture.post_raw(&path, Some("key"), body.to_string()).await;
    assert_eq!(answer.status, 202);
    let id = answer.data()["recordingId"].as_str().unwrap().to_owned();
    let shown = answer.data()["recording"].clone();
    assert_eq!((&shown["id"], &shown["deviceId"]), (&json!(id), &json!(device)));
    assert_eq!((&shown["status"], &shown["hostId"]), (&json!("STARTING"), &json!("host-1")));
    assert_eq!((&shown["userId"], &shown["spec"]), (&json!("user-1"), &body));
    for unknown_yet in ["startedAt", "endedAt", "endCause", "durationMs", "bytes", "sha256", "reason"] {
        assert_eq!(shown[unknown_yet], Value::Null, "{unknown_yet}");
    }
    let again = fixture.post_raw(&path, Some("key"), body.to_string()).await;
    assert_eq!(again.bytes, answer.bytes, "the same key gives the same answer");

    assert_eq!(is_refused(&fixture.act(&path).await, 409, "CONFLICT", "recordingId"), id);
    fixture.says(facts(&device, &id, RecordingPhase::Recording)).await;
    let heartbeat = json!({"at": "2026-01-01T00:00:00Z", "machineId": "m", "instance": "i", "cpuPercent": 0.0,
        "memoryUsedMB": 0, "diskFreeMB": 0, "phonesRunning": 1, "outboxPending": 0, "orphanRecorders": 3,
        "recordings": [{"recordingId": id, "bytes": 123}]});
    let text = heartbeat.to_string();
    fixture.write(move |tx| tx.execute("UPDATE host SET heartbeat = ?1", [&text])).await;
    let shown = fixture.recording(&id).await;
    assert_eq!((&shown["status"], &shown["bytes"]), (&json!("RECORDING"), &json!(123)));
    assert_eq!(shown["startedAt"], "2023-11-14T22:13:20.000Z");
    assert_eq!(shown["ageSeconds"].as_u64().unwrap() / 60, 0);
    let list = fixture.get("/recordings?active=true").await.data();
    assert_eq!(list["items"][0]["bytes"], 123);
    assert_eq!(list["summary"], json!({"active": 1, "orphans": 3, "meanDurationSeconds": null}));

    let stopped = fixture.act(&format!("/recordings/{id}/stop")).await;
    assert_eq!((stopped.status.as_u16(), &stopped.data()["recording"]["status"]), (202, &json!("STOPPING")));
    let commands = fixture.count("SELECT count(*) FROM command_outbox").await;
    let again = fixture.act(&format!("/recordings/{id}/stop")).await;
    assert_eq!(again.data()["recordingId"], id);
    assert_eq!(fixture.count("SELECT count(*) FROM command_outbox").await, commands);
    fixture.says(facts(&device, &id, RecordingPhase::Recording)).await;
    assert_eq!(fixture.recording(&id).await["status"], "STOPPING", "its host has not heard of it");
    fixture.says(facts(&device, &id, RecordingPhase::Final)).await;
    let shown = fixture.recording(&id).await;
    assert_eq!((&shown["status"], &shown["endCause"]), (&json!("FINAL"), &json!("STOPPED")));
    assert_eq!((&shown["durationMs"], &shown["bytes"]), (&json!(4000), &json!(1000)));
    assert_eq!(shown["sha256"], "0a".repeat(32));
    let ended = fixture.act(&format!("/recordings/{id}/stop")).await;
    assert_eq!((ended.status.as_u16(), &ended.data()["recording"]), (202, &shown));
    let list = fixture.get("/recordings").await.data();
    assert_eq!(list["summary"], json!({"active": 0, "orphans": 3, "meanDurationSeconds": 4.0}));
    let next = fixture.record(&device).await;
    assert_ne!(next, id);

    let events = ["recording.ordered", "recording.started", "recording.finished"];
    let told: Vec<String> = fixture
        .store
        .read(|connection| {
            let sql = "SELECT event_type FROM event_outbox WHERE aggregate_type = 'recording' ORDER BY seq";
            connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        })
        .await
        .unwrap();
    assert_eq!(told, [&events[..], &events[..1]].concat());
    let numbers = String::from_utf8(fixture.get("/metrics").await.bytes).unwrap();
    for line in [
        "recordings_active 1",
        "recordings_orphans 3",
        "recordings_ended_total{status=\"FINAL\",cause=\"STOPPED\"} 1",
        "recordings_duration_seconds_sum 4.0",
    ] {
        assert!(numbers.contains(line), "{line} in\n{numbers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_field_is_named() {
    let (fixture, device) = with_phone().await;
    let path = format!("/devices/{device}/recordings");
    let table = [
        (json!({"maxDurationSeconds": 181}), "/maxDurationSeconds"),
        (json!({"maxDurationSeconds": 0}), "/maxDurationSeconds"),
        (json!({"maxDurationSeconds": -1}), "/maxDurationSeconds"),
        (json!({"maxDurationSeconds": "60"}), "/maxDurationSeconds"),
        (json!({"maxDurationSeconds": 5_000_000_000_u64}), "/maxDurationSeconds"),
        (json!({"bitRate": 99_999}), "/bitRate"),
        (json!({"bitRate": 1.5}), "/bitRate"),
        (json!({"bitRate": 200_000_001}), "/bitRate"),
        (json!({"size": "721x1280"}), "/size"),
        (json!({"size": "720X1280"}), "/size"),
        (json!({"size": "720x"}), "/size"),
        (json!({"size": "720x1280x2"}), "/size"),
        (json!({"size": "+720x1280"}), "/size"),
        (json!({"size": "720x1280; reboot"}), "/size"),
        (json!({"size": "14x16"}), "/size"),
        (json!({"size": "7682x16"}), "/size"),
        (json!({"size": "99999999999x16"}), "/size"),
        (json!({"size": {"width": 720, "height": 1280}}), "/size"),
        (json!({"duration": 5}), "/duration"),
    ];
    for (body, pointer) in table {
        let refusal = fixture.post(&path, &body).await.refused(400, "INVALID_SPEC");
        assert_eq!(refusal["pointer"], pointer, "{body}: {refusal}");
    }
    let refusal =
        fixture.post(&path, &json!({"maxDurationSeconds": 3600})).await.refused(400, "INVALID_SPEC");
    assert!(refusal["detail"].as_str().unwrap().contains("not supported yet"), "{refusal}");
    fixture.post_raw(&path, None, "[]").await.refused(400, "INVALID_SPEC");
    fixture.post_raw(&path, None, "{").await.refused(400, "INVALID_JSON");
    assert_eq!(fixture.count("SELECT count(*) FROM recording").await, 0);
    assert_eq!(fixture.count("SELECT count(*) FROM command_outbox").await, 0);
    for body in [json!({}), json!({"maxDurationSeconds": null, "size": null})] {
        let id = fixture.post(&path, &body).await.data()["recordingId"].as_str().unwrap().to_owned();
        let spec = fixture.recording(&id).await["spec"].clone();
        assert_eq!(spec, json!({"maxDurationSeconds": 180, "bitRate": 4_000_000, "size": null}));
        fixture.says(failed(&device, &id, "BUSY")).await;
    }
    let id = fixture.record(&device).await;
    fixture.post(&format!("/recordings/{id}/stop"), &json!({"now": true})).await.refused(400, "INVALID_BODY");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_codes_and_change_nothing() {
    let fixture = Fixture::new().await;
    let (device, saga) = fixture.order("user-1", "phone-1").await;
    let path = format!("/devices/{device}/recordings");
    assert_eq!(is_refused(&fixture.act(&path).await, 409, "CONFLICT", "sagaId"), saga);
    for status in ["STOPPED", "ERROR", "LOST", "STARTING", "PARKED"] {
        fixture.settle(status, "stopped").await;
        assert_eq!(is_refused(&fixture.act(&path).await, 409, "CONFLICT", "deviceStatus"), status);
    }
    fixture.settle("RUNNING", "running").await;
    fixture.put("/quotas/user-1", &json!({"recordingBytes": 1000})).await.data();
    fixture.sql("UPDATE host SET online = 0").await;
    // The quota is told before the host that is away.
    assert_eq!(is_refused(&fixture.act(&path).await, 403, "QUOTA_EXCEEDED", "limit"), "recordingBytes");
    fixture.put("/quotas/user-1", &json!({"recordingBytes": null})).await.data();
    let refused = fixture.act(&path).await;
    assert_eq!(is_refused(&refused, 503, "HOST_UNREACHABLE", "hostId"), "host-1");
    assert!(refused.headers.contains_key("retry-after"));
    fixture.sql("UPDATE host SET online = 1, conflict_with = 'another'").await;
    fixture.act(&path).await.refused(503, "HOST_UNREACHABLE");
    assert_eq!(fixture.count("SELECT count(*) FROM recording").await, 0);
    assert_eq!(fixture.count("SELECT count(*) FROM command_outbox").await, 0);
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["recordingBytes"], 0);

    let missing = "0190a1b2-0000-7000-8000-000000000000";
    for id in [missing, "phone-1", "..%2f"] {
        fixture.act(&format!("/devices/{id}/recordings")).await.refused(404, "DEVICE_NOT_FOUND");
        fixture.get(&format!("/recordings/{id}")).await.refused(404, "RECORDING_NOT_FOUND");
        fixture.get(&format!("/recordings/{id}/content")).await.refused(404, "RECORDING_NOT_FOUND");
        fixture.act(&format!("/recordings/{id}/stop")).await.refused(404, "RECORDING_NOT_FOUND");
    }
    fixture.sql("UPDATE device SET deleted_at = 1, status = 'DELETED'").await;
    fixture.act(&path).await.refused(404, "DEVICE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_is_expected_then_real_then_given_back() {
    let (fixture, device) = with_phone().await;
    let used = async || fixture.get("/quotas/user-1/usage").await.data()["recordingBytes"].clone();
    let path = format!("/devices/{device}/recordings");
    // 8 s at 1 Mbit/s: 1000000 bytes, and a quarter more.
    let small = json!({"maxDurationSeconds": 8, "bitRate": 1_000_000});
    fixture.put("/quotas/user-1", &json!({"recordingBytes": 1_251_000})).await.data();
    let first = fixture.post(&path, &small).await.data()["recordingId"].as_str().unwrap().to_owned();
    assert_eq!(used().await, 1_250_000);
    fixture.says(facts(&device, &first, RecordingPhase::Recording)).await;
    fixture.says(facts(&device, &first, RecordingPhase::Corrupt)).await;
    assert_eq!(used().await, 1000, "what is kept");
    let second = fixture.post(&path, &small).await.data()["recordingId"].as_str().unwrap().to_owned();
    fixture.says(failed(&device, &second, "DISK_FULL")).await;
    assert_eq!(used().await, 1000, "nothing is kept");
    let more = json!({"maxDurationSeconds": 9, "bitRate": 1_000_000});
    let refusal = fixture.post(&path, &more).await.refused(403, "QUOTA_EXCEEDED");
    assert_eq!((&refusal["used"], &refusal["needed"]), (&json!(1000.0), &json!(1_406_250.0)));

    let now = SystemClock.now();
    schedule::prune_once(&fixture.store, Keep::default(), now).await.unwrap();
    assert_eq!(used().await, 1000);
    fixture.sql("UPDATE recording SET over_at = 1").await;
    schedule::prune_once(&fixture.store, Keep::default(), now).await.unwrap();
    assert_eq!(used().await, 0);
    fixture.get(&format!("/recordings/{first}")).await.refused(404, "RECORDING_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_orders_at_once_are_one_recording() {
    let (fixture, device) = with_phone().await;
    let path = format!("/devices/{device}/recordings");
    let answers = futures_util::future::join_all((0..100).map(|_| fixture.act(&path))).await;
    let accepted: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    assert_eq!(accepted.len(), 1);
    let id = accepted[0].data()["recordingId"].clone();
    for refused in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!(is_refused(refused, 409, "CONFLICT", "recordingId"), id);
    }
    assert_eq!(fixture.count("SELECT count(*) FROM recording").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged() {
    let fixture = Fixture::new().await;
    let mut devices = Vec::new();
    for (user, name) in [("user-1", "a"), ("user-1", "b"), ("user-2", "c")] {
        devices.push(fixture.order(user, name).await.0);
    }
    fixture.settle("RUNNING", "running").await;
    let mut ids = Vec::new();
    // Ids are in the order of their milliseconds, and in no order within one.
    let another_millisecond = || {
        let now = SystemClock.now();
        while SystemClock.now() == now {
            std::hint::spin_loop();
        }
    };
    for device in &devices {
        for _ in 0..2 {
            another_millisecond();
            let id = fixture.record(device).await;
            fixture.says(facts(device, &id, RecordingPhase::Final)).await;
            ids.push(id);
        }
        another_millisecond();
        ids.push(fixture.record(device).await);
    }
    let seen = async |query: &str| -> Vec<String> {
        let data = fixture.get(&format!("/recordings?{query}")).await.data();
        let items = data["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seen("").await, ids);
    assert_eq!(seen("status=FINAL").await.len(), 6);
    assert_eq!(seen("active=true").await.len(), 3);
    assert_eq!(seen("active=false&userId=user-2").await, ids[6..8]);
    assert_eq!(seen(&format!("deviceId={}&status=STARTING", devices[1])).await, ids[5..6]);
    let first = fixture.get("/recordings?limit=5").await.data();
    let rest = fixture.get(&format!("/recordings?cursor={}", first["nextCursor"].as_str().unwrap())).await;
    assert_eq!(
        (&rest.data()["nextCursor"], rest.data()["items"][0]["id"].clone()),
        (&Value::Null, json!(ids[5]))
    );
    for bad in
        ["status=final", "active=1", "deviceId=x", "userId=%20", "limit=0", "cursor=x", "hostId=host-1"]
    {
        fixture.get(&format!("/recordings?{bad}")).await.refused(400, "INVALID_QUERY");
    }
}
