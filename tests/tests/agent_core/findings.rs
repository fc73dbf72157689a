//! Lost databases, restored controllers, strangers: what is parked, and what is refused.

use crate::world::{World, device, wish};
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::facts::Phase;
use std::time::Duration;
use tokio::time::sleep;

/// The host loses its database and keeps its phones.
async fn lose_database(world: &mut World) {
    world.kill_agent().await;
    sleep(Duration::from_millis(100)).await;
    for suffix in ["db", "db-wal", "db-shm"] {
        let _ = std::fs::remove_file(world.database().with_extension(suffix));
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_database_a_host_parks_what_it_finds_and_adopts_it_on_demand() {
    let mut world = World::start().await;
    let facts = world.reach(&wish(1, 5, Wish::Running)).await;
    world.reach(&wish(2, 5, Wish::Running)).await;
    // No controller is there while the host finds them.
    world.broker.cut("fleet-1");
    lose_database(&mut world).await;
    world.start_agent().await;
    world
        .until("parked rows", |world| {
            (world.count("SELECT count(*) FROM device WHERE parked = 1 AND found = 1") == 2).then_some(())
        })
        .await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!((world.machine.starts(device(1)), world.machine.starts(device(2))), (1, 1));
    // Their ports are leased: no other device can get them.
    assert_eq!(world.count("SELECT count(*) FROM port_lease"), 4);

    world.broker.heal("fleet-1");
    // The first inventory of the new log names them.
    world
        .until("the inventory", |world| {
            let named = |event: &Event| match event {
                Event::InventoryDevices { devices } => {
                    devices.len() == 2 && devices.iter().all(|facts| facts.phase == Phase::Parked)
                }
                _ => false,
            };
            world.controller.events().iter().any(named).then_some(())
        })
        .await;
    // Adopted as it runs: same container, same ports, no restart.
    let adopted = world.reach(&wish(1, 6, Wish::Running)).await;
    assert_eq!((adopted.ports, adopted.container_id), (facts.ports, facts.container_id));
    assert_eq!(world.machine.starts(device(1)), 1);
    // An older word does not count.
    assert_eq!(world.ask(&wish(2, 4, Wish::Absent)).await.0, Outcome::Outdated);
    world.reach(&wish(2, 6, Wish::Absent)).await;
    world.reach(&wish(1, 7, Wish::Absent)).await;
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn data_without_a_row_is_parked_and_goes_on_demand() {
    let mut world = World::start().await;
    world.reach(&wish(1, 1, Wish::Stopped)).await;
    world.machine.remove_behind_back(device(1));
    lose_database(&mut world).await;
    world.machine.remove_behind_back(device(1));
    world.start_agent().await;
    world
        .until("a parked row", |world| {
            (world.count("SELECT count(*) FROM device WHERE parked = 1") == 1).then_some(())
        })
        .await;
    assert_eq!(world.machine.data(), [(device(1), 0)]);
    world.reach(&wish(1, 2, Wish::Absent)).await;
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_snapshot_does_not_name_is_parked_until_it_is_named() {
    let world = World::start().await;
    let (first, second) = (wish(1, 1, Wish::Running), wish(2, 1, Wish::Running));
    world.reach(&first).await;
    world.reach(&second).await;
    world.controller.send(&Command::SnapshotBegin {}).await;
    world.controller.send(&Command::SnapshotDevices { devices: vec![first.clone()] }).await;
    world.controller.send(&Command::SnapshotEnd {}).await;
    world.change(device(2), 0, Phase::Parked, "PARKED").await;
    // Named again with the same word: answered again.
    assert_eq!(world.answers(&first).len(), 2);
    assert!(world.changes(device(1)).is_empty());
    // Parked is left alone, whatever happens to it.
    world.machine.die(device(2), 137);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.machine.starts(device(2)), 1);

    world.controller.desire(&second).await;
    world.until("the answer again", |world| (world.answers(&second).len() == 2).then_some(())).await;
    // It is looked after again: it had died, and is started.
    world.change(device(2), 1, Phase::Running, "").await;
    assert_eq!(world.machine.starts(device(2)), 2);
    // An end without a beginning parks nothing.
    world.controller.send(&Command::SnapshotEnd {}).await;
    world.reach(&wish(1, 2, Wish::Running)).await;
    assert_eq!(world.changes(device(1)).len(), 0);
    assert_eq!(world.count("SELECT count(*) FROM inbox_dead_letter"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_controller_without_its_database_hears_the_whole_inventory() {
    let mut world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    for number in 2..=4 {
        world.reach(&wish(number, 1, Wish::Reserved)).await;
    }
    // Enough acknowledged events are gone for the log not to be replayable from its start.
    world.kill_agent().await;
    let connection = phonefleet_store::rusqlite::Connection::open(world.database()).unwrap();
    connection
        .execute_batch(
            "UPDATE stream_log SET floor = 3,
                 floor_chain = (SELECT chain FROM event_outbox WHERE seq = 3);
             DELETE FROM event_outbox WHERE seq <= 3;",
        )
        .unwrap();
    drop(connection);
    world.replace_controller("fleet-1");
    world.start_agent().await;
    let inventory = world
        .until("an inventory", |world| {
            let events = world.controller.events();
            events.iter().any(|event| matches!(event, Event::InventoryEnd {})).then_some(events)
        })
        .await;
    let devices: Vec<_> = inventory
        .iter()
        .filter_map(|event| match event {
            Event::InventoryDevices { devices } => Some(devices.iter().map(|facts| facts.device_id)),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(devices, [device(1), device(2), device(3), device(4)]);
    assert_eq!(world.machine.starts(device(1)), 1);
}

#[tokio::test(start_paused = true)]
async fn another_fleet_is_refused() {
    let mut world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.broker.cut("fleet-1");
    world.replace_controller("fleet-2");
    world.controller.desire(&wish(1, 9, Wish::Absent)).await;
    sleep(Duration::from_secs(300)).await;
    assert!(world.machine.phone(device(1)).unwrap().is_running());
    assert!(world.controller.events().is_empty());
}
