//! Recordings of phones on which somebody deletes folders, whose signals get lost, or whose
//! host has a bad day.

use crate::recordings::{code, stopped};
use crate::world::{World, device, recording, wish};
use phonefleet_agent::store::recording::StopSignal;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::recording::{DesiredRecording, EndCause, RecordingPhase};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_phone_that_lets_no_folder_be_made_holds_nothing_up_for_ever() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    // The launch is noted, and nobody knows whether it came to anything.
    world.machine.set_hung(device(1), true);
    let desired = world.record(1, 60);
    world.controller.record(&desired).await;
    world
        .until("the launch is noted", |world| {
            (world.count("SELECT count(*) FROM recording WHERE launched_at IS NOT NULL") == 1).then_some(())
        })
        .await;
    world.machine.refuse_recording_folders(device(1), true);
    world.controller.record(&stopped(&desired)).await;
    sleep(Duration::from_secs(2)).await;
    world.machine.set_hung(device(1), false);
    let asked = Instant::now();
    let facts = world.over(recording(1)).await;
    assert!((100..200).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    assert_eq!((facts.phase, code(&facts)), (RecordingPhase::Failed, "NEVER_STARTED"));
    assert!(facts.reason.unwrap().detail.contains("no folder can be made"));
}

#[tokio::test(start_paused = true)]
async fn a_recorder_whose_folder_was_deleted_is_still_the_one_that_runs() {
    let world = World::start().await;
    let desired = world.recording(1, &[]).await;
    world.machine.delete_recording_folder(recording(1));
    sleep(Duration::from_secs(10)).await;
    assert_eq!((world.machine.recorders(), world.machine.recordings().len()), (1, 0));
    assert_eq!(world.tales(recording(1)).len(), 2);
    world.controller.record(&stopped(&desired)).await;
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, code(&facts)), (RecordingPhase::Failed, "NO_VIDEO"));
    assert_eq!(facts.end_cause, Some(EndCause::Stopped));
    assert_eq!(world.machine.recorders(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_older_database_finds_the_video_that_was_kept_already() {
    let mut world = World::start().await;
    let desired = world.recording(1, &[]).await;
    world.kill_agent().await;
    let kept = world.database().with_extension("kept");
    phonefleet_store::rusqlite::Connection::open(world.database())
        .unwrap()
        .execute("VACUUM INTO ?1", [kept.to_str().unwrap()])
        .unwrap();
    world.start_agent().await;
    world.controller.record(&stopped(&desired)).await;
    assert_eq!(world.over(recording(1)).await.phase, RecordingPhase::Final);
    world.until("the phone's folder gone", |world| world.machine.recordings().is_empty().then_some(())).await;
    world.kill_agent().await;
    for suffix in ["-wal", "-shm"] {
        let mut file = world.database().into_os_string();
        file.push(suffix);
        let _ = std::fs::remove_file(file);
    }
    std::fs::rename(kept, world.database()).unwrap();
    world.replace_controller("fleet-1");
    world.start_agent().await;
    let facts = world.over(recording(1)).await;
    assert_eq!(facts.phase, RecordingPhase::Final, "{facts:?}");
    assert_eq!(world.machine.recorders(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_neither_ends_a_recording_nor_hurries_its_end() {
    let world = World::start().await;
    let desired = world.recording(1, &["androidboot.phonesim_fault=record_hang"]).await;
    world.wall.set_forward(Duration::from_hours(1));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.tales(recording(1)).len(), 2);
    world.controller.record(&stopped(&desired)).await;
    sleep(Duration::from_secs(2)).await;
    world.wall.set_forward(Duration::from_hours(1));
    sleep(Duration::from_secs(7)).await;
    assert_eq!(world.machine.recording(recording(1)).unwrap().signals, [StopSignal::Interrupt]);
    assert_eq!(world.over(recording(1)).await.end_cause, Some(EndCause::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_was_given_up_is_ended_once_its_phone_answers() {
    let world = World::start().await;
    let desired = world.recording(1, &["androidboot.phonesim_fault=record_hang"]).await;
    world.machine.set_hung(device(1), true);
    world.controller.record(&stopped(&desired)).await;
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, code(&facts)), (RecordingPhase::Corrupt, "TRUNCATED"));
    assert_eq!(world.machine.recorders(), 1);
    world.machine.set_hung(device(1), false);
    let answers = Instant::now();
    world.until("the recorder ended", |world| (world.machine.recorders() == 0).then_some(())).await;
    world.until("its folder gone", |world| world.machine.recordings().is_empty().then_some(())).await;
    assert!(answers.elapsed() < Duration::from_mins(2), "{:?}", answers.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_may_not_have_arrived_is_not_told_as_unheeded() {
    let world = World::start().await;
    let desired = world.recording(1, &["androidboot.phonesim_fault=record_hang"]).await;
    world.controller.record(&stopped(&desired)).await;
    world
        .until("the first signal", |world| {
            (world.machine.recording(recording(1)).unwrap().signals.len() == 1).then_some(())
        })
        .await;
    sleep(Duration::from_secs(8)).await;
    world.machine.lose_signals(true);
    sleep(Duration::from_secs(4)).await;
    world.machine.lose_signals(false);
    let facts = world.over(recording(1)).await;
    let detail = facts.reason.unwrap().detail;
    assert!(detail.contains("whether every signal arrived is not known"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_for_a_while_costs_no_video() {
    let world = World::start().await;
    let desired = world.recording(1, &[]).await;
    world.machine.refuse_videos(true);
    world.controller.record(&stopped(&desired)).await;
    sleep(Duration::from_mins(30)).await;
    assert!(!world.tales(recording(1)).iter().any(|facts| facts.phase.is_terminal()));
    world.machine.refuse_videos(false);
    assert_eq!(world.over(recording(1)).await.phase, RecordingPhase::Final);
    // Who wants the phone's data gone does not wait for that long.
    world.controller.record(&world.record(2, 5)).await;
    world.told(recording(2), RecordingPhase::Recording).await;
    world.machine.refuse_videos(true);
    let asked = Instant::now();
    world.reach(&wish(1, 2, Wish::Absent)).await;
    assert!(asked.elapsed() < Duration::from_mins(3), "{:?}", asked.elapsed());
    assert_eq!(code(&world.over(recording(2)).await), "COLLECT_FAILED");
}

#[tokio::test(start_paused = true)]
async fn several_recorders_do_not_take_the_same_room() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.reach(&wish(2, 1, Wish::Running)).await;
    let first = world.record(1, 60);
    let second = DesiredRecording { device_id: device(2), ..world.record(2, 60) };
    let each = first.spec.expected_bytes();
    world.machine.set_free_bytes(Some((512 << 20) + each + each / 2));
    world.controller.record(&first).await;
    world.told(recording(1), RecordingPhase::Recording).await;
    world.controller.record(&second).await;
    assert_eq!(code(&world.over(recording(2)).await), "DISK_FULL");
    assert_eq!(world.machine.recorders(), 1);
}
