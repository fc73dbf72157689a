//! Orphans that nobody asks for: the agent looks by itself.

use crate::world::{World, device, wish};
use phonefleet_agent::orphan::Kind;
use phonefleet_agent::status::StatusSource as _;
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::facts::Phase;
use phonefleet_store::rusqlite::Connection;
use std::time::Duration;
use tokio::time::sleep;

/// A lease of a device that nothing knows; proven to be nobody's, so it is removed.
fn plant(world: &World) {
    let connection = Connection::open(world.database()).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
        .execute(
            "INSERT INTO port_lease(port, kind, device_id, generation, state)
             VALUES (20009, 'adb', ?1, 1, 'LEASED')",
            [device(9).to_string()],
        )
        .unwrap();
}

fn planted(world: &World) -> i64 {
    world.count("SELECT count(*) FROM port_lease WHERE port = 20009")
}

#[tokio::test(start_paused = true)]
async fn orphans_are_looked_for_every_hour_and_after_every_start() {
    let mut world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    plant(&world);
    let began = world.now();
    sleep(Duration::from_mins(50)).await;
    assert_eq!(planted(&world), 1, "it is the hourly look that this test waits for");
    sleep(Duration::from_mins(12)).await;
    assert_eq!(planted(&world), 0);
    let report = world.handle.as_ref().unwrap().orphans(false).await;
    assert_eq!((report.orphans.len(), report.removed.get(&Kind::Port)), (0, Some(&1)), "{report}");
    assert!(report.at > Some(began) && report.fault.is_none(), "{report}");

    // A start looks at once, or as soon as the engine answers.
    world.kill_agent().await;
    plant(&world);
    world.machine.set_engine_down(true);
    world.start_agent().await;
    sleep(Duration::from_mins(5)).await;
    let report = world.handle.as_ref().unwrap().orphans(false).await;
    assert!(report.fault.is_some() && planted(&world) == 1, "{report}");
    world.machine.set_engine_down(false);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(planted(&world), 0);
    let report = world.handle.as_ref().unwrap().orphans(false).await;
    assert_eq!((report.orphans.len(), report.fault.clone()), (0, None), "{report}");

    // The phone of this host was nobody's orphan all the while.
    assert_eq!(world.machine.starts(device(1)), 1);
    world.reach(&wish(1, 2, Wish::Absent)).await;
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn data_put_back_after_a_removal_is_removed_again_and_counted_once() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.controller.desire(&wish(1, 2, Wish::Absent)).await;
    let phase = |world: &World, phase: &str| {
        let rows = world.count(&format!("SELECT count(*) FROM device WHERE phase = '{phase}'"));
        (rows > 0).then_some(())
    };
    world.until("the phone's end", |world| phase(world, "stopping")).await;
    // Its controller does not hear of it, so that its row stays.
    world.broker.cut("fleet-1");
    world.until("a removal", |world| phase(world, "absent")).await;
    for times in 1..=2 {
        assert_eq!(world.machine.data(), []);
        world.machine.put_data_back(device(1), 0);
        sleep(Duration::from_mins(62)).await;
        let report = world.handle.as_ref().unwrap().orphans(false).await;
        assert_eq!((report.orphans.len(), report.removed.get(&Kind::Data)), (0, Some(&times)), "{report}");
    }
    assert_eq!(world.machine.data(), []);
    world.broker.heal("fleet-1");
    world.until_clean().await;
}

/// What its controller does not name is left alone for as long as anything of it is there. Then
/// the row goes with its ports, and the controller hears that it is absent.
#[tokio::test(start_paused = true)]
async fn a_parked_phone_that_is_removed_by_hand_is_forgotten() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    for command in [Command::SnapshotBegin {}, Command::SnapshotEnd {}] {
        world.controller.send(&command).await;
    }
    world.change(device(1), 0, Phase::Parked, "PARKED").await;
    let look = || async { world.handle.as_ref().unwrap().orphans(true).await };
    assert_eq!(look().await.found(Kind::Parked), 1);
    world.machine.remove_behind_back(device(1));
    assert_eq!(look().await.found(Kind::Parked), 1);
    assert_eq!(world.count("SELECT count(*) FROM port_lease"), 2, "its data is there");
    world.machine.remove_data_behind_back(device(1));
    look().await;
    world.change(device(1), 1, Phase::Absent, "").await;
    let report = look().await;
    assert_eq!((report.orphans.len(), report.removed.get(&Kind::Parked)), (0, Some(&1)), "{report}");
    world.until_clean().await;
    assert_eq!(world.count("SELECT count(*) FROM port_lease"), 0);
    // Named again, it is a new phone.
    world.reach(&wish(1, 2, Wish::Running)).await;
    world.reach(&wish(1, 3, Wish::Absent)).await;
    world.until_clean().await;
}
