//! The agent killed at every commit and every effect, and at every moment of a phone's life.

use crate::world::{World, device, wish, wish_with};
use phonefleet_protocol::desired::{DesiredDevice, Wish};
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::Phase;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Says it, kills the agent at the `nth` commit or effect from then on, starts it again and
/// waits for the answer. `false`: there were fewer.
async fn ask_and_crash(world: &mut World, desired: &DesiredDevice, nth: u64) -> bool {
    world.crash.arm(nth);
    world.controller.desire(desired).await;
    let fired = tokio::select! {
        () = world.crash.fired() => true,
        _ = world.answer(desired) => false,
    };
    if fired {
        world.restart_agent().await;
    }
    world.crash.disarm();
    let (outcome, facts) = world.answer(desired).await;
    assert_eq!(outcome, Outcome::Reached, "killed at {nth}: {facts:?}");
    assert_eq!(world.answers(desired).len(), 1, "killed at {nth}");
    fired
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_step_a_phone_runs_and_goes_without_a_trace() {
    let mut killed = 0;
    for nth in 1.. {
        let mut world = World::start().await;
        let running = wish(1, 1, Wish::Running);
        let up = ask_and_crash(&mut world, &running, nth).await;
        let told = world.answer(&running).await.1.starts;
        assert_eq!((world.machine.starts(device(1)), told), (1, 1), "killed at {nth}");
        assert!(world.machine.phone(device(1)).unwrap().has_booted());
        assert_eq!(world.count("SELECT count(*) FROM port_lease"), 2, "killed at {nth}");
        let down = ask_and_crash(&mut world, &wish(1, 2, Wish::Absent), nth).await;
        world.until_clean().await;
        killed += u64::from(up) + u64::from(down);
        if !up && !down {
            break;
        }
    }
    assert!(killed > 20, "only {killed} places to kill it at");
}

#[tokio::test(start_paused = true)]
async fn killed_at_every_step_of_stop_reboot_and_reset() {
    for nth in 1..40 {
        let mut world = World::start().await;
        let mut desired = wish(1, 1, Wish::Running);
        let ports = world.reach(&desired).await.ports;
        (desired.generation, desired.boot_count) = (2, 1);
        let mut any = ask_and_crash(&mut world, &desired, nth).await;
        assert_eq!(world.machine.starts(device(1)), 2, "killed at {nth}");
        (desired.generation, desired.data_epoch) = (3, 1);
        any |= ask_and_crash(&mut world, &desired, nth).await;
        assert_eq!(world.machine.starts(device(1)), 3, "killed at {nth}");
        world
            .until("the old data gone", |world| (world.machine.data() == [(device(1), 1)]).then_some(()))
            .await;
        (desired.generation, desired.wish) = (4, Wish::Stopped);
        any |= ask_and_crash(&mut world, &desired, nth).await;
        assert!(!world.machine.phone(device(1)).unwrap().is_running());
        let (outcome, facts) = world.answer(&desired).await;
        assert_eq!((outcome, facts.ports), (Outcome::Reached, ports));
        world.reach(&wish(1, 5, Wish::Absent)).await;
        world.until_clean().await;
        if !any {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_running_phone_is_restarted_by_a_kill_at_any_moment() {
    let mut world = World::start().await;
    for number in 0..5 {
        world.reach(&wish(number, 1, Wish::Running)).await;
    }
    for pause in [0, 1, 3, 10, 50, 200, 500, 1000, 5000, 31_000] {
        world.kill_agent().await;
        world.crash.arm(pause % 7 + 1);
        world.start_agent().await;
        let _ = timeout(Duration::from_millis(pause), world.crash.fired()).await;
        world.restart_agent().await;
        sleep(Duration::from_millis(pause)).await;
    }
    sleep(Duration::from_secs(120)).await;
    for number in 0..5 {
        assert_eq!(world.machine.starts(device(number)), 1);
        assert!(world.changes(device(number)).is_empty());
        assert_eq!(world.reach(&wish(number, 2, Wish::Running)).await.starts, 1);
        world.reach(&wish(number, 3, Wish::Absent)).await;
    }
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_boot_goes_on_under_another_agent() {
    let mut world = World::start().await;
    let slow = wish_with(1, 1, Wish::Running, &["androidboot.phonesim_boot_ms=10000"]);
    world.controller.desire(&slow).await;
    world.until("a start", |world| (world.machine.starts(device(1)) == 1).then_some(())).await;
    for _ in 0..4 {
        sleep(Duration::from_secs(2)).await;
        world.restart_agent().await;
    }
    assert_eq!(world.answer(&slow).await.0, Outcome::Reached);
    assert_eq!(world.machine.starts(device(1)), 1);
}

#[tokio::test(start_paused = true)]
async fn what_died_while_the_agent_was_away_is_started_again() {
    let mut world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.reach(&wish(2, 1, Wish::Running)).await;
    world.kill_agent().await;
    world.machine.die(device(1), 137);
    sleep(Duration::from_secs(3600)).await;
    world.start_agent().await;
    world.change(device(1), 0, Phase::Starting, "DIED").await;
    world.change(device(1), 0, Phase::Running, "").await;
    assert_eq!((world.machine.starts(device(1)), world.machine.starts(device(2))), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn many_kills_with_many_orders_lease_no_port_twice() {
    let mut world = World::start().await;
    for round in 0..12_u64 {
        for number in 0..8 {
            let kind = if (round + number) % 3 == 0 { Wish::Absent } else { Wish::Running };
            world.controller.desire(&wish(u128::from(number), round + 1, kind)).await;
        }
        sleep(Duration::from_millis(137 * (round + 1))).await;
        world.restart_agent().await;
        let ports: Vec<u16> = world.machine.phones().iter().map(|phone| phone.spec.adb_port).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "{ports:?}");
    }
    for number in 0..8 {
        world.reach(&wish(number, 100, Wish::Absent)).await;
    }
    world.until_clean().await;
    assert_eq!(world.count("SELECT count(*) FROM port_lease"), 0);
}
