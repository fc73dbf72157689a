//! Videos that are no longer kept: deleted by order, by their hosts after their time, or given
//! up with a host. None of them takes of a quota any more.

use crate::fixture::Fixture;
use crate::recordings::{facts, failed, with_phone};
use phonefleet_controller::schedule::{self, Keep};
use phonefleet_protocol::recording::{RecordingPhase, RecordingWish};
use phonefleet_protocol::time::{Clock, SystemClock};
use serde_json::{Value, json};
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

impl Fixture {
    async fn used(&self) -> u64 {
        self.get("/quotas/user-1/usage").await.data()["recordingBytes"].as_u64().unwrap()
    }

    /// A recording that has ended so; it takes 1000 bytes, unless it FAILED.
    async fn ended(&self, device: &str, phase: RecordingPhase) -> String {
        let id = self.record(device).await;
        self.acknowledge().await;
        let end = match phase {
            RecordingPhase::Failed => failed(device, &id, "NO_VIDEO"),
            phase => facts(device, &id, phase),
        };
        self.says(end).await;
        id
    }

    /// A recording as it is shown, without what goes with the clock.
    async fn lasting(&self, id: &str) -> Value {
        lasting(self.recording(id).await)
    }

    async fn prune_after(&self, later: Duration) {
        let now = SystemClock.now().after(later);
        schedule::prune_once(&self.store, Keep::default(), now).await.unwrap();
    }
}

fn lasting(mut shown: Value) -> Value {
    for member in ["ageSeconds", "updatedAt"] {
        assert!(shown.as_object_mut().unwrap().remove(member).is_some(), "{member}");
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_video_takes_nothing_and_its_history_stays() {
    let (fixture, device) = with_phone().await;
    let id = fixture.record(&device).await;
    let path = format!("/recordings/{id}");
    let refusal = fixture.delete(&path).await.refused(409, "CONFLICT");
    assert_eq!(refusal["recordingStatus"], "STARTING");
    assert!(refusal["detail"].as_str().unwrap().contains("stop it"), "{refusal}");
    fixture.acknowledge().await;
    fixture.says(facts(&device, &id, RecordingPhase::Final)).await;
    assert_eq!((fixture.used().await, &fixture.recording(&id).await["deleted"]), (1000, &json!(false)));

    let answer = fixture.delete(&path).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.data()["recordingId"], id);
    assert_eq!(answer.data()["recording"]["updatedAt"], fixture.recording(&id).await["updatedAt"]);
    let shown = fixture.lasting(&id).await;
    assert_eq!(lasting(answer.data()["recording"].clone()), shown);
    assert_eq!((&shown["status"], &shown["deleted"]), (&json!("FINAL"), &json!(true)));
    assert_eq!((&shown["bytes"], &shown["durationMs"]), (&json!(1000), &json!(4000)), "its history");
    assert_eq!(fixture.used().await, 0);
    let refusal = fixture.get(&format!("{path}/content")).await.refused(410, "GONE");
    assert!(refusal["detail"].as_str().unwrap().contains("deleted"), "{refusal}");
    assert_eq!(fixture.wishes().await, [RecordingWish::Recording, RecordingWish::Deleted]);

    // Again, in whatever way, and whatever its host repeats: nothing changes.
    fixture.delete(&path).await.data();
    fixture.act(&format!("{path}/stop")).await.data();
    fixture.acknowledge().await;
    fixture.says(facts(&device, &id, RecordingPhase::Final)).await;
    fixture.inventory(vec![facts(&device, &id, RecordingPhase::Final)]).await;
    assert_eq!((fixture.lasting(&id).await, fixture.used().await), (shown, 0));
    assert_eq!(fixture.wishes().await.len(), 2);
    let told = "SELECT count(*) FROM event_outbox WHERE event_type = 'recording.deleted'";
    assert_eq!(fixture.count(told).await, 1);
    for unknown in ["nonsense", "0190a1b2-0000-7000-8000-000000000000"] {
        fixture.delete(&format!("/recordings/{unknown}")).await.refused(404, "RECORDING_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_hears_of_a_deletion_behind_what_it_was_told_before_and_after_a_fork() {
    let (fixture, device) = with_phone().await;
    let id = fixture.record(&device).await;
    fixture.says(facts(&device, &id, RecordingPhase::Corrupt)).await;
    fixture.delete(&format!("/recordings/{id}")).await.data();
    assert_eq!(fixture.wishes().await, [RecordingWish::Recording], "the order is not acknowledged");
    fixture.acknowledge().await;
    assert_eq!(fixture.wishes().await, [RecordingWish::Recording, RecordingWish::Deleted]);
    // Whether a host that begins anew has heard of it is not known.
    for _ in 0..2 {
        let named = fixture.snapshot().await.into_iter().flat_map(|command| match command {
            phonefleet_protocol::command::Command::SnapshotRecordings { recordings } => recordings,
            _ => Vec::new(),
        });
        let named: Vec<_> = named.map(|desired| (desired.recording_id.to_string(), desired.wish)).collect();
        assert_eq!(named, [(id.clone(), RecordingWish::Deleted)]);
    }
    // One without a video is deleted too: its host may have more than this controller knows.
    let failed = fixture.ended(&device, RecordingPhase::Failed).await;
    fixture.delete(&format!("/recordings/{failed}")).await.data();
    assert_eq!(fixture.wishes().await.last(), Some(&RecordingWish::Deleted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_host_gives_back_what_its_videos_took() {
    let (fixture, device) = with_phone().await;
    let mut ids = Vec::new();
    for phase in [RecordingPhase::Final, RecordingPhase::Corrupt] {
        ids.push(fixture.ended(&device, phase).await);
    }
    let failed = fixture.ended(&device, RecordingPhase::Failed).await;
    assert_eq!(fixture.used().await, 2000);
    fixture.sql("UPDATE host SET online = 0").await;
    fixture.act("/hosts/host-1/forget").await.data();
    assert_eq!(fixture.used().await, 0);
    // If it returns, it hears that its videos shall go.
    fixture.acknowledge().await;
    let told = fixture.wishes().await;
    assert_eq!(told[told.len() - 2..], [RecordingWish::Deleted; 2], "{told:?}");
    fixture.sql("UPDATE host SET online = 1, forgotten_at = NULL").await;
    for id in ids {
        assert_eq!(fixture.recording(&id).await["deleted"], true);
        fixture.get(&format!("/recordings/{id}/content")).await.refused(410, "GONE");
    }
    assert_eq!(fixture.recording(&failed).await["deleted"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_no_longer_keeps_takes_nothing() {
    let (fixture, device) = with_phone().await;
    let id = fixture.ended(&device, RecordingPhase::Final).await;
    fixture.prune_after(29 * DAY).await;
    assert_eq!(fixture.used().await, 1000, "its host does not tell how long it keeps it");
    fixture.sql("UPDATE host SET report = json_set(report, '$.content.keepDays', 7)").await;
    fixture.prune_after(7 * DAY + Duration::from_mins(90)).await;
    assert_eq!(fixture.used().await, 1000, "hosts look once an hour");
    let next = fixture.record(&device).await;
    let running = fixture.used().await;
    fixture.prune_after(8 * DAY).await;
    assert_eq!(fixture.used().await, running - 1000, "what runs counts on");
    let shown = fixture.recording(&id).await;
    assert_eq!((&shown["status"], &shown["bytes"]), (&json!("FINAL"), &json!(1000)));
    assert_ne!(fixture.recording(&next).await, Value::Null);
}

/// Its host keeps the video for longer than rows are kept: what can be fetched is listed.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_video_has_its_row_for_as_long() {
    let (fixture, device) = with_phone().await;
    let id = fixture.ended(&device, RecordingPhase::Final).await;
    let failed = fixture.ended(&device, RecordingPhase::Failed).await;
    fixture.sql("UPDATE host SET report = json_set(report, '$.content.keepDays', 90)").await;
    fixture.prune_after(31 * DAY).await;
    assert_eq!(
        (fixture.recording(&id).await["status"].as_str(), fixture.used().await),
        (Some("FINAL"), 1000)
    );
    fixture.get(&format!("/recordings/{failed}")).await.refused(404, "RECORDING_NOT_FOUND");
    fixture.prune_after(91 * DAY).await;
    assert_eq!(fixture.used().await, 0);
    fixture.prune_after(91 * DAY).await;
    fixture.get(&format!("/recordings/{id}")).await.refused(404, "RECORDING_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_only_its_host_knew_is_reserved_for_while_it_runs() {
    let (fixture, device) = with_phone().await;
    let unknown = "0190a1b2-0000-7000-8000-000000000000";
    fixture.says(facts(&device, unknown, RecordingPhase::Recording)).await;
    // 180 s at 4 Mbit/s, and a quarter more: its host alone knows its order.
    assert_eq!(fixture.used().await, 112_500_000);
    fixture.says(facts(&device, unknown, RecordingPhase::Final)).await;
    assert_eq!(fixture.used().await, 1000);
}
