//! Recordings of simulated phones: begun once, ended in order, and always told to an end.

use crate::world::{World, device, recording, wish};
use phonefleet_agent::store::recording::StopSignal;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::recording::{
    DesiredRecording, EndCause, RecordingFacts, RecordingPhase, RecordingWish,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub fn stopped(desired: &DesiredRecording) -> DesiredRecording {
    DesiredRecording { wish: RecordingWish::Stopped, ..desired.clone() }
}

pub fn code(facts: &RecordingFacts) -> &str {
    facts.reason.as_ref().map_or("", |reason| &reason.code)
}

pub fn phases(world: &World, desired: &DesiredRecording) -> Vec<RecordingPhase> {
    world.tales(desired.recording_id).iter().map(|facts| facts.phase).collect()
}

pub const WHOLE_LIFE: [RecordingPhase; 4] =
    [RecordingPhase::Starting, RecordingPhase::Recording, RecordingPhase::Stopping, RecordingPhase::Final];

#[tokio::test(start_paused = true)]
async fn it_records_until_it_is_stopped() {
    let world = World::start().await;
    let desired = world.recording(1, &[]).await;
    let seen = world.machine.recording(recording(1)).unwrap();
    assert!(seen.runs() && seen.launches == 1);
    let asked = Instant::now();
    world.controller.record(&stopped(&desired)).await;
    let facts = world.over(recording(1)).await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(phases(&world, &desired), WHOLE_LIFE);
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Final, Some(EndCause::Stopped)));
    assert_eq!(facts.sha256.as_deref().map(str::len), Some(64));
    let (started, ended) = (facts.started_at.unwrap(), facts.ended_at.unwrap());
    let clock = ended.since(started).as_millis() as u64;
    assert!(clock.abs_diff(facts.duration_ms.unwrap()) < 1000, "{facts:?}");
    assert_eq!(world.machine.videos(), [recording(1)]);
    world.until("the phone's folder gone", |world| world.machine.recordings().is_empty().then_some(())).await;
    // The same word again: the same facts again.
    world.controller.record(&stopped(&desired)).await;
    world.until("the end again", |world| (world.tales(recording(1)).len() == 5).then_some(())).await;
    assert_eq!(world.tales(recording(1))[4], facts);
    let handle = world.handle.as_ref().unwrap();
    let snapshot = phonefleet_agent::status::StatusSource::snapshot(handle).await.unwrap();
    assert_eq!((snapshot.recordings.len(), snapshot.recording_counts.finalised), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn it_ends_at_its_time_limit_and_that_is_seen_at_once() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    let desired = world.record(1, 10);
    world.controller.record(&desired).await;
    let began = Instant::now();
    let facts = world.over(recording(1)).await;
    assert!((10_000..11_500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Final, Some(EndCause::TimeLimit)));
    assert_eq!(facts.duration_ms, Some(10_000));
    assert_eq!(phases(&world, &desired), WHOLE_LIFE);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_begun_ends_with_its_reason() {
    let world = World::start().await;
    let end = async |desired: DesiredRecording| {
        world.controller.record(&desired).await;
        let facts = world.over(desired.recording_id).await;
        assert_eq!(facts.phase, RecordingPhase::Failed);
        code(&facts).to_owned()
    };
    assert_eq!(end(world.record(1, 10)).await, "DEVICE_NOT_RUNNING");
    world.reach(&wish(1, 1, Wish::Stopped)).await;
    assert_eq!(end(world.record(2, 10)).await, "DEVICE_NOT_RUNNING");
    assert_eq!(end(stopped(&world.record(3, 10))).await, "NEVER_STARTED");
    let late = DesiredRecording { not_after: world.now(), ..world.record(4, 10) };
    sleep(Duration::from_secs(1)).await;
    assert_eq!(end(late).await, "TOO_LATE");
    assert_eq!(end(world.record(5, 181)).await, "INVALID_SPEC");
    world.reach(&wish(1, 2, Wish::Running)).await;
    world.machine.set_free_bytes(Some(100 << 20));
    assert_eq!(end(world.record(6, 10)).await, "DISK_FULL");
    world.machine.set_free_bytes(None);
    let first = world.record(7, 60);
    world.controller.record(&first).await;
    world.told(recording(7), RecordingPhase::Recording).await;
    assert_eq!(end(world.record(8, 10)).await, "BUSY");
    assert!(world.machine.recording(recording(7)).unwrap().runs());
    // A phone that does not answer in time.
    world.controller.record(&stopped(&first)).await;
    world.over(recording(7)).await;
    world.machine.set_hung(device(1), true);
    let unheard = world.record(9, 10);
    world.controller.record(&unheard).await;
    sleep(Duration::from_secs(40)).await;
    assert_eq!(world.tales(recording(9)).len(), 1);
    world.machine.set_hung(device(1), false);
    assert_eq!(code(&world.over(recording(9)).await), "TOO_LATE");
    assert!(world.machine.recording(recording(9)).is_none_or(|found| found.launches == 0));
    // Everything that was ever asked for was told to its end.
    assert_eq!(world.count("SELECT count(*) FROM recording WHERE finished_at IS NULL"), 0);
}

#[tokio::test(start_paused = true)]
async fn recorders_that_fail_are_told_in_their_own_words() {
    for (fault, phase, expected, words) in [
        ("record_refuse", RecordingPhase::Failed, "RECORDER_FAILED", "codec"),
        ("record_fail", RecordingPhase::Corrupt, "TRUNCATED", "err=-38"),
    ] {
        let world = World::start().await;
        let argument = format!("androidboot.phonesim_fault={fault}");
        world.reach(&crate::world::wish_with(1, 1, Wish::Running, &[&argument])).await;
        world.controller.record(&world.record(1, 20)).await;
        let facts = world.over(recording(1)).await;
        assert_eq!((facts.phase, code(&facts)), (phase, expected));
        assert!(facts.reason.as_ref().unwrap().detail.contains(words), "{facts:?}");
        assert_eq!(facts.end_cause, Some(EndCause::ProcessEnded));
        assert_eq!(facts.bytes.is_some(), phase == RecordingPhase::Corrupt);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_hangs_is_ended_by_every_signal_once() {
    let world = World::start().await;
    let desired = world.recording(1, &["androidboot.phonesim_fault=record_hang"]).await;
    let asked = Instant::now();
    world.controller.record(&stopped(&desired)).await;
    sleep(Duration::from_secs(14)).await;
    let sent = world.machine.recording(recording(1)).unwrap().signals;
    assert_eq!(sent, [StopSignal::Interrupt, StopSignal::HangUp]);
    let facts = world.over(recording(1)).await;
    assert!((15..18).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    assert_eq!((facts.phase, code(&facts)), (RecordingPhase::Corrupt, "TRUNCATED"));
    assert!(facts.reason.unwrap().detail.contains("killed"));
    // One that hangs is ended at its time limit, too.
    let next = world.record(2, 10);
    world.controller.record(&next).await;
    let facts = world.over(recording(2)).await;
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Corrupt, Some(EndCause::TimeLimit)));
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_is_killed_on_the_phone_leaves_a_torn_video() {
    let world = World::start().await;
    world.recording(1, &[]).await;
    let killed = Instant::now();
    world.machine.kill_recorder(recording(1));
    let facts = world.over(recording(1)).await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert_eq!((facts.phase, code(&facts)), (RecordingPhase::Corrupt, "TRUNCATED"));
    assert_eq!(facts.end_cause, Some(EndCause::ProcessEnded));
    assert!(facts.bytes.unwrap() > 0 && facts.sha256.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_stops_reboots_resets_or_goes_lets_its_video_be_finished() {
    for verb in ["stop", "reboot", "reset", "reserved", "delete"] {
        let world = World::start().await;
        world.recording(1, &[]).await;
        let mut next = wish(1, 2, Wish::Running);
        match verb {
            "stop" => next.wish = Wish::Stopped,
            "reboot" => next.boot_count = 1,
            "reset" => (next.boot_count, next.data_epoch) = (1, 1),
            "reserved" => next.wish = Wish::Reserved,
            _ => next = wish(1, 2, Wish::Absent),
        }
        let asked = Instant::now();
        let (outcome, _) = world.ask(&next).await;
        assert_eq!(outcome, Outcome::Reached, "{verb}");
        assert!(asked.elapsed() < Duration::from_secs(12), "{verb}: {:?}", asked.elapsed());
        let facts = world.over(recording(1)).await;
        assert_eq!(
            (facts.phase, facts.end_cause),
            (RecordingPhase::Final, Some(EndCause::DeviceStopped)),
            "{verb}"
        );
        // The recording was over before the phone was.
        let events = world.controller.events();
        let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
        let over =
            at(&|event| matches!(event, Event::RecordingChanged { facts, .. } if facts.phase.is_terminal()));
        let answered = at(&|event| matches!(event, Event::Answer { generation: 2, .. }));
        assert!(over < answered, "{verb}");
        // And what the phone is asked for while it goes down is refused.
        assert_eq!(world.machine.videos(), [recording(1)], "{verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_phone_is_not_held_up_by_a_recorder_that_hangs() {
    let world = World::start().await;
    world.recording(1, &["androidboot.phonesim_fault=record_hang"]).await;
    let asked = Instant::now();
    world.reach(&wish(1, 2, Wish::Absent)).await;
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Corrupt, Some(EndCause::DeviceStopped)));
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_cannot_be_asked_is_stopped_all_the_same() {
    let world = World::start().await;
    world.recording(1, &[]).await;
    world.machine.set_hung(device(1), true);
    let asked = Instant::now();
    world.reach(&wish(1, 2, Wish::Absent)).await;
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Corrupt, Some(EndCause::DeviceStopped)));
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_dies_takes_its_recorder_along_and_that_is_seen_at_once() {
    for behind_back in [false, true] {
        let world = World::start().await;
        world.recording(1, &[]).await;
        let died = Instant::now();
        if behind_back {
            world.machine.remove_behind_back(device(1));
        } else {
            world.machine.die(device(1), 137);
        }
        let facts = world.over(recording(1)).await;
        assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
        assert_eq!((facts.phase, code(&facts)), (RecordingPhase::Corrupt, "TRUNCATED"));
        assert_eq!(facts.end_cause, Some(EndCause::DeviceDied));
        // The phone comes back, and can be recorded again.
        world
            .until("the phone runs again", |world| {
                world
                    .machine
                    .phone(device(1))
                    .filter(phonefleet_tests::simulation::machine::Phone::has_booted)
            })
            .await;
        sleep(Duration::from_secs(3)).await;
        world.controller.record(&world.record(2, 5)).await;
        assert_eq!(world.over(recording(2)).await.phase, RecordingPhase::Final);
    }
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_dies_before_its_recorder_had_finished_is_the_reason() {
    let world = World::start().await;
    let desired = world.recording(1, &["androidboot.phonesim_fault=record_hang"]).await;
    world.controller.record(&stopped(&desired)).await;
    sleep(Duration::from_secs(2)).await;
    world.machine.die(device(1), 137);
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, code(&facts)), (RecordingPhase::Corrupt, "TRUNCATED"));
    assert_eq!(facts.end_cause, Some(EndCause::DeviceDied));
    assert!(facts.reason.unwrap().detail.contains("the phone died"));
    // Whoever had finished before is not concerned.
    let world = World::start().await;
    let desired = world.recording(1, &[]).await;
    world.controller.record(&stopped(&desired)).await;
    world
        .until("the recorder has finished", |world| {
            world.machine.recording(recording(1)).is_none_or(|found| !found.runs()).then_some(())
        })
        .await;
    world.machine.die(device(1), 137);
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Final, Some(EndCause::Stopped)));
    assert_eq!(facts.reason, None);
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_is_heard_no_more_is_the_reason() {
    let world = World::start().await;
    world.recording(1, &["androidboot.phonesim_fault=record_hang"]).await;
    world.machine.set_hung(device(1), true);
    let since = Instant::now();
    let facts = world.over(recording(1)).await;
    assert!((180..240).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    assert_eq!((facts.phase, code(&facts)), (RecordingPhase::Corrupt, "TRUNCATED"));
    assert!(facts.reason.unwrap().detail.contains("answered no more"));
    // What it recorded whole is whole, however long it was not heard.
    let world = World::start().await;
    world.recording(1, &[]).await;
    world.machine.set_hung(device(1), true);
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Final, Some(EndCause::TimeLimit)));
    assert_eq!(facts.reason, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_by_order_leaves_neither_file_nor_row() {
    let mut world = World::start().await;
    let deleted =
        |desired: &DesiredRecording| DesiredRecording { wish: RecordingWish::Deleted, ..desired.clone() };
    let gone = |world: &World| {
        let clean = world.machine.videos().is_empty() && world.count("SELECT count(*) FROM recording") == 0;
        clean.then_some(())
    };
    // While it records: it ends first.
    let desired = world.recording(1, &[]).await;
    world.controller.record(&deleted(&desired)).await;
    assert_eq!(world.over(recording(1)).await.phase, RecordingPhase::Final);
    world.until("no video", gone).await;
    // After its end, with the agent killed as soon as it was told.
    let desired = world.record(2, 8);
    world.controller.record(&desired).await;
    world.over(recording(2)).await;
    assert_eq!(world.machine.videos(), [recording(2)]);
    world.controller.record(&deleted(&desired)).await;
    world.restart_agent().await;
    world.until("no second video", gone).await;
    // Again, and of one that it never had: answered, and nothing stays.
    for number in [2, 3] {
        let told = world.tales(recording(number)).len();
        world.controller.record(&deleted(&world.record(number, 8))).await;
        world.until("an answer", |world| (world.tales(recording(number)).len() > told).then_some(())).await;
        assert_eq!(world.tales(recording(number)).last().unwrap().phase, RecordingPhase::Failed);
        world.until("nothing again", gone).await;
    }
}

/// One that its disk does not let go holds up no other, and goes when it can.
#[tokio::test(start_paused = true)]
async fn a_video_that_cannot_be_deleted_holds_up_no_other() {
    let mut world = World::start().await;
    for number in [1, 2] {
        let desired = world.recording(number, &[]).await;
        world.controller.record(&DesiredRecording { wish: RecordingWish::Stopped, ..desired }).await;
        world.over(recording(number)).await;
    }
    world.machine.set_undeletable([recording(1)]);
    for number in [1, 2] {
        let desired = world.record(number, 8);
        world.controller.record(&DesiredRecording { wish: RecordingWish::Deleted, ..desired }).await;
    }
    world
        .until("the other one is gone", |world| (world.machine.videos() == [recording(1)]).then_some(()))
        .await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(world.count("SELECT count(*) FROM recording"), 1);
    world.machine.set_undeletable([]);
    world.until("nothing", |world| (world.count("SELECT count(*) FROM recording") == 0).then_some(())).await;
    assert_eq!(world.machine.videos(), []);
    world.restart_agent().await;
}
