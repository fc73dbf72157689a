//! Recordings in a whole fleet in memory: ordered at the controller, made by agents on
//! simulated phones, with either side killed, emptied, restored, forgotten or away.

use phonefleet_controller::order::Verb;
use phonefleet_controller::recording::order::{self, RecordingError};
use phonefleet_controller::store::device::Status as DeviceStatus;
use phonefleet_controller::store::recording::{self as table, Filter, RecordingRow, Status};
use phonefleet_controller::store::saga::SagaStatus;
use phonefleet_link::memory::Fate;
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::{EndCause, RecordingSpec};
use phonefleet_store::WriteError;
use phonefleet_tests::database_copy::DatabaseCopy;
use phonefleet_tests::fleet::{Daemon, Fleet, spec};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What the tests ask of a fleet's recordings, in the ways of the API.
struct Camera<'a>(&'a Fleet);

impl Camera<'_> {
    async fn try_record(&self, device: DeviceId, seconds: u32) -> Result<RecordingRow, RecordingError> {
        let handle = self.0.handle().await;
        let (policy, ids, now) = (handle.settings.quota, Arc::clone(&handle.ids), handle.clock.now());
        let spec = RecordingSpec { max_duration_seconds: seconds, ..RecordingSpec::default() };
        let written = handle.store.write(move |tx| order::start(tx, policy, device, spec, &*ids, now)).await;
        match written {
            Ok(row) => Ok(row),
            Err(WriteError::Refused(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    async fn record(&self, device: DeviceId, seconds: u32) -> RecordingId {
        self.try_record(device, seconds).await.unwrap_or_else(|error| panic!("{error}")).recording_id
    }

    /// Records, and waits until it does.
    async fn recording(&self, device: DeviceId, seconds: u32) -> RecordingId {
        let id = self.record(device, seconds).await;
        self.until(id, Status::Recording).await;
        id
    }

    async fn try_stop(&self, recording: RecordingId) -> Result<RecordingRow, WriteError<RecordingError>> {
        let handle = self.0.handle().await;
        let now = handle.clock.now();
        handle.store.write(move |tx| order::stop(tx, recording, now)).await
    }

    async fn stop(&self, recording: RecordingId) -> RecordingRow {
        self.try_stop(recording).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn row(&self, recording: RecordingId) -> RecordingRow {
        self.0.read(move |connection| table::find(connection, recording)).await.expect("a recording's row")
    }

    async fn until(&self, recording: RecordingId, status: Status) -> RecordingRow {
        self.0
            .until("a recording's status", || async {
                let row = self.row(recording).await;
                assert!(!row.status.is_terminal() || row.status == status, "{row:?}");
                row.status == status
            })
            .await;
        self.row(recording).await
    }

    async fn over(&self, recording: RecordingId) -> RecordingRow {
        self.0.until("a recording's end", || async { self.row(recording).await.status.is_terminal() }).await;
        self.row(recording).await
    }

    async fn all(&self) -> Vec<RecordingRow> {
        self.0.read(|connection| table::page(connection, &Filter::default(), "", 100)).await
    }
}

fn code(row: &RecordingRow) -> &str {
    row.reason.as_ref().map_or("", |reason| &reason.code)
}

async fn phone(fleet: &Fleet, arguments: &[&str]) -> DeviceId {
    let order = fleet.create("phone", spec(arguments)).await;
    let saga = fleet.ended(&order.saga_id).await;
    assert_eq!(saga.status, SagaStatus::Completed, "{saga:?}");
    order.device.device_id
}

async fn delete(fleet: &Fleet, device: DeviceId) {
    let deletion = fleet.verb(device, Verb::Delete).await;
    let end = fleet.ended(&deletion.saga_id).await;
    assert_eq!(end.status, SagaStatus::Completed, "{end:?}");
    until_clean(fleet).await;
}

/// Nothing is left, of recordings either.
async fn until_clean(fleet: &Fleet) {
    fleet.until_clean().await;
    for (what, sql) in [
        ("active recordings", "SELECT count(*) FROM recording WHERE over_at IS NULL"),
        ("commands", "SELECT count(*) FROM recording WHERE command_seq IS NOT NULL OR command_dirty"),
        ("quota", "SELECT count(*) FROM recording WHERE status = 'FAILED' AND quota_bytes > 0"),
        ("unknown items", "SELECT count(*) FROM inbox_unknown"),
    ] {
        fleet.until(what, || async { fleet.controller.count(sql) == 0 }).await;
    }
    for host in &fleet.hosts {
        let sql = "SELECT count(*) FROM recording WHERE phase IN ('starting', 'recording', 'stopping')";
        fleet.until("agents' active recordings", || async { host.agent.count(sql) == 0 }).await;
        assert!(host.machine.recordings().iter().all(|(_, folder)| !folder.runs()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_recording_is_ordered_stopped_and_whole() {
    let fleet = Fleet::start(1).await;
    let camera = Camera(&fleet);
    let device = phone(&fleet, &[]).await;
    let id = camera.recording(device, 60).await;
    let again = camera.try_record(device, 60).await;
    assert!(matches!(again, Err(RecordingError::Active(active)) if active == id), "{again:?}");
    sleep(Duration::from_secs(5)).await;
    let asked = Instant::now();
    assert_eq!(camera.stop(id).await.status, Status::Stopping);
    let row = camera.over(id).await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!((row.status, row.end_cause), (Status::Final, Some(EndCause::Stopped)), "{row:?}");
    let clock = row.ended_at.unwrap().since(row.started_at.unwrap()).as_millis() as u64;
    assert!(clock.abs_diff(row.duration_ms.unwrap()) < 1000, "{row:?}");
    assert_eq!((row.bytes, row.sha256.as_ref().map(String::len)), (Some(row.quota_bytes), Some(64)));
    assert_eq!(camera.stop(id).await, row, "a stop after the end changes nothing");
    assert_eq!(fleet.hosts[0].machine.videos(), [id]);

    let next = camera.record(device, 8).await;
    let row = camera.over(next).await;
    assert_eq!((row.status, row.end_cause), (Status::Final, Some(EndCause::TimeLimit)), "{row:?}");
    assert_eq!(row.duration_ms, Some(8000));
    // Stopped at once: before its host has heard of it, or just behind.
    let brief = camera.record(device, 8).await;
    camera.stop(brief).await;
    let row = camera.over(brief).await;
    assert!(row.over_at.unwrap().since(row.created_at) < Duration::from_secs(3), "{row:?}");
    delete(&fleet, device).await;
    let events = "SELECT count(*) FROM event_outbox WHERE event_type = 'recording.finished'";
    assert_eq!(fleet.controller.count(events), 3, "each end is told once");
}

/// Deleted by order: the file goes from its host, also from one that was away meanwhile; the
/// row stays.
#[tokio::test(start_paused = true)]
async fn a_deleted_video_is_gone_from_its_host() {
    let fleet = Fleet::start(1).await;
    let camera = Camera(&fleet);
    let device = phone(&fleet, &[]).await;
    let first = camera.record(device, 8).await;
    camera.over(first).await;
    let second = camera.record(device, 8).await;
    camera.over(second).await;
    let videos = || fleet.hosts[0].machine.videos();
    assert_eq!(videos().len(), 2);
    let delete_video = async |id| {
        let handle = fleet.handle().await;
        let now = handle.clock.now();
        handle.store.write(move |tx| order::delete(tx, id, now)).await.unwrap()
    };
    let row = delete_video(first).await;
    assert_eq!((row.status, row.quota_bytes, row.bytes.is_some()), (Status::Final, 0, true), "{row:?}");
    fleet.until("the first video's end", || async { videos() == [second] }).await;
    assert_eq!(fleet.hosts[0].agent.count("SELECT count(*) FROM recording"), 1);

    fleet.hosts[0].agent.stop();
    delete_video(second).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(videos(), [second]);
    fleet.hosts[0].agent.release();
    fleet.until("the second video's end", || async { videos().is_empty() }).await;
    let rows = camera.all().await;
    assert!(rows.iter().all(|row| row.status == Status::Final && row.quota_bytes == 0), "{rows:?}");
    delete(&fleet, device).await;
}

/// Whatever stops the phone ends its recording first, by request and whole.
#[tokio::test(start_paused = true)]
async fn verbs_on_a_device_finish_its_recording_first() {
    for (verb, status) in [
        (Verb::Stop, DeviceStatus::Stopped),
        (Verb::Reboot, DeviceStatus::Running),
        (Verb::Reset, DeviceStatus::Running),
        (Verb::Delete, DeviceStatus::Deleted),
    ] {
        for seconds in [0, 3] {
            let fleet = Fleet::start(1).await;
            let camera = Camera(&fleet);
            let device = phone(&fleet, &[]).await;
            let id = camera.record(device, 60).await;
            if seconds > 0 {
                camera.until(id, Status::Recording).await;
                sleep(Duration::from_secs(seconds)).await;
            }
            let accepted = fleet.verb(device, verb).await;
            let refused = camera.try_record(device, 60).await;
            assert!(matches!(refused, Err(RecordingError::Active(_))), "{refused:?}");
            let saga = fleet.ended(&accepted.saga_id).await;
            assert_eq!(saga.status, SagaStatus::Completed, "{verb:?}: {saga:?}");
            let row = camera.row(id).await;
            assert!(row.status.is_terminal(), "{verb:?}: it had ended before: {row:?}");
            if seconds > 0 {
                assert_eq!((row.status, row.end_cause), (Status::Final, Some(EndCause::Stopped)), "{row:?}");
                assert_eq!(fleet.hosts[0].machine.videos(), [id], "{verb:?} keeps the video");
            }
            assert_eq!(fleet.device(device).await.status, status);
            if verb == Verb::Delete {
                until_clean(&fleet).await;
            } else {
                if verb != Verb::Stop {
                    let next = camera.recording(device, 5).await;
                    assert_eq!(camera.over(next).await.status, Status::Final);
                }
                delete(&fleet, device).await;
            }
        }
    }
}

/// A recorder that refuses, fails, or hears no signal delays its phone, and no longer.
#[tokio::test(start_paused = true)]
async fn recorders_that_misbehave_hold_nobody_up() {
    for (fault, status) in [
        ("record_refuse", Status::Failed),
        ("record_fail", Status::Corrupt),
        ("record_hang", Status::Corrupt),
    ] {
        let fleet = Fleet::start(1).await;
        let camera = Camera(&fleet);
        let device = phone(&fleet, &[&format!("androidboot.phonesim_fault={fault}")]).await;
        let id = camera.record(device, 60).await;
        sleep(Duration::from_secs(3)).await;
        let began = Instant::now();
        delete(&fleet, device).await;
        assert!(began.elapsed() < Duration::from_secs(60), "{fault}: {:?}", began.elapsed());
        let row = camera.row(id).await;
        assert_eq!(row.status, status, "{fault}: {row:?}");
        assert!(row.reason.is_some() && row.end_cause.is_some(), "{row:?}");
    }
}

/// Kills a daemon at the n-th commit or effect of a recording's life and a deletion in the
/// middle of a second one, for every n.
async fn crash_everywhere(side: fn(&Fleet) -> &Daemon) {
    for nth in 1.. {
        let fleet = Fleet::start(1).await;
        let camera = Camera(&fleet);
        let device = phone(&fleet, &[]).await;
        let crash = &side(&fleet).crash;
        let last = crash.passed() + nth;
        crash.arm(nth);
        let mut ids = Vec::new();
        for seconds in [4, 60] {
            // The answer may be lost with the controller; a caller asks again.
            ids.push(loop {
                match timeout(Duration::from_secs(30), camera.try_record(device, seconds)).await {
                    Ok(Ok(row)) => break row.recording_id,
                    Ok(Err(RecordingError::Active(active))) => break active,
                    // Between two ends of the agent's: it is back in a second.
                    Ok(Err(RecordingError::NotRunning(_) | RecordingError::HostAway(_))) => {
                        sleep(Duration::from_millis(500)).await;
                    }
                    Ok(Err(error)) => panic!("crash at {nth}: {error}"),
                    Err(_) => {}
                }
            });
            if seconds == 4 {
                let row = camera.over(ids[0]).await;
                assert_eq!(row.status, Status::Final, "crash at {nth}: {row:?}");
                assert!(row.duration_ms.is_some_and(|millis| millis <= 4000), "crash at {nth}: {row:?}");
            }
        }
        sleep(Duration::from_secs(3)).await;
        let asked = async || timeout(Duration::from_secs(30), fleet.try_verb(device, Verb::Delete)).await;
        let deletion = loop {
            if let Ok(deletion) = asked().await {
                break deletion.unwrap_or_else(|error| panic!("crash at {nth}: {error}"));
            }
        };
        let end = fleet.ended(&deletion.saga_id).await;
        assert_eq!(end.status, SagaStatus::Completed, "crash at {nth}: {end:?}");
        until_clean(&fleet).await;
        let row = camera.row(ids[1]).await;
        assert_eq!((row.status, row.adopted), (Status::Final, false), "crash at {nth}: {row:?}");
        // One that was accepted and answered to nobody is a recording all the same.
        let all = camera.all().await;
        assert!(all.len() <= 3 && all.iter().all(|row| row.status.is_terminal()), "crash at {nth}: {all:#?}");
        let events = "SELECT count(*) FROM event_outbox WHERE event_type = 'recording.finished'";
        assert_eq!(fleet.controller.count(events), all.len() as i64, "crash at {nth}: each end is told once");
        if crash.passed() < last {
            println!("killed at each of {} commits and effects", nth - 1);
            assert!(nth > 15, "two recordings and a deletion are more than {nth} commits");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_may_die_at_every_commit() {
    crash_everywhere(|fleet| &fleet.controller).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_may_die_at_every_commit_and_effect() {
    crash_everywhere(|fleet| &fleet.hosts[0].agent).await;
}

/// What a host did not hear of in time is not begun; what ran goes on without a controller,
/// and its end is told on return.
#[tokio::test(start_paused = true)]
async fn a_link_that_is_away_tears_nothing_and_begins_nothing_late() {
    let fleet = Fleet::start(1).await;
    let camera = Camera(&fleet);
    let device = phone(&fleet, &[]).await;
    let ran = camera.recording(device, 10).await;
    fleet.broker.set_fate(|_| Fate::Drop);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(camera.row(ran).await.status, Status::Recording, "nobody could say otherwise");
    fleet.broker.set_fate(|_| Fate::Deliver);
    let row = camera.over(ran).await;
    assert_eq!((row.status, row.duration_ms), (Status::Final, Some(10_000)), "{row:?}");

    fleet.until_online().await;
    fleet.broker.set_fate(|_| Fate::Drop);
    let late = camera.record(device, 10).await;
    sleep(Duration::from_secs(50)).await;
    assert_eq!(camera.row(late).await.status, Status::Starting);
    let refused = camera.try_record(device, 10).await;
    assert!(matches!(refused, Err(RecordingError::Active(_))), "{refused:?}");
    fleet.broker.set_fate(|_| Fate::Deliver);
    let row = camera.over(late).await;
    assert_eq!((row.status, code(&row)), (Status::Failed, "TOO_LATE"), "{row:?}");

    fleet.hosts[0].agent.stop();
    fleet.until_away().await;
    let refused = camera.try_record(device, 10).await;
    assert!(matches!(refused, Err(RecordingError::HostAway(_))), "{refused:?}");
    fleet.hosts[0].agent.release();
    fleet.until_online().await;
    let next = camera.record(device, 5).await;
    assert_eq!(camera.over(next).await.status, Status::Final);
    delete(&fleet, device).await;
}

/// A stop of a phone whose host is away waits there, and both happen on its return.
#[tokio::test(start_paused = true)]
async fn a_device_is_stopped_on_a_host_that_comes_back() {
    let fleet = Fleet::start(1).await;
    let camera = Camera(&fleet);
    let device = phone(&fleet, &[]).await;
    let id = camera.recording(device, 180).await;
    fleet.hosts[0].agent.stop();
    fleet.until_away().await;
    let stop = fleet.verb(device, Verb::Stop).await;
    fleet
        .until("the saga says what it waits for", || async {
            fleet.saga(&stop.saga_id).await.wait_reason.as_deref() == Some("HOST_UNREACHABLE")
        })
        .await;
    assert_eq!(camera.row(id).await.status, Status::Stopping);
    fleet.hosts[0].agent.release();
    let saga = fleet.ended(&stop.saga_id).await;
    assert_eq!(saga.status, SagaStatus::Completed, "{saga:?}");
    let row = camera.over(id).await;
    assert_eq!(row.status, Status::Final, "{row:?}");
    delete(&fleet, device).await;
}

/// A phone that dies takes its recorder with it; what was written is kept.
#[tokio::test(start_paused = true)]
async fn a_phone_that_dies_ends_its_recording() {
    let fleet = Fleet::start(1).await;
    let camera = Camera(&fleet);
    let device = phone(&fleet, &[]).await;
    let id = camera.recording(device, 60).await;
    sleep(Duration::from_secs(3)).await;
    fleet.hosts[0].machine.die(device, 137);
    let row = camera.over(id).await;
    assert_eq!((row.status, row.end_cause), (Status::Corrupt, Some(EndCause::DeviceDied)), "{row:?}");
    assert!(row.bytes.is_some_and(|bytes| bytes > 0) && row.reason.is_some(), "{row:?}");
    fleet
        .until("the phone runs again", || async {
            fleet.device(device).await.status == DeviceStatus::Running
        })
        .await;
    delete(&fleet, device).await;
}

/// A phone that does not answer for a while is no phone that has stopped recording.
#[tokio::test(start_paused = true)]
async fn a_phone_that_does_not_answer_for_a_while_records_on() {
    let fleet = Fleet::start(1).await;
    let camera = Camera(&fleet);
    let device = phone(&fleet, &[]).await;
    let id = camera.recording(device, 180).await;
    fleet.hosts[0].machine.set_hung(device, true);
    sleep(Duration::from_secs(45)).await;
    assert_eq!(camera.row(id).await.status, Status::Recording);
    fleet.hosts[0].machine.set_hung(device, false);
    let row = camera.over(id).await;
    assert_eq!((row.status, row.duration_ms), (Status::Final, Some(180_000)), "{row:?}");
    delete(&fleet, device).await;
}

/// An operator gives the host up in the middle of it. What it kept goes when it returns.
#[tokio::test(start_paused = true)]
async fn a_forgotten_host_ends_its_recordings_here() {
    let fleet = Fleet::start(1).await;
    let camera = Camera(&fleet);
    let device = phone(&fleet, &[]).await;
    let kept = camera.recording(device, 5).await;
    assert_eq!(camera.over(kept).await.status, Status::Final);
    let id = camera.recording(device, 180).await;
    let host = &fleet.hosts[0];
    host.agent.stop();
    fleet.until_away().await;
    let deletion = fleet.verb(device, Verb::Delete).await;
    fleet.forget(&host.id).await;
    let row = camera.row(id).await;
    assert_eq!((row.status, code(&row)), (Status::Failed, "HOST_FORGOTTEN"), "{row:?}");
    assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    host.agent.release();
    until_clean(&fleet).await;
    fleet
        .until("the host has deleted its videos", || async {
            host.agent.count("SELECT count(*) FROM recording") == 0
        })
        .await;
    let later = camera.row(id).await;
    assert_eq!(
        (later.status, &later.reason, later.over_at, later.bytes),
        (row.status, &row.reason, row.over_at, row.bytes),
        "what the host says later changes nothing"
    );
    assert_eq!(camera.row(kept).await.status, Status::Final);
}

/// The agent's database is lost while it records: the recorder is ended as one without a
/// row, and the controller learns that nobody knows the recording any more.
#[tokio::test(start_paused = true)]
async fn a_host_that_was_emptied_has_lost_its_recordings() {
    let fleet = Fleet::start(1).await;
    let camera = Camera(&fleet);
    let device = phone(&fleet, &[]).await;
    let id = camera.recording(device, 180).await;
    let host = &fleet.hosts[0];
    host.agent.stop();
    sleep(Duration::from_secs(1)).await;
    for extension in ["db", "db-wal"] {
        let _ = std::fs::remove_file(host.agent.database.with_extension(extension));
    }
    host.agent.release();
    let row = camera.over(id).await;
    assert_eq!((row.status, code(&row), row.quota_bytes), (Status::Failed, "LOST", 0), "{row:?}");
}

/// The controller comes back from a time before the recording, and from one before its end.
#[tokio::test(start_paused = true)]
async fn a_restored_controller_learns_what_became_of_recordings() {
    for before_order in [true, false] {
        let fleet = Fleet::start(1).await;
        let camera = Camera(&fleet);
        let device = phone(&fleet, &[]).await;
        sleep(Duration::from_secs(5)).await;
        let mut id = None;
        if !before_order {
            id = Some(camera.recording(device, 20).await);
            sleep(Duration::from_secs(1)).await;
        }
        fleet.controller.stop();
        sleep(Duration::from_secs(1)).await;
        let saved = DatabaseCopy::of(&fleet.controller.database);
        fleet.controller.release();
        let id = match id {
            Some(id) => id,
            None => camera.recording(device, 20).await,
        };
        let end = camera.over(id).await;
        assert_eq!(end.status, Status::Final);
        sleep(Duration::from_secs(60)).await;
        fleet.controller.stop();
        sleep(Duration::from_secs(1)).await;
        saved.put_back();
        fleet.controller.release();
        fleet
            .until("the recording is known", || async {
                fleet.read(move |connection| table::find(connection, id)).await.is_some()
            })
            .await;
        let row = camera.over(id).await;
        assert_eq!((row.status, row.sha256, row.bytes), (Status::Final, end.sha256, end.bytes));
        assert_eq!((row.adopted, row.user_id), (before_order, end.user_id));
        delete(&fleet, device).await;
    }
}
