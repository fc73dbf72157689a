//! Recordings whose agent is killed, loses its memory, or was away; and what is told, and
//! forgotten, afterwards.

use crate::recordings::{WHOLE_LIFE, phases, stopped};
use crate::world::{World, device, recording, wish};
use phonefleet_agent::store::recording::StopSignal;
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::recording::{EndCause, RecordingPhase};
use phonefleet_store::rusqlite::Connection;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn what_became_of_it_while_the_agent_was_away_is_found_out() {
    // It went on.
    let mut world = World::start().await;
    let desired = world.recording(1, &[]).await;
    world.kill_agent().await;
    sleep(Duration::from_secs(10)).await;
    world.start_agent().await;
    world.controller.record(&stopped(&desired)).await;
    let facts = world.over(recording(1)).await;
    assert_eq!(facts.phase, RecordingPhase::Final);
    assert!(facts.duration_ms.unwrap() > 12_000, "{facts:?}");
    assert_eq!(phases(&world, &desired), WHOLE_LIFE);
    // It came to its limit.
    let mut world = World::start().await;
    world.recording(1, &[]).await;
    world.kill_agent().await;
    sleep(Duration::from_secs(600)).await;
    world.start_agent().await;
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Final, Some(EndCause::TimeLimit)));
    assert_eq!(facts.duration_ms, Some(60_000));
    // Its phone died, and was started again by somebody.
    let mut world = World::start().await;
    world.recording(1, &[]).await;
    world.kill_agent().await;
    world.machine.die(device(1), 137);
    sleep(Duration::from_secs(600)).await;
    world.start_agent().await;
    let facts = world.over(recording(1)).await;
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Corrupt, Some(EndCause::DeviceDied)));
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_step_a_recording_is_begun_once_and_ends_well() {
    let mut killed = 0;
    for nth in 1.. {
        let mut world = World::start().await;
        world.reach(&wish(1, 1, Wish::Running)).await;
        let desired = world.record(1, 60);
        world.crash.arm(nth);
        world.controller.record(&desired).await;
        let began = Instant::now();
        let mut fired = false;
        tokio::select! {
            () = world.crash.fired() => fired = true,
            () = sleep(Duration::from_secs(5)) => {}
        }
        if fired {
            world.restart_agent().await;
        }
        world.told(recording(1), RecordingPhase::Recording).await;
        assert_eq!(world.machine.recording(recording(1)).unwrap().launches, 1, "killed at {nth}");
        world.controller.record(&stopped(&desired)).await;
        if !fired {
            tokio::select! {
                () = world.crash.fired() => fired = true,
                _ = world.over(recording(1)) => {}
            }
            if fired {
                world.restart_agent().await;
            }
        }
        let facts = world.over(recording(1)).await;
        assert_eq!(
            (facts.phase, facts.end_cause),
            (RecordingPhase::Final, Some(EndCause::Stopped)),
            "killed at {nth}: {facts:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(60), "killed at {nth}");
        assert_eq!(world.machine.videos(), [recording(1)], "killed at {nth}");
        world
            .until("nothing left on the phone", |world| {
                let kept = world.machine.recordings();
                // Swept within the hour if the agent died between the last commit and the removal.
                kept.iter().all(|(_, found)| !found.runs()).then_some(())
            })
            .await;
        let told = phases(&world, &desired);
        assert_eq!(told.iter().filter(|phase| phase.is_terminal()).count(), 1, "killed at {nth}: {told:?}");
        killed += u64::from(fired);
        if !fired {
            break;
        }
    }
    assert!(killed >= 8, "only {killed} places to kill it at");
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_step_of_a_deletion_the_video_is_finished_first() {
    for nth in 1..60 {
        let mut world = World::start().await;
        world.recording(1, &[]).await;
        world.crash.arm(nth);
        let absent = wish(1, 2, Wish::Absent);
        world.controller.desire(&absent).await;
        let fired = tokio::select! {
            () = world.crash.fired() => true,
            _ = world.answer(&absent) => false,
        };
        if fired {
            world.restart_agent().await;
        }
        assert_eq!(world.answer(&absent).await.0, Outcome::Reached);
        let facts = world.over(recording(1)).await;
        assert_eq!(
            (facts.phase, facts.end_cause),
            (RecordingPhase::Final, Some(EndCause::DeviceStopped)),
            "killed at {nth}"
        );
        if !fired {
            assert!(nth > 8);
            return;
        }
    }
    panic!("there is no end of places to kill it at");
}

#[tokio::test(start_paused = true)]
async fn recorders_without_a_row_are_ended_and_counted() {
    let mut world = World::start().await;
    world.recording(1, &[]).await;
    world.kill_agent().await;
    for suffix in ["", "-wal", "-shm"] {
        let mut file = world.database().into_os_string();
        file.push(suffix);
        let _ = std::fs::remove_file(file);
    }
    world.start_agent().await;
    world.until("the orphan ended", |world| (world.machine.recorders() == 0).then_some(())).await;
    let handle = world.handle.as_ref().unwrap();
    let snapshot = phonefleet_agent::status::StatusSource::snapshot(handle).await.unwrap();
    assert_eq!(snapshot.recording_counts.orphans, 1);
    // The controller asks for the recording that it knows: it gets an end.
    let facts = world.over(recording(1)).await;
    assert_eq!(facts.phase, RecordingPhase::Failed, "{facts:?}");
    // It had its time to finish its video, which lies there for a day: nobody has it yet.
    sleep(Duration::from_hours(23)).await;
    let left = world.machine.recording(recording(1)).unwrap();
    assert_eq!(left.signals, [StopSignal::Interrupt]);
    sleep(Duration::from_hours(3)).await;
    assert_eq!(world.machine.recordings().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_inventory_names_what_runs_and_whose_end_was_not_heard() {
    let mut world = World::start().await;
    let first = world.recording(1, &[]).await;
    world.controller.record(&stopped(&first)).await;
    world.over(recording(1)).await;
    world.controller.record(&world.record(2, 60)).await;
    world.told(recording(2), RecordingPhase::Recording).await;
    sleep(Duration::from_secs(3)).await;
    world.controller.record(&world.record(3, 60)).await;
    world.over(recording(3)).await;
    sleep(Duration::from_secs(1)).await;
    world.kill_agent().await;
    // Its log is lost, as with a restored database: it tells everything anew.
    let connection = Connection::open(world.database()).unwrap();
    connection
        .execute_batch(
            "UPDATE stream_log SET floor = 3,
                 floor_chain = (SELECT chain FROM event_outbox WHERE seq = 3);
             DELETE FROM event_outbox WHERE seq <= 3;
             UPDATE recording SET told = 0 WHERE recording_id LIKE '%3';",
        )
        .unwrap();
    drop(connection);
    world.replace_controller("fleet-1");
    world.start_agent().await;
    let told = world
        .until("an inventory", |world| {
            world.controller.events().into_iter().find_map(|event| match event {
                Event::InventoryRecordings { recordings } => Some(recordings),
                _ => None,
            })
        })
        .await;
    let told: Vec<_> = told.iter().map(|facts| (facts.recording_id, facts.phase)).collect();
    assert_eq!(told, [(recording(2), RecordingPhase::Recording), (recording(3), RecordingPhase::Failed)]);
    // What its list does not name goes on to its own end.
    world.controller.send(&Command::SnapshotRecordings { recordings: vec![] }).await;
    let facts = world.over(recording(2)).await;
    assert_eq!((facts.phase, facts.end_cause), (RecordingPhase::Final, Some(EndCause::TimeLimit)));
    // Once the controller has acknowledged an end, it is not told again.
    world
        .until("the end is known to be heard", |world| {
            (world.count("SELECT count(*) FROM recording WHERE told = 0") == 0).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_old_is_forgotten() {
    let world = World::start().await;
    let desired = world.recording(1, &[]).await;
    world.controller.record(&stopped(&desired)).await;
    world.over(recording(1)).await;
    sleep(Duration::from_hours(6 * 24)).await;
    assert_eq!(world.machine.videos().len(), 1);
    sleep(Duration::from_hours(30)).await;
    assert_eq!(world.machine.videos().len(), 0);
    assert_eq!(world.count("SELECT count(*) FROM recording"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_nothing_old_at_once() {
    let world = World::start().await;
    let desired = world.recording(1, &[]).await;
    world.controller.record(&stopped(&desired)).await;
    world.over(recording(1)).await;
    sleep(Duration::from_hours(2)).await;
    world.wall.set_forward(Duration::from_hours(10 * 24));
    sleep(Duration::from_hours(20)).await;
    assert_eq!(world.machine.videos().len(), 1);
    sleep(Duration::from_hours(6)).await;
    assert_eq!(world.machine.videos().len(), 0);
}
