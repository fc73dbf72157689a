//! Wishes, answers, generations and attempts.

use crate::world::{World, at, device, failure, wish, wish_with};
use phonefleet_agent::status::StatusSource;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::Phase;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_phone_climbs_the_ladder_and_goes_down_again() {
    let world = World::start().await;
    let reserved = world.reach(&wish(1, 1, Wish::Reserved)).await;
    assert_eq!(reserved.phase, Phase::Reserved);
    let ports = reserved.ports.expect("ports");
    assert!(world.machine.phones().is_empty() && world.machine.data().is_empty());

    let stopped = world.reach(&wish(1, 2, Wish::Stopped)).await;
    assert_eq!((stopped.phase, stopped.ports, stopped.starts), (Phase::Stopped, Some(ports), 0));
    let phone = world.machine.phone(device(1)).expect("a container");
    assert_eq!((phone.spec.adb_port, phone.is_running()), (ports.adb, false));
    assert_eq!(stopped.container_id, Some(phone.container.id));

    let running = world.reach(&wish(1, 3, Wish::Running)).await;
    assert_eq!((running.phase, running.starts, running.ports), (Phase::Running, 1, Some(ports)));
    let phone = world.machine.phone(device(1)).unwrap();
    assert!(phone.has_booted());
    // Asked for again in a new generation: it runs already.
    assert_eq!(world.reach(&wish(1, 4, Wish::Running)).await.starts, 1);

    // Android shuts itself down: exit 130, not 137.
    world.reach(&wish(1, 5, Wish::Stopped)).await;
    let state = format!("{:?}", world.machine.phone(device(1)).unwrap().container.state);
    assert!(state.contains("130"), "{state}");
    assert_eq!(world.machine.data(), [(device(1), 0)]);

    let reserved = world.reach(&wish(1, 6, Wish::Reserved)).await;
    assert_eq!(reserved.ports, Some(ports));
    assert!(world.machine.phones().is_empty() && world.machine.data().is_empty());

    let absent = world.reach(&wish(1, 7, Wish::Absent)).await;
    assert_eq!((absent.phase, absent.ports), (Phase::Absent, None));
    world.until_clean().await;
    assert!(world.controller.events().iter().filter_map(at).is_sorted());
}

#[tokio::test(start_paused = true)]
async fn from_running_to_absent_in_one_step_and_back() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.reach(&wish(1, 2, Wish::Absent)).await;
    world.until_clean().await;
    world.reach(&wish(2, 1, Wish::Absent)).await;
    world.until_clean().await;
    // The tombstone is gone; a device of that name is a new one.
    world.reach(&wish(1, 3, Wish::Running)).await;
    assert_eq!(world.machine.data(), [(device(1), 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_reboot_and_a_reset_happen_once() {
    let mut world = World::start().await;
    let mut desired = wish(1, 1, Wish::Running);
    let ports = world.reach(&desired).await.ports;
    (desired.generation, desired.boot_count) = (2, 1);
    assert_eq!(world.reach(&desired).await.starts, 2);
    world.restart_agent().await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(world.machine.starts(device(1)), 2);

    (desired.generation, desired.data_epoch) = (3, 1);
    let facts = world.reach(&desired).await;
    assert_eq!((world.machine.starts(device(1)), facts.ports), (3, ports));
    world.until("old data gone", |world| (world.machine.data() == [(device(1), 1)]).then_some(())).await;
    // A controller that was restored from before the reset brings no old data back.
    (desired.generation, desired.data_epoch, desired.boot_count) = (4, 0, 0);
    world.reach(&desired).await;
    assert_eq!((world.machine.data(), world.machine.starts(device(1))), (vec![(device(1), 1)], 3));
}

#[tokio::test(start_paused = true)]
async fn another_spec_rebuilds_the_container_and_keeps_the_data() {
    let mut world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    let first = world.machine.phone(device(1)).unwrap();
    world.reach(&wish_with(1, 2, Wish::Running, &["ro.product.model=X"])).await;
    let second = world.machine.phone(device(1)).unwrap();
    assert_ne!(first.container.id, second.container.id);
    assert_eq!((first.spec.adb_port, &first.spec.data_dir), (second.spec.adb_port, &second.spec.data_dir));
    assert!(second.argument("ro.product.model").is_some());
    // Another default of the host is no other spec.
    world.default_image = "phonefleet/phonesim:next".into();
    world.restart_agent().await;
    world.reach(&wish_with(1, 3, Wish::Running, &["ro.product.model=X"])).await;
    assert_eq!(world.machine.phone(device(1)).unwrap().container.id, second.container.id);
    assert_eq!(world.machine.starts(device(1)), 2);
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_once_repeated_on_demand_and_refused_when_old() {
    let world = World::start().await;
    let second = wish(1, 2, Wish::Running);
    let facts = world.reach(&second).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.answers(&second).len(), 1);
    world.controller.desire(&second).await;
    world.until("the answer again", |world| (world.answers(&second).len() == 2).then_some(())).await;
    assert_eq!(world.answers(&second)[1], (Outcome::Reached, facts));

    // Older; and the same number for something else, as after a restored controller.
    for outdated in [wish(1, 1, Wish::Absent), wish(1, 2, Wish::Absent)] {
        world.controller.desire(&outdated).await;
        world
            .until("outdated", |world| {
                let (outcome, facts) = world.answers(&outdated).last()?.clone();
                (outcome == Outcome::Outdated && facts.generation == 2).then_some(())
            })
            .await;
    }
    assert!(world.machine.phone(device(1)).unwrap().is_running());
    assert_eq!(world.machine.starts(device(1)), 1);
}

#[tokio::test(start_paused = true)]
async fn another_attempt_tries_again_after_a_failure() {
    let world = World::start().await;
    let mut desired = wish_with(1, 1, Wish::Running, &["androidboot.phonesim_fault=exit_129"]);
    let (outcome, facts) = world.ask(&desired).await;
    assert_eq!(failure(&outcome), ("BOOT_FAILED", false));
    assert_eq!((facts.phase, facts.starts), (Phase::Error, 1));
    assert!(facts.ports.is_some() && facts.container_id.is_some());
    // It is not tried again by itself.
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.machine.starts(device(1)), 1);
    desired.attempt = 2;
    let (outcome, facts) = world.ask(&desired).await;
    assert_eq!((failure(&outcome), facts.starts), (("BOOT_FAILED", false), 2));
    world.reach(&wish(1, 2, Wish::Absent)).await;
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_word_cuts_a_boot_short() {
    let world = World::start().await;
    let hangs = wish_with(1, 1, Wish::Running, &["androidboot.phonesim_fault=boot_hang"]);
    world.controller.desire(&hangs).await;
    world.until("a start", |world| (world.machine.starts(device(1)) == 1).then_some(())).await;
    sleep(Duration::from_secs(5)).await;
    let asked = Instant::now();
    world.reach(&wish(1, 2, Wish::Absent)).await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(world.answers(&hangs).is_empty());
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn many_devices_at_once_have_ports_of_their_own() {
    let mut world = World::without_agent();
    world.adb_ports = 20_000..=20_049;
    world.start_agent().await;
    for number in 0..50 {
        world.controller.desire(&wish(number, 1, Wish::Running)).await;
    }
    let mut seen = BTreeSet::new();
    for number in 0..50 {
        let (outcome, facts) = world.answer(&wish(number, 1, Wish::Running)).await;
        assert_eq!(outcome, Outcome::Reached, "{facts:?}");
        let ports = facts.ports.unwrap();
        assert!(seen.insert(ports.adb) && seen.insert(ports.webrtc));
    }
    let status = world.handle.as_ref().unwrap().snapshot().await.unwrap();
    assert_eq!((status.devices.len(), status.ports_leased), (50, 100));
    for number in 0..50 {
        world.controller.desire(&wish(number, 2, Wish::Absent)).await;
    }
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn orders_that_cannot_be_built_are_answered() {
    let world = World::start().await;
    let mut desired = wish(1, 1, Wish::Reserved);
    desired.spec.as_mut().unwrap().memory_mb = 1;
    assert_eq!(failure(&world.ask(&desired).await.0), ("INVALID_SPEC", false));
    let mut desired = wish(2, 1, Wish::Stopped);
    desired.spec.as_mut().unwrap().image = Some("phonefleet/missing:dev".into());
    assert_eq!(failure(&world.ask(&desired).await.0), ("IMAGE_MISSING", false));
    let mut desired = wish(3, 1, Wish::Stopped);
    desired.spec.as_mut().unwrap().image = Some("strange/image:1".into());
    assert_eq!(failure(&world.ask(&desired).await.0), ("IMAGE_NOT_ALLOWED", false));
    for number in 1..=3 {
        world.reach(&wish(number, 2, Wish::Absent)).await;
    }
    world.until_clean().await;
}

/// The same code as a daemon runs it: real time, threads, a database with a writer thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_threads_and_real_time_it_is_the_same() {
    let mut world = World::without_agent();
    world.threaded = true;
    world.start_agent().await;
    for number in 1..=5 {
        let quick = wish_with(number, 1, Wish::Running, &["androidboot.phonesim_boot_ms=200"]);
        world.controller.desire(&quick).await;
    }
    for number in 1..=5 {
        world.reach(&wish_with(number, 1, Wish::Running, &["androidboot.phonesim_boot_ms=200"])).await;
    }
    world.restart_agent().await;
    for number in 1..=5 {
        world.controller.desire(&wish(number, 2, Wish::Absent)).await;
    }
    world.until_clean().await;
    assert!((1..=5).all(|number| world.machine.starts(device(number)) == 1));
}
