//! Engines, ports and phones that fail.

use crate::world::{World, device, failure, wish, wish_with};
use async_trait::async_trait;
use phonefleet_agent::host::{HostError, Kernel};
use phonefleet_agent::runtime::ContainerState;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::Phase;
use phonefleet_protocol::id::DeviceId;
use phonefleet_tests::simulation::EngineFault;
use phonefleet_tests::simulation::kernel::SimulatedKernel;
use phonefleet_tests::simulation::machine::Call;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_boot_that_hangs_names_its_rung_and_the_container_is_kept_without_running() {
    let world = World::start().await;
    let began = Instant::now();
    let hangs = wish_with(1, 1, Wish::Running, &["androidboot.phonesim_fault=boot_hang"]);
    let (outcome, facts) = world.ask(&hangs).await;
    assert_eq!(failure(&outcome), ("BOOT_TIMEOUT", false));
    let detail = &facts.reason.as_ref().unwrap().detail;
    assert!(detail.contains("sys.boot_completed"), "{detail}");
    assert!((30..33).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(facts.phase, Phase::Error);
    assert!(world.phone_numbers().contains("boot_failures_total{cause=\"BOOT_TIMEOUT\"} 1"));
    world.until("its end", |world| (!world.machine.phone(device(1))?.is_running()).then_some(())).await;
    assert_eq!(world.machine.starts(device(1)), 1);
    world.reach(&wish(1, 2, Wish::Absent)).await;
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_keeps_dying_is_given_up() {
    let world = World::start().await;
    let dies = wish_with(1, 1, Wish::Running, &["androidboot.phonesim_fault=crash_after_ms:20000"]);
    let ports = world.reach(&dies).await.ports;
    let given_up = world.change(device(1), 0, Phase::Error, "CRASH_LOOP").await;
    assert_eq!((given_up.ports, given_up.starts), (ports, 5));
    assert!(given_up.reason.unwrap().detail.contains("exit code 129"));
    let story: Vec<_> = world.changes(device(1)).iter().map(|facts| facts.phase).collect();
    let cycle = [Phase::Starting, Phase::Running];
    assert_eq!(story, [&cycle[..], &cycle, &cycle, &cycle, &[Phase::Error]].concat());
    sleep(Duration::from_secs(1200)).await;
    assert_eq!(world.machine.starts(device(1)), 5);
    assert!(world.machine.phone(device(1)).is_some());
    let numbers = world.phone_numbers();
    for told in [
        "phone_deaths_total{cause=\"DIED\"} 5",
        "boot_duration_seconds_count 5",
        "boot_duration_seconds_bucket{le=\"0.5\"}",
        "reconcile_duration_seconds_count{wish=\"running\"} 1",
    ] {
        assert!(numbers.contains(told), "{told} in {numbers}");
    }
    // Another attempt is a fresh start.
    let again = phonefleet_protocol::desired::DesiredDevice { attempt: 2, ..dies };
    assert_eq!(world.reach(&again).await.starts, 6);
    world.reach(&wish(1, 2, Wish::Absent)).await;
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_died_is_started_again_with_back_off() {
    let world = World::start().await;
    let facts = world.reach(&wish(1, 1, Wish::Running)).await;
    for (death, wait) in [(1, 1000), (2, 2000)] {
        let (known, died) = (world.changes(device(1)).len(), Instant::now());
        world.machine.die(device(1), 137);
        let starting = world.change(device(1), known, Phase::Starting, "DIED").await;
        assert!(starting.reason.unwrap().detail.contains("137"));
        world.until("a start", |world| (world.machine.starts(device(1)) == death + 1).then_some(())).await;
        let waited = died.elapsed().as_millis();
        assert!((wait..wait + 500).contains(&waited), "{waited}");
        let running = world.change(device(1), known, Phase::Running, "").await;
        assert_eq!((running.ports, running.container_id), (facts.ports, facts.container_id.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_removed_from_outside_comes_back_with_its_data_and_ports() {
    let world = World::start().await;
    let facts = world.reach(&wish(1, 1, Wish::Running)).await;
    let first = world.machine.phone(device(1)).unwrap();
    world.machine.remove_behind_back(device(1));
    world.change(device(1), 0, Phase::Starting, "CONTAINER_REMOVED").await;
    let running = world.change(device(1), 0, Phase::Running, "").await;
    let second = world.machine.phone(device(1)).unwrap();
    assert_eq!((running.ports, second.spec.data_dir), (facts.ports, first.spec.data_dir));
    assert_ne!(running.container_id, facts.container_id);

    // A stopped one comes back stopped.
    world.reach(&wish(1, 2, Wish::Stopped)).await;
    world.machine.remove_behind_back(device(1));
    world.until("a container", |world| world.machine.phone(device(1))).await;
    assert_eq!(world.machine.phone(device(1)).unwrap().container.state, ContainerState::Created);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_a_stranger_holds_is_left_alone() {
    let world = World::start().await;
    world.machine.occupy(20_000);
    world.machine.occupy(21_000);
    let ports = world.reach(&wish(1, 1, Wish::Reserved)).await.ports.unwrap();
    assert_eq!((ports.adb, ports.webrtc), (20_001, 21_001));
    // The stranger comes between the lease and the start.
    world.machine.occupy(20_001);
    let facts = world.reach(&wish(1, 2, Wish::Running)).await;
    assert_eq!((facts.ports.unwrap().adb, facts.starts), (20_002, 1));
    assert_eq!(world.machine.bound_ports(), [20_002]);
    let quarantined = world.count("SELECT count(*) FROM port_lease WHERE state = 'QUARANTINED'");
    assert_eq!(quarantined, 3);
    // And takes the port of a phone that died.
    world.machine.die(device(1), 137);
    world.machine.occupy(20_002);
    let running = world.change(device(1), 0, Phase::Running, "").await;
    assert_eq!(running.ports.unwrap().adb, 20_003);
    world.reach(&wish(1, 3, Wish::Absent)).await;
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_port_the_answer_is_retryable() {
    let mut world = World::without_agent();
    world.adb_ports = 20_000..=20_000;
    world.start_agent().await;
    world.reach(&wish(1, 1, Wish::Reserved)).await;
    let mut second = wish(2, 1, Wish::Reserved);
    let (outcome, _) = world.ask(&second).await;
    assert_eq!(failure(&outcome), ("NO_PORTS", true));
    world.reach(&wish(1, 2, Wish::Absent)).await;
    second.attempt = 2;
    assert_eq!(world.reach(&second).await.ports.unwrap().adb, 20_000);
}

#[tokio::test(start_paused = true)]
async fn each_engine_call_may_fail_in_each_way() {
    let faults = [
        EngineFault::Unavailable,
        EngineFault::DoneButUnavailable,
        EngineFault::Hang(Duration::from_secs(20)),
    ];
    for call in [Call::Create, Call::Start, Call::Inspect, Call::Kill, Call::Remove, Call::List] {
        for nth in 1..=3 {
            for fault in &faults {
                let world = World::start().await;
                world.machine.fail(call, nth, fault.clone());
                let facts = world.reach(&wish(1, 1, Wish::Running)).await;
                assert_eq!(
                    (world.machine.starts(device(1)), facts.starts),
                    (1, 1),
                    "{call:?} {nth} {fault:?}"
                );
                world.reach(&wish(1, 2, Wish::Absent)).await;
                world.until_clean().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refuses_is_not_tried_again() {
    for (call, code) in [(Call::Create, "CREATE_REFUSED"), (Call::Start, "START_REFUSED")] {
        let world = World::start().await;
        world.machine.fail(call, 1, EngineFault::Refused);
        let (outcome, facts) = world.ask(&wish(1, 1, Wish::Running)).await;
        assert_eq!((failure(&outcome), facts.phase), ((code, false), Phase::Error));
        sleep(Duration::from_secs(300)).await;
        assert_eq!(world.machine.starts(device(1)), 0);
        world.reach(&wish(1, 2, Wish::Absent)).await;
        world.until_clean().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_waited_for_and_then_told() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.machine.set_engine_down(true);
    let began = Instant::now();
    let (outcome, _) = world.ask(&wish(2, 1, Wish::Running)).await;
    assert_eq!(failure(&outcome), ("ENGINE_UNAVAILABLE", true));
    assert!((59..75).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // What is to go still goes, long after that answer.
    let (outcome, _) = world.ask(&wish(1, 2, Wish::Absent)).await;
    assert_eq!(failure(&outcome), ("ENGINE_UNAVAILABLE", true));
    assert_eq!(world.handle.as_ref().unwrap().waiting().len(), 2);
    sleep(Duration::from_secs(600)).await;
    world.machine.set_engine_down(false);
    world.change(device(1), 0, Phase::Absent, "").await;
    // What failed is not built up behind the controller's back.
    sleep(Duration::from_secs(60)).await;
    assert!(world.machine.phones().is_empty());
    let again = phonefleet_protocol::desired::DesiredDevice { attempt: 2, ..wish(2, 1, Wish::Running) };
    world.reach(&again).await;
    assert!(world.handle.as_ref().unwrap().waiting().is_empty());
    world.reach(&wish(2, 2, Wish::Absent)).await;
    world.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_short_absence_of_the_engine_is_only_a_delay() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.machine.set_engine_down(true);
    world.controller.desire(&wish(2, 1, Wish::Running)).await;
    sleep(Duration::from_secs(30)).await;
    world.machine.set_engine_down(false);
    assert_eq!(world.answer(&wish(2, 1, Wish::Running)).await.0, Outcome::Reached);
    assert_eq!(world.machine.starts(device(1)), 1);
    assert!(world.changes(device(1)).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_hangs_is_told_once_and_left_running() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.machine.set_hung(device(1), true);
    let told = world.change(device(1), 0, Phase::Running, "ADB_UNRESPONSIVE").await;
    assert_eq!(told.starts, 1);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.changes(device(1)).len(), 1);
    world.machine.set_hung(device(1), false);
    world.change(device(1), 1, Phase::Running, "").await;
    assert_eq!(world.machine.starts(device(1)), 1);
    // Hung again, and stopped: Android cannot be asked, it is killed after its time.
    world.machine.set_hung(device(1), true);
    let asked = Instant::now();
    world.reach(&wish(1, 2, Wish::Stopped)).await;
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_paused_phone_is_told() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    world.machine.set_paused(device(1), true);
    world.change(device(1), 0, Phase::Running, "PAUSED").await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.changes(device(1)).len(), 1);
    world.machine.set_paused(device(1), false);
    world.change(device(1), 1, Phase::Running, "").await;
    world.machine.set_paused(device(1), true);
    world.reach(&wish(1, 2, Wish::Stopped)).await;
    assert_eq!(world.machine.starts(device(1)), 1);
}

/// A kernel that panics for one device.
struct Panicking {
    inner: SimulatedKernel,
    victim: DeviceId,
}

#[async_trait]
impl Kernel for Panicking {
    fn port_is_free(&self, bind: IpAddr, port: u16) -> bool {
        self.inner.port_is_free(bind, port)
    }

    async fn prepare_data(&self, device: DeviceId, data_epoch: u32) -> Result<PathBuf, HostError> {
        assert_ne!(device, self.victim, "ordered by the test");
        self.inner.prepare_data(device, data_epoch).await
    }

    async fn remove_data(&self, device: DeviceId, keep_from: Option<u32>) -> Result<(), HostError> {
        self.inner.remove_data(device, keep_from).await
    }

    async fn devices_with_data(&self) -> Result<Vec<DeviceId>, HostError> {
        self.inner.devices_with_data().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_stops_no_other() {
    let mut world = World::without_agent();
    let inner = SimulatedKernel::new(world.machine.clone(), world.crash.clone());
    world.kernel = Some(Arc::new(Panicking { inner, victim: device(1) }));
    world.start_agent().await;
    world.controller.desire(&wish(1, 1, Wish::Running)).await;
    sleep(Duration::from_secs(300)).await;
    world.reach(&wish(2, 1, Wish::Running)).await;
    // It still goes when it may.
    world.reach(&wish(1, 2, Wish::Absent)).await;
    world.reach(&wish(2, 2, Wish::Absent)).await;
    world.until_clean().await;
}

/// An engine that dies takes a phone down in the middle of its boot: that is not the phone's
/// fault, and no failed boot.
#[tokio::test(start_paused = true)]
async fn a_boot_that_the_engine_cut_short_is_begun_again() {
    let world = World::start().await;
    let running = wish_with(1, 1, Wish::Running, &["androidboot.phonesim_boot_ms=5000"]);
    world.controller.desire(&running).await;
    world.until("its boot", |world| world.machine.phone(device(1))?.is_running().then_some(())).await;
    sleep(Duration::from_secs(2)).await;
    world.machine.set_engine_down(true);
    world.machine.die(device(1), 2);
    sleep(Duration::from_secs(5)).await;
    world.machine.set_engine_down(false);
    assert_eq!(world.answer(&running).await.0, Outcome::Reached);
    assert_eq!(world.machine.starts(device(1)), 2);
}
