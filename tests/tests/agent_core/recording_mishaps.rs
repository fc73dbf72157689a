//! Recordings of phones on which somebody deletes folders, whose signals get lost, or whose
//! host has a bad day.

use crate::recordings::{code, stopped};
use crate::world::{World, device, recording};
use phonefleet_protocol::recording::{EndCause, RecordingPhase};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_phone_that_lets_no_folder_be_made_holds_nothing_up_for_ever() {
    let world = World::start().await;
    world.reach(&crate::world::wish(1, 1, phonefleet_protocol::desired::Wish::Running)).await;
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
