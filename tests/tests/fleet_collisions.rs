//! What two sagas of one device, a host that is given up, an operator and a restored
//! backup can do to each other: nothing waits for ever, nothing leaks, nothing is oversold.

use phonefleet_controller::fleet::apply;
use phonefleet_controller::order::{self, Verb};
use phonefleet_controller::store::device::Status;
use phonefleet_controller::store::saga::SagaStatus;
use phonefleet_controller::store::{Tx, saga as sagas};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::Event;
use phonefleet_protocol::facts::{DeviceFacts, Phase};
use phonefleet_protocol::id::{DeviceId, SystemIds};
use phonefleet_protocol::time::Timestamp;
use phonefleet_tests::database_copy::DatabaseCopy;
use phonefleet_tests::fleet::{Fleet, spec};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const RUNNING: &str = "SELECT count(*) FROM quota_reservation WHERE kind = 'running'";

async fn write<T: Send + 'static>(fleet: &Fleet, job: impl FnMut(&mut Tx<'_>) -> T + Send + 'static) -> T {
    let mut job = job;
    let store = fleet.handle().await.store;
    let done = store.write(move |tx| Ok::<_, phonefleet_store::rusqlite::Error>(job(tx))).await;
    done.unwrap_or_else(|error| panic!("{error}"))
}

async fn running_phone(fleet: &Fleet) -> DeviceId {
    let order = fleet.create("phone", spec(&[])).await;
    assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
    order.device.device_id
}

async fn delete(fleet: &Fleet, device: DeviceId) {
    let deletion = fleet.verb(device, Verb::Delete).await;
    let end = fleet.ended(&deletion.saga_id).await;
    assert_eq!(end.status, SagaStatus::Completed, "{end:?}");
    fleet.until_clean().await;
}

/// The controller dies at the n-th commit after it accepted a deletion that cancels a
/// creation: each of the two sagas wakes the other one, and neither wake may be lost.
#[tokio::test(start_paused = true)]
async fn no_crash_loses_a_wake_between_a_deletion_and_what_it_cancels() {
    for wait in [0, 120, 700] {
        for nth in 1.. {
            let fleet = Fleet::start(1).await;
            let order = fleet.create("phone", spec(&[])).await;
            sleep(Duration::from_millis(wait)).await;
            let id = order.device.device_id;
            let last = fleet.controller.crash.passed() + nth;
            fleet.controller.crash.arm(nth);
            let deletion = loop {
                let asked = timeout(Duration::from_secs(30), fleet.verb(id, Verb::Delete)).await;
                if let Ok(deletion) = asked {
                    break deletion;
                }
            };
            let end = fleet.ended(&deletion.saga_id).await;
            assert_eq!(end.status, SagaStatus::Completed, "after {wait} ms, crash at {nth}: {end:?}");
            fleet.until_clean().await;
            if fleet.controller.crash.passed() < last {
                assert!(nth > 8, "a deletion has more than {nth} commits");
                break;
            }
        }
    }
}

/// A host is given up while a deletion waits for the creation that it cancelled.
#[tokio::test(start_paused = true)]
async fn a_forgotten_host_ends_the_deletion_and_what_it_waits_for() {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let order = fleet.create("phone", spec(&[])).await;
    sleep(Duration::from_millis(120)).await;
    host.agent.stop();
    let id = order.device.device_id;
    let deletion = fleet.verb(id, Verb::Delete).await;
    fleet
        .until("the creation waits for its host", || async {
            fleet.saga(&order.saga_id).await.wait_reason.as_deref() == Some("HOST_UNREACHABLE")
        })
        .await;
    assert_eq!(fleet.saga(&deletion.saga_id).await.wait_reason.as_deref(), Some("ACTIVE_SAGA"));
    assert_eq!(fleet.forget(&host.id).await, 1);
    assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Compensated);
    assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    assert_eq!(fleet.device(id).await.status, Status::Deleted);
    host.agent.release();
    fleet.until_clean().await;
}

/// What a creation was in the middle of when its host was given up is no excuse for its
/// history to say that it is still being deleted.
#[tokio::test(start_paused = true)]
async fn the_history_of_a_creation_on_a_forgotten_host_says_deleted() {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let order = fleet.create("phone", spec(&[])).await;
    fleet
        .until("the phone starts", || async {
            fleet.saga(&order.saga_id).await.current_step == "START_DEVICE"
        })
        .await;
    host.agent.stop();
    fleet
        .until("it turned round", || async {
            fleet.saga(&order.saga_id).await.wait_reason.as_deref() == Some("HOST_UNREACHABLE")
        })
        .await;
    fleet.forget(&host.id).await;
    assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Compensated);
    assert_eq!(fleet.device(order.device.device_id).await.status, Status::Deleted);
}

/// A saga that stops for an operator on its way back does not hold up the deletion of its
/// device, whichever came first.
#[tokio::test(start_paused = true)]
async fn a_deletion_takes_over_from_a_saga_that_needs_attention() {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let order = fleet.create("phone", spec(&[])).await;
    sleep(Duration::from_millis(120)).await;
    host.agent.stop();
    let deletion = fleet.verb(order.device.device_id, Verb::Delete).await;
    fleet
        .until("the creation waits for its host", || async {
            fleet.saga(&order.saga_id).await.wait_reason.as_deref() == Some("HOST_UNREACHABLE")
        })
        .await;
    let saga = order.saga_id.clone();
    let stopped = write(&fleet, move |tx| {
        phonefleet_controller::saga::Engine::stop_for_attention(tx, &saga, "a test", Timestamp(0))
    })
    .await;
    stopped.unwrap();
    host.agent.release();
    assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Abandoned);
    assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    fleet.until_clean().await;
}

/// An event from before an order must not take back what the order has reserved.
#[tokio::test(start_paused = true)]
async fn a_late_event_does_not_give_back_the_right_to_run() {
    for verb in [Verb::Start, Verb::Reset] {
        let fleet = Fleet::start(1).await;
        let id = running_phone(&fleet).await;
        let stop = fleet.verb(id, Verb::Stop).await;
        assert_eq!(fleet.ended(&stop.saga_id).await.status, SagaStatus::Completed);
        assert_eq!(fleet.controller.count(RUNNING), 0);
        let device = fleet.device(id).await;
        let facts = DeviceFacts {
            device_id: id,
            generation: device.generation,
            attempt: device.attempt,
            question: None,
            phase: Phase::Stopped,
            ports: device.ports,
            container_id: device.container_id,
            reason: None,
            starts: 1,
            boot_count: 0,
            data_epoch: 0,
        };
        let handle = fleet.handle().await;
        let (engine, policy, host) = (handle.engine, handle.settings.quota, fleet.hosts[0].id.clone());
        let now = handle.clock.now();
        let accepted = write(&fleet, move |tx| {
            let accepted = order::verb(tx, &engine, policy, id, verb, &SystemIds, now).unwrap();
            let late = Event::Changed { facts: facts.clone(), at: now };
            apply::event(&engine, tx, &host, late, now).unwrap();
            accepted
        })
        .await;
        let end = fleet.ended(&accepted.saga_id).await;
        assert_eq!(end.status, SagaStatus::Completed, "{verb:?}: {end:?}");
        assert_eq!(fleet.controller.count(RUNNING), 1, "{verb:?}");
        delete(&fleet, id).await;
    }
}

/// The story of a deletion is kept for 30 days, and its device's history for longer.
#[tokio::test(start_paused = true)]
async fn a_device_that_is_long_gone_is_not_deleted_again() {
    let fleet = Fleet::start(1).await;
    let id = running_phone(&fleet).await;
    delete(&fleet, id).await;
    let removed = write(&fleet, |tx| sagas::prune(tx, Timestamp(i64::MAX), 100)).await;
    assert_eq!(removed.unwrap(), 2);
    assert!(fleet.try_verb(id, Verb::Delete).await.is_err());
    assert_eq!(fleet.device(id).await.status, Status::Deleted);
}

/// The controller comes back from a backup that knows fewer resets and reboots than the host
/// has done: once its host was heard, the next ones are done all the same.
#[tokio::test(start_paused = true)]
async fn a_restored_controller_resets_and_reboots_anew() {
    for verb in [Verb::Reset, Verb::Reboot] {
        let fleet = Fleet::start(1).await;
        let host = &fleet.hosts[0];
        let id = running_phone(&fleet).await;
        sleep(Duration::from_secs(5)).await;
        fleet.controller.stop();
        sleep(Duration::from_secs(1)).await;
        let saved = DatabaseCopy::of(&fleet.controller.database);
        fleet.controller.release();
        for verb in [Verb::Reset, Verb::Reboot, Verb::Reset, Verb::Reboot] {
            let order = fleet.verb(id, verb).await;
            assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
        }
        sleep(Duration::from_secs(5)).await;
        let done = || {
            let epoch = host.machine.data().iter().filter(|data| data.0 == id).map(|data| data.1).max();
            (epoch, host.machine.starts(id))
        };
        let before = done();
        assert_eq!(before.0, Some(2));
        fleet.controller.stop();
        sleep(Duration::from_secs(1)).await;
        saved.put_back();
        fleet.controller.release();
        sleep(Duration::from_secs(30)).await;
        let known = fleet.device(id).await;
        assert_eq!((known.boot_count, known.data_epoch), (2, 2));
        assert_eq!(done(), before);
        let order = fleet.verb(id, verb).await;
        assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
        let erased = u32::from(matches!(verb, Verb::Reset));
        assert_eq!(done(), (Some(2 + erased), before.1 + 1), "{verb:?}");
        delete(&fleet, id).await;
        fleet.until_clean().await;
    }
}

/// A host that says that it has done as many resets as are asked for, and of a newer
/// generation, is not made to do one more: nobody knows whether it was this one.
#[tokio::test(start_paused = true)]
async fn a_reset_that_its_host_has_overtaken_fails_by_name() {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let id = running_phone(&fleet).await;
    let before = (host.machine.data(), host.machine.starts(id));
    host.agent.stop();
    sleep(Duration::from_secs(1)).await;
    let order = fleet.verb(id, Verb::Reset).await;
    fleet
        .until("the reset to be told", || async {
            fleet.saga(&order.saga_id).await.current_step == "RESET_DATA"
        })
        .await;
    sleep(Duration::from_secs(1)).await;
    let device = fleet.device(id).await;
    assert_eq!((device.wish, device.data_epoch), (Wish::Stopped, 1));
    let facts = DeviceFacts {
        device_id: id,
        generation: device.generation + 2,
        attempt: 1,
        question: None,
        phase: Phase::Running,
        ports: device.ports,
        container_id: device.container_id,
        reason: None,
        starts: 1,
        boot_count: 0,
        data_epoch: 1,
    };
    let outcome = phonefleet_protocol::event::Outcome::Outdated;
    let event = Event::Answer {
        generation: device.generation,
        attempt: device.attempt,
        outcome,
        facts,
        at: Timestamp(0),
    };
    let handle = fleet.handle().await;
    let (engine, name, now) = (handle.engine, host.id.clone(), handle.clock.now());
    write(&fleet, move |tx| apply::event(&engine, tx, &name, event.clone(), now).map(|_| ()).unwrap()).await;
    let refused = fleet.ended(&order.saga_id).await;
    let why = refused.error_message.as_deref().unwrap_or_default();
    assert!(
        why.contains("HOST_AHEAD") && refused.failed_step.as_deref() == Some("RESET_DATA"),
        "{refused:?}"
    );
    assert_eq!((host.machine.data(), host.machine.starts(id)), before);
    assert_eq!(fleet.device(id).await.wish, Wish::Running);
}

/// A reset that ended before the backup is not done again by a controller that comes back
/// from it, whatever its host has done since; nor is the phone stopped or started.
#[tokio::test(start_paused = true)]
async fn what_ended_before_a_backup_is_not_done_again_after_it() {
    for verb in [Verb::Reset, Verb::Reboot] {
        let fleet = Fleet::start(1).await;
        let host = &fleet.hosts[0];
        let id = running_phone(&fleet).await;
        let order = fleet.verb(id, verb).await;
        assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
        sleep(Duration::from_secs(5)).await;
        fleet.controller.stop();
        sleep(Duration::from_secs(1)).await;
        let saved = DatabaseCopy::of(&fleet.controller.database);
        fleet.controller.release();
        for verb in [Verb::Stop, Verb::Start] {
            let order = fleet.verb(id, verb).await;
            assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
        }
        sleep(Duration::from_secs(5)).await;
        let done = || {
            (
                host.machine.data(),
                host.machine.starts(id),
                host.machine.phone(id).map(|phone| phone.container.id),
            )
        };
        let before = done();
        fleet.controller.stop();
        sleep(Duration::from_secs(1)).await;
        saved.put_back();
        fleet.controller.release();
        sleep(Duration::from_secs(120)).await;
        assert_eq!(done(), before, "{verb:?}");
        assert_eq!(fleet.device(id).await.status, Status::Running);
        delete(&fleet, id).await;
        fleet.until_clean().await;
    }
}

/// A host comes back from a backup, and from a time when a phone existed that the
/// controller has long removed: the host is told again.
#[tokio::test(start_paused = true)]
async fn a_restored_host_is_told_again_of_what_was_removed() {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let id = running_phone(&fleet).await;
    sleep(Duration::from_secs(5)).await;
    host.agent.stop();
    sleep(Duration::from_secs(1)).await;
    let saved = DatabaseCopy::of(&host.agent.database);
    host.agent.release();
    delete(&fleet, id).await;
    host.agent.stop();
    sleep(Duration::from_secs(1)).await;
    saved.put_back();
    assert_eq!(host.agent.count("SELECT count(*) FROM port_lease WHERE state = 'LEASED'"), 2);
    host.agent.release();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(host.agent.count("SELECT count(*) FROM port_lease WHERE state = 'LEASED'"), 0);
    assert_eq!(host.agent.count("SELECT count(*) FROM device WHERE phase <> 'absent'"), 0);
    assert_eq!(fleet.device(id).await.status, Status::Deleted);
}

/// Numbers from outside that no honest host says are refused, and overflow nothing.
#[tokio::test(start_paused = true)]
async fn an_absurd_generation_is_refused() {
    let fleet = Fleet::start(1).await;
    let id = running_phone(&fleet).await;
    let handle = fleet.handle().await;
    let (engine, host) = (handle.engine, fleet.hosts[0].id.clone());
    let applied = write(&fleet, move |tx| {
        let facts = DeviceFacts {
            device_id: id,
            generation: u64::MAX,
            attempt: 1,
            question: None,
            phase: Phase::Running,
            ports: None,
            container_id: None,
            reason: None,
            starts: 1,
            boot_count: 0,
            data_epoch: 0,
        };
        let outcome = phonefleet_protocol::event::Outcome::Outdated;
        let event = Event::Answer { generation: 1, attempt: 1, outcome, facts, at: Timestamp(0) };
        apply::event(&engine, tx, &host, event, Timestamp(0)).unwrap()
    })
    .await;
    assert!(matches!(applied, phonefleet_link::Applied::Refused { .. }), "{applied:?}");
    delete(&fleet, id).await;
}
