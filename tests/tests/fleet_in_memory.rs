//! The main job in memory: creation, deletion, failure of each step, crash of either side
//! at each thing that it does, and a link that loses everything for a while.

use phonefleet_controller::order::{OrderError, Verb};
use phonefleet_controller::store::device::Status;
use phonefleet_controller::store::saga::{Cause, SagaStatus};
use phonefleet_link::memory::Fate;
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_tests::fleet::{Fleet, spec};
use phonefleet_tests::simulation::EngineFault;
use phonefleet_tests::simulation::machine::Call;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn an_order_becomes_a_running_phone_and_goes_without_a_trace() {
    let fleet = Fleet::start(1).await;
    let order = fleet.create("phone", spec(&[])).await;
    assert_eq!(order.device.status, Status::Creating);
    let saga = fleet.ended(&order.saga_id).await;
    assert_eq!((saga.status, saga.step_index), (SagaStatus::Completed, 4), "{saga:?}");
    assert_eq!(saga.current_step, "START_DEVICE");
    let device = fleet.device(order.device.device_id).await;
    assert_eq!(device.status, Status::Running, "{device:?}");
    let machine = &fleet.hosts[0].machine;
    let phone = machine.phone(device.device_id).expect("a container");
    assert!(phone.has_booted());
    assert_eq!(device.ports.map(|ports| ports.adb), Some(phone.spec.adb_port));
    assert_eq!(device.container_id.as_deref(), Some(phone.container.id.as_str()));
    assert_eq!(machine.starts(device.device_id), 1);

    let deletion = fleet.verb(device.device_id, Verb::Delete).await;
    let again = fleet.verb(device.device_id, Verb::Delete).await;
    assert_eq!(deletion.saga_id, again.saga_id);
    assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    fleet.until_clean().await;
    assert_eq!(fleet.device(device.device_id).await.status, Status::Deleted);
}

#[tokio::test(start_paused = true)]
async fn stop_start_reboot_and_reset_do_what_they_say() {
    let fleet = Fleet::start(1).await;
    let order = fleet.create("phone", spec(&[])).await;
    assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
    let id = order.device.device_id;
    let machine = &fleet.hosts[0].machine;
    let ports = fleet.device(id).await.ports;
    let steps = [
        (Verb::Stop, Status::Stopped, 1, 0),
        (Verb::Start, Status::Running, 2, 0),
        (Verb::Reboot, Status::Running, 3, 0),
        (Verb::Reset, Status::Running, 4, 1),
    ];
    for (verb, status, starts, data_epoch) in steps {
        let accepted = fleet.verb(id, verb).await;
        let busy = fleet.try_verb(id, Verb::Reboot).await;
        assert!(matches!(busy, Err(OrderError::Busy { saga_id, .. }) if saga_id == accepted.saga_id));
        let saga = fleet.ended(&accepted.saga_id).await;
        assert_eq!(saga.status, SagaStatus::Completed, "{verb:?}: {saga:?}");
        let device = fleet.device(id).await;
        assert_eq!((device.status, device.ports), (status, ports), "{verb:?}");
        assert_eq!(machine.starts(id), starts, "{verb:?}");
        assert_eq!(machine.data(), [(id, data_epoch)], "{verb:?}");
        let running = i64::from(status == Status::Running);
        let sql = "SELECT count(*) FROM quota_reservation WHERE kind = 'running'";
        assert_eq!(fleet.controller.count(sql), running, "{verb:?}");
    }
    let deletion = fleet.verb(id, Verb::Delete).await;
    assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    fleet.until_clean().await;
}

/// Each step fails for good once: the saga names it, and nothing is left.
#[tokio::test(start_paused = true)]
async fn a_step_that_fails_leaves_nothing() {
    let missing = DeviceSpec { image: Some("phonefleet/missing:dev".to_owned()), ..spec(&[]) };
    let cases = [
        ("CREATE_PROVIDER_DEVICE", "IMAGE_MISSING", missing),
        ("START_DEVICE", "BOOT_TIMEOUT", spec(&["androidboot.phonesim_fault=boot_hang"])),
        ("START_DEVICE", "BOOT_FAILED", spec(&["androidboot.phonesim_fault=exit_129"])),
    ];
    let fleet = Fleet::start(1).await;
    for (step, code, spec) in cases {
        let began = Instant::now();
        let order = fleet.create("phone", spec).await;
        let saga = fleet.ended(&order.saga_id).await;
        assert_eq!((saga.status, saga.cause), (SagaStatus::Compensated, Some(Cause::Failed)), "{saga:?}");
        assert_eq!(saga.failed_step.as_deref(), Some(step), "{saga:?}");
        assert!(saga.error_message.as_deref().is_some_and(|why| why.starts_with(code)), "{saga:?}");
        // A hang is not waited for three times over.
        assert!(began.elapsed() < Duration::from_secs(120), "{code}: {:?}", began.elapsed());
        fleet.until_clean().await;
    }
}

/// The engine fails each call once, in each way: the phone runs all the same, or nothing is left.
#[tokio::test(start_paused = true)]
async fn an_engine_that_fails_is_retried_or_undone() {
    let faults = [
        EngineFault::Unavailable,
        EngineFault::DoneButUnavailable,
        EngineFault::Refused,
        EngineFault::Hang(Duration::from_secs(20)),
    ];
    for call in [Call::Create, Call::Start, Call::Inspect, Call::Kill, Call::Remove] {
        for fault in &faults {
            let fleet = Fleet::start(1).await;
            fleet.hosts[0].machine.fail(call, 1, fault.clone());
            let order = fleet.create("phone", spec(&[])).await;
            let saga = fleet.ended(&order.saga_id).await;
            let id = order.device.device_id;
            match saga.status {
                SagaStatus::Completed => {
                    assert_eq!(fleet.hosts[0].machine.starts(id), 1, "{call:?} {fault:?}");
                    let deletion = fleet.verb(id, Verb::Delete).await;
                    let end = fleet.ended(&deletion.saga_id).await;
                    assert_eq!(end.status, SagaStatus::Completed, "{call:?} {fault:?} {end:?}");
                }
                SagaStatus::Compensated => assert_eq!(*fault, EngineFault::Refused, "{call:?}: {saga:?}"),
                _ => panic!("{call:?} {fault:?}: {saga:?}"),
            }
            fleet.until_clean().await;
        }
    }
}

/// Which daemon a crash test kills.
#[derive(Clone, Copy, Debug)]
enum Side {
    Agent,
    Controller,
}

/// Kills a daemon at the n-th commit or effect of a creation and the following deletion,
/// for every n, and starts it again.
async fn crash_everywhere(side: Side) {
    let mut nth = 1;
    loop {
        let fleet = Fleet::start(1).await;
        let point = match side {
            Side::Agent => fleet.hosts[0].agent.crash.clone(),
            Side::Controller => fleet.controller.crash.clone(),
        };
        let machine = &fleet.hosts[0].machine;
        let last = point.passed() + nth;
        point.arm(nth);
        // The answer may be lost with the controller: the order stands or not, and a caller
        // asks again under the same name.
        let order = loop {
            let order =
                tokio::time::timeout(Duration::from_secs(30), fleet.try_create("phone", spec(&[]))).await;
            match order {
                Ok(Ok(order)) => break order.device,
                Ok(Err(OrderError::NameTaken { .. })) => {
                    let filter = phonefleet_controller::store::device::Filter::default();
                    let found = fleet
                        .read(move |connection| {
                            phonefleet_controller::store::device::page(connection, &filter, "", 10)
                        })
                        .await;
                    break found.into_iter().next().expect("the device of that name");
                }
                Ok(Err(error)) => panic!("crash at {nth}: {error}"),
                Err(_) => {}
            }
        };
        let id = order.device_id;
        let saga = fleet.device(id).await.saga_id.expect("its saga");
        let end = fleet.ended(&saga).await;
        assert_eq!(end.status, SagaStatus::Completed, "crash at {nth} of {side:?}: {end:?}");
        assert_eq!(fleet.device(id).await.status, Status::Running, "crash at {nth} of {side:?}");
        assert_eq!(machine.starts(id), 1, "crash at {nth} of {side:?}: started once, and never again");
        let deletion = loop {
            let asked = tokio::time::timeout(Duration::from_secs(30), fleet.try_verb(id, Verb::Delete)).await;
            match asked {
                Ok(Ok(deletion)) => break deletion,
                Ok(Err(error)) => panic!("crash at {nth}: {error}"),
                Err(_) => {}
            }
        };
        let end = fleet.ended(&deletion.saga_id).await;
        assert_eq!(end.status, SagaStatus::Completed, "crash at {nth} of {side:?}: {end:?}");
        fleet.until_clean().await;
        assert_eq!(machine.starts(id), 1, "crash at {nth} of {side:?}: not started on its way out");
        if point.passed() < last {
            // The whole life passed without reaching the crash: every point was tried.
            println!("{side:?}: killed at each of {} commits and effects", nth - 1);
            assert!(nth > 15, "{side:?} does more than {nth} things");
            return;
        }
        nth += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_may_die_at_every_commit_and_effect() {
    crash_everywhere(Side::Agent).await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_may_die_at_every_commit() {
    crash_everywhere(Side::Controller).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_loses_everything_for_a_while_only_delays() {
    let fleet = Fleet::start(1).await;
    fleet.broker.set_fate(|_| Fate::Drop);
    let order = fleet.create("phone", spec(&[])).await;
    sleep(Duration::from_secs(20)).await;
    fleet.broker.forget();
    let mut count = 0_u32;
    fleet.broker.set_fate(move |_| {
        count += 1;
        match count % 5 {
            0 => Fate::Drop,
            1 => Fate::Twice,
            2 => Fate::Delay(Duration::from_millis(700)),
            _ => Fate::Deliver,
        }
    });
    let saga = fleet.ended(&order.saga_id).await;
    assert_eq!(saga.status, SagaStatus::Completed, "{saga:?}");
    assert_eq!(fleet.hosts[0].machine.starts(order.device.device_id), 1);
    let deletion = fleet.verb(order.device.device_id, Verb::Delete).await;
    assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    fleet.until_clean().await;
}

/// Without its host a creation times out and waits, by name, holding what it must; with
/// the host back it is undone; with the host forgotten everything is given back at once.
#[tokio::test(start_paused = true)]
async fn an_unreachable_host_holds_and_a_forgotten_one_gives_back() {
    for forget in [false, true] {
        let fleet = Fleet::start(1).await;
        let host = &fleet.hosts[0];
        let running = fleet.create("running", spec(&[])).await;
        assert_eq!(fleet.ended(&running.saga_id).await.status, SagaStatus::Completed);
        host.agent.stop();
        let order = fleet.create("late", spec(&[])).await;
        fleet
            .until("the saga turns round and names what it waits for", || async {
                let saga = fleet.saga(&order.saga_id).await;
                saga.status == SagaStatus::Compensating
                    && saga.wait_reason.as_deref() == Some("HOST_UNREACHABLE")
            })
            .await;
        assert_eq!(fleet.controller.count("SELECT count(*) FROM quota_reservation"), 4);
        if forget {
            assert_eq!(fleet.forget(&host.id).await, 2);
            assert_eq!(fleet.controller.count("SELECT count(*) FROM quota_reservation"), 0);
            let saga = fleet.ended(&order.saga_id).await;
            assert_eq!(saga.status, SagaStatus::Compensated, "{saga:?}");
            assert_eq!(host.machine.phones().len(), 1, "the phone runs on until its host is told");
        }
        host.agent.release();
        let saga = fleet.ended(&order.saga_id).await;
        assert_eq!((saga.status, saga.cause), (SagaStatus::Compensated, Some(Cause::Timeout)));
        if !forget {
            assert_eq!(host.machine.starts(running.device.device_id), 1, "the other phone was left alone");
            let deletion = fleet.verb(running.device.device_id, Verb::Delete).await;
            assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
        }
        fleet.until_clean().await;
    }
}

#[tokio::test(start_paused = true)]
async fn quota_is_never_oversold() {
    let fleet = Fleet::start(2).await;
    let mut accepted = Vec::new();
    let mut refused = 0;
    for number in 0..20 {
        match fleet.try_create(&format!("phone-{number}"), spec(&[])).await {
            Ok(order) => accepted.push(order),
            Err(OrderError::QuotaExceeded(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((accepted.len(), refused), (5, 15));
    for order in &accepted {
        assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
    }
    // Spread: neither host has them all.
    assert!(fleet.hosts.iter().all(|host| host.machine.phones().len() >= 2));
    for order in &accepted {
        let deletion = fleet.verb(order.device.device_id, Verb::Delete).await;
        assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    }
    fleet.until_clean().await;
}

/// A deletion in the middle of a creation, at many moments of it.
#[tokio::test(start_paused = true)]
async fn a_deletion_cancels_what_runs() {
    for wait in (0..1500).step_by(75) {
        let fleet = Fleet::start(1).await;
        let order = fleet.create("phone", spec(&[])).await;
        sleep(Duration::from_millis(wait)).await;
        let deletion = fleet.verb(order.device.device_id, Verb::Delete).await;
        let end = fleet.ended(&deletion.saga_id).await;
        assert_eq!(end.status, SagaStatus::Completed, "after {wait} ms: {end:?}");
        let creation = fleet.ended(&order.saga_id).await;
        match creation.status {
            SagaStatus::Completed => {}
            SagaStatus::Compensated => assert_eq!(creation.cause, Some(Cause::Cancelled)),
            _ => panic!("after {wait} ms: {creation:?}"),
        }
        fleet.until_clean().await;
    }
}
