//! Recordings between controller and host: commands, facts, inventories, and the sagas that
//! wait for an end.

use crate::fixture::Fixture;
use crate::recordings::{ENGINE, facts, failed, with_phone};
use phonefleet_controller::fleet::desire;
use phonefleet_controller::saga::Next;
use phonefleet_link::Applied;
use phonefleet_protocol::command::Command;
use phonefleet_protocol::event::Event;
use phonefleet_protocol::host::Capacity;
use phonefleet_protocol::item::{Decoded, Item};
use phonefleet_protocol::recording::{DesiredRecording, RecordingPhase, RecordingWish};
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const UNKNOWN: &str = "0190a1b2-0000-7000-8000-000000000000";

fn desired(text: &str) -> Option<Command> {
    let raw = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    match Command::decode(&raw).unwrap() {
        Decoded::Known(command) => Some(command),
        Decoded::Unknown { .. } => None,
    }
}

impl Fixture {
    /// What the log of `host-1` asks of recordings, in order.
    async fn asked(&self) -> Vec<DesiredRecording> {
        let texts: Vec<String> = self
            .store
            .read(|connection| {
                let sql =
                    "SELECT payload FROM command_outbox WHERE event_type = 'recording.desire' ORDER BY seq";
                connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
            })
            .await
            .unwrap();
        texts
            .iter()
            .filter_map(|text| match desired(text) {
                Some(Command::Record(recording)) => Some(recording),
                _ => None,
            })
            .collect()
    }

    pub async fn wishes(&self) -> Vec<RecordingWish> {
        self.asked().await.into_iter().map(|desired| desired.wish).collect()
    }

    /// `host-1` has committed everything that it was told.
    pub async fn acknowledge(&self) {
        let all = u64::try_from(i64::MAX).unwrap();
        self.write(move |tx| desire::acknowledged(tx, &"host-1".parse().unwrap(), all, SystemClock.now()))
            .await;
    }

    pub async fn snapshot(&self) -> Vec<Command> {
        let items =
            self.write(|tx| desire::snapshot(tx, &"host-1".parse().unwrap(), SystemClock.now())).await;
        items.iter().filter_map(|item| desired(item.item.get())).collect()
    }

    pub async fn inventory(&self, recordings: Vec<phonefleet_protocol::recording::RecordingFacts>) {
        self.event("host-1", Event::InventoryBegin {}).await;
        self.event("host-1", Event::InventoryRecordings { recordings }).await;
        self.event("host-1", Event::InventoryEnd {}).await;
    }

    /// Advances a saga until it rests, as if it were `ahead` later.
    async fn drive(&self, saga: &str, ahead: Duration) -> Value {
        let id = saga.parse::<phonefleet_protocol::id::SagaId>().unwrap();
        loop {
            let id = id.clone();
            let next = self.write(move |tx| ENGINE.advance(tx, &id, SystemClock.now().after(ahead))).await;
            if next == Next::Rests {
                return self.get(&format!("/sagas/{saga}")).await.data();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_told_once_and_then_the_newest() {
    let (fixture, device) = with_phone().await;
    let id = fixture.record(&device).await;
    let asked = fixture.asked().await;
    assert_eq!((asked.len(), asked[0].wish), (1, RecordingWish::Recording));
    let within = asked[0].not_after.since(SystemClock.now());
    assert!(within > Duration::from_secs(20) && within <= Duration::from_secs(30), "{within:?}");
    fixture.act(&format!("/recordings/{id}/stop")).await.data();
    assert_eq!(fixture.wishes().await, [RecordingWish::Recording], "the first is not acknowledged");
    let snapshot = fixture.snapshot().await;
    let wishes: Vec<_> = snapshot
        .iter()
        .filter_map(|command| match command {
            Command::SnapshotRecordings { recordings } => Some(recordings[0].wish),
            _ => None,
        })
        .collect();
    assert_eq!(wishes, [RecordingWish::Stopped]);
    assert!(matches!(snapshot.last(), Some(Command::SnapshotEnd {})));
    fixture.acknowledge().await;
    assert_eq!(fixture.wishes().await, [RecordingWish::Recording], "the snapshot has told it");

    fixture.says(failed(&device, &id, "NEVER_STARTED")).await;
    let next = fixture.record(&device).await;
    fixture.act(&format!("/recordings/{next}/stop")).await.data();
    fixture.acknowledge().await;
    assert_eq!(fixture.wishes().await[1..], [RecordingWish::Recording, RecordingWish::Stopped]);
    fixture.acknowledge().await;
    assert_eq!(fixture.wishes().await.len(), 3);
    fixture.says(facts(&device, &next, RecordingPhase::Final)).await;
    assert!(!fixture.snapshot().await.iter().any(|item| matches!(item, Command::SnapshotRecordings { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_recordings_are_a_snapshot_in_parts() {
    let (fixture, _) = with_phone().await;
    fixture
        .sql(
            "INSERT INTO recording(recording_id, device_id, host_id, user_id, status, adopted, wish, not_after,
                command_dirty, quota_bytes, created_at, updated_at)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             SELECT printf('0190a1b2-0000-7000-8000-%012d', i), printf('0190a1b2-0000-7000-8000-%012d', i),
                'host-1', 'user-1', 'STARTING', 0, 'recording', 1, 0, 0, 1, 1 FROM n",
        )
        .await;
    let parts: Vec<usize> = fixture
        .snapshot()
        .await
        .into_iter()
        .filter_map(|command| match command {
            Command::SnapshotRecordings { recordings } => Some(recordings.len()),
            _ => None,
        })
        .collect();
    assert!(parts.len() > 3, "{parts:?}");
    assert_eq!(parts.iter().sum::<usize>(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_emptied_is_asked_and_then_it_is_lost() {
    let (fixture, device) = with_phone().await;
    let id = fixture.record(&device).await;
    fixture.acknowledge().await;
    // Never told of: it may still begin, so the same is asked again.
    fixture.inventory(vec![]).await;
    assert_eq!(fixture.wishes().await, [RecordingWish::Recording, RecordingWish::Recording]);
    assert_eq!(fixture.recording(&id).await["status"], "STARTING");
    fixture.inventory(vec![]).await;
    assert_eq!(fixture.wishes().await.len(), 2, "the question is on its way");
    fixture.says(facts(&device, &id, RecordingPhase::Recording)).await;
    fixture.inventory(vec![facts(&device, &id, RecordingPhase::Recording)]).await;
    assert_eq!(fixture.recording(&id).await["status"], "RECORDING");

    fixture.acknowledge().await;
    fixture.inventory(vec![]).await;
    let shown = fixture.recording(&id).await;
    assert_eq!((&shown["status"], &shown["reason"]["code"]), (&json!("STOPPING"), &json!("LOST")));
    assert_eq!(fixture.wishes().await[2..], [RecordingWish::Stopped]);
    fixture.says(failed(&device, &id, "NEVER_STARTED")).await;
    let shown = fixture.recording(&id).await;
    assert_eq!((&shown["status"], &shown["reason"]["code"]), (&json!("FAILED"), &json!("LOST")));
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["recordingBytes"], 0);
    // An end stays.
    fixture.says(facts(&device, &id, RecordingPhase::Final)).await;
    assert_eq!(fixture.recording(&id).await["status"], "FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_controller_learns_of_recordings_from_their_host() {
    let (fixture, device) = with_phone().await;
    let recordings = vec![facts(&device, UNKNOWN, RecordingPhase::Recording)];
    fixture.event("host-1", Event::InventoryRecordings { recordings }).await;
    let shown = fixture.recording(UNKNOWN).await;
    assert_eq!((&shown["status"], &shown["userId"]), (&json!("RECORDING"), &json!("user-1")));
    assert_eq!(shown["spec"], Value::Null);
    let refusal = fixture.act(&format!("/devices/{device}/recordings")).await.refused(409, "CONFLICT");
    assert_eq!(refusal["recordingId"], UNKNOWN);
    fixture.act(&format!("/recordings/{UNKNOWN}/stop")).await.data();
    assert_eq!(fixture.wishes().await, [RecordingWish::Stopped]);
    fixture.says(facts(&device, UNKNOWN, RecordingPhase::Final)).await;
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["recordingBytes"], 1000);

    // Beside one that was ordered meanwhile: its host decides.
    let ordered = fixture.record(&device).await;
    let other = "0190a1b2-0000-7000-8000-000000000001";
    fixture.says(facts(&device, other, RecordingPhase::Recording)).await;
    assert_eq!(fixture.get("/recordings?active=true").await.data()["items"].as_array().unwrap().len(), 2);
    fixture.says(failed(&device, &ordered, "BUSY")).await;
    assert_eq!(fixture.recording(&ordered).await["reason"]["code"], "BUSY");
    assert_eq!(fixture.recording(other).await["status"], "RECORDING");
    // Of a device that nobody knows.
    let stray = "0190a1b2-0000-7000-8000-000000000002";
    assert_eq!(fixture.says(facts(UNKNOWN, stray, RecordingPhase::Final)).await, Applied::Done);
    fixture.get(&format!("/recordings/{stray}")).await.refused(404, "RECORDING_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_speaks_of_its_own_recordings_only() {
    let (fixture, device) = with_phone().await;
    fixture.add_host("host-2", Capacity::default()).await;
    let id = fixture.record(&device).await;
    let before = fixture.recording(&id).await;
    let says = |host, facts| fixture.event(host, Event::RecordingChanged { facts, at: Timestamp(0) });
    for (host, facts) in [
        ("host-2", facts(&device, &id, RecordingPhase::Final)),
        ("host-2", facts(&device, UNKNOWN, RecordingPhase::Final)),
        ("host-1", facts(UNKNOWN, &id, RecordingPhase::Final)),
    ] {
        let applied = says(host, facts).await;
        assert!(matches!(&applied, Applied::Refused { reason, .. } if reason.contains(host)), "{applied:?}");
    }
    // In an inventory the others count all the same.
    let stolen = facts(&device, &id, RecordingPhase::Final);
    assert_eq!(
        fixture.event("host-2", Event::InventoryRecordings { recordings: vec![stolen] }).await,
        Applied::Done
    );
    assert_eq!(fixture.recording(&id).await, before);
    assert_eq!(fixture.count("SELECT count(*) FROM recording").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_host_takes_its_recordings_with_it() {
    let (fixture, device) = with_phone().await;
    let id = fixture.record(&device).await;
    fixture.says(facts(&device, &id, RecordingPhase::Recording)).await;
    fixture.sql("UPDATE host SET online = 0").await;
    fixture.act("/hosts/host-1/forget").await.data();
    let shown = fixture.recording(&id).await;
    assert_eq!((&shown["status"], &shown["reason"]["code"]), (&json!("FAILED"), &json!("HOST_FORGOTTEN")));
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["recordingBytes"], 0);
    fixture.get(&format!("/recordings/{id}/content")).await.refused(410, "GONE");
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_end_recordings_first() {
    for verb in ["stop", "reboot", "reset", "delete"] {
        let (fixture, device) = with_phone().await;
        let id = fixture.record(&device).await;
        fixture.acknowledge().await;
        fixture.says(facts(&device, &id, RecordingPhase::Recording)).await;
        let answer = match verb {
            "delete" => fixture.delete(&format!("/devices/{device}")).await,
            verb => fixture.act(&format!("/devices/{device}/{verb}")).await,
        };
        let saga = answer.data()["sagaId"].as_str().unwrap().to_owned();
        let shown = fixture.drive(&saga, Duration::ZERO).await;
        assert_eq!(
            (&shown["currentStep"], &shown["waitReason"]),
            (&json!("FINALIZE_RECORDINGS"), &json!("RECORDINGS")),
            "{verb}"
        );
        assert_eq!(fixture.recording(&id).await["status"], "STOPPING", "{verb}");
        assert_eq!(fixture.wishes().await, [RecordingWish::Recording, RecordingWish::Stopped], "{verb}");
        assert_eq!(fixture.drive(&saga, Duration::from_secs(30)).await["waitReason"], "RECORDINGS");
        // The end moves the saga on, and the next command is a row of the same commit.
        let commands = fixture.count("SELECT count(*) FROM command_outbox").await;
        fixture.says(facts(&device, &id, RecordingPhase::Final)).await;
        let shown = fixture.get(&format!("/sagas/{saga}")).await.data();
        assert_eq!(shown["waitReason"], "HOST_ANSWER", "{verb}");
        assert_eq!(fixture.count("SELECT count(*) FROM command_outbox").await, commands + 1, "{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_never_comes_holds_nobody_up_for_ever() {
    let (fixture, device) = with_phone().await;
    let id = fixture.record(&device).await;
    fixture.says(facts(&device, &id, RecordingPhase::Recording)).await;
    let saga =
        fixture.delete(&format!("/devices/{device}")).await.data()["sagaId"].as_str().unwrap().to_owned();
    fixture.drive(&saga, Duration::ZERO).await;
    let due =
        fixture.count("SELECT due_at - updated_at FROM saga_state WHERE type = 'DEVICE_DELETION'").await;
    assert_eq!(due, 60_000, "the timer looks again, though a deletion has no deadline");
    let shown = fixture.drive(&saga, Duration::from_secs(61)).await;
    assert_eq!(
        (&shown["currentStep"], &shown["waitReason"]),
        (&json!("REMOVE_DEVICE"), &json!("HOST_ANSWER"))
    );
    // The device is gone without a word about the recording: nobody will ever say one.
    fixture
        .sql("UPDATE saga_state SET step_index = 3, current_step = 'RELEASE' WHERE type = 'DEVICE_DELETION'")
        .await;
    assert_eq!(fixture.drive(&saga, Duration::ZERO).await["status"], "COMPLETED");
    let shown = fixture.recording(&id).await;
    assert_eq!((&shown["status"], &shown["reason"]["code"]), (&json!("FAILED"), &json!("LOST")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_recordings_of_a_host_that_is_away() {
    let (fixture, device) = with_phone().await;
    let id = fixture.record(&device).await;
    fixture.acknowledge().await;
    fixture.sql("UPDATE host SET online = 0").await;
    let saga =
        fixture.act(&format!("/devices/{device}/stop")).await.data()["sagaId"].as_str().unwrap().to_owned();
    let shown = fixture.drive(&saga, Duration::ZERO).await;
    // Both wishes wait in its log: the phone stops whenever it comes back.
    assert_eq!(
        (&shown["currentStep"], &shown["waitReason"]),
        (&json!("STOP_DEVICE"), &json!("HOST_UNREACHABLE"))
    );
    assert_eq!(fixture.recording(&id).await["status"], "STOPPING");
    assert_eq!(fixture.wishes().await.last(), Some(&RecordingWish::Stopped));
}
