//! How a saga must end, and what must be there when it has.

use crate::scenario::{Begun, Scenario};
use phonefleet_controller::order::Verb;
use phonefleet_controller::saga::{Definition, OnFailure, RetryPolicy};
use phonefleet_controller::store::device::{DeviceRow, Status};
use phonefleet_controller::store::saga::{Cause, SagaRow, SagaStatus};
use phonefleet_tests::saga_kit::fault::{self, Direction, Fault, Place};

/// How a saga with one fault on its way forward must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// As if nothing had been.
    Completes,
    /// Undone, or ended where nothing can be undone; the step and the cause are named.
    Fails(Cause),
    /// It stops at that step for an operator, who lets it go on when it is repaired.
    Attention,
    /// It waits there, by name, and goes on when it is repaired.
    Waits,
}

impl Expected {
    /// What `fault` at the step means. `waits_for`: what it waits for when all is well.
    pub fn of(definition: &Definition, fault: Fault, waits_for: Option<&str>) -> Self {
        let persists = definition.on_failure == OnFailure::Persist;
        let retries = RetryPolicy::default().retries;
        let unknown = match definition.timeout {
            Some(_) => Self::Fails(Cause::Timeout),
            None => Self::Waits,
        };
        match fault {
            Fault::Twice | Fault::HostAhead => Self::Completes,
            Fault::Panics | Fault::Unreadable => Self::Attention,
            Fault::HangsBefore | Fault::HangsAfter => unknown,
            Fault::FailsBefore | Fault::FailsAfter if persists => Self::Attention,
            Fault::Retries(times) if times <= retries || persists => Self::Completes,
            Fault::FailsBefore | Fault::FailsAfter | Fault::Retries(_) => Self::Fails(Cause::Failed),
            Fault::HostDeaf | Fault::HostMute if matches!(waits_for, Some("HOST_ANSWER" | "ACTIVE_SAGA")) => {
                unknown
            }
            // Recordings are asked to end, and not waited for without end; a saga that is in
            // the way and cannot go on is taken over from.
            _ if waits_for != Some("HOST_ANSWER") => Self::Completes,
            Fault::HostDeaf | Fault::HostMute => unknown,
            Fault::HostRefuses if persists => Self::Attention,
            Fault::HostRetries(times) if times <= retries || persists => Self::Completes,
            Fault::HostRefuses | Fault::HostRetries(_) => Self::Fails(Cause::Failed),
        }
    }
}

/// The step's name of a place.
pub fn name_of(definition: &Definition, place: Place) -> &'static str {
    definition.steps[place.step].name
}

/// Asserts that the saga ended as expected, repairs what has to be, and leaves it at its end.
pub fn end(begun: &mut Begun, definition: &Definition, place: Place, expected: Expected, what: &str) {
    let step = name_of(definition, place);
    let saga = begun.world.saga(&begun.saga);
    let told = || format!("{what}: {saga:#?}\n{:#?}", begun.world.story(&begun.saga));
    match expected {
        Expected::Completes => {
            assert_eq!(saga.status, SagaStatus::Completed, "{}", told());
            assert_eq!((&saga.cause, &saga.failed_step), (&None, &None), "{}", told());
        }
        Expected::Fails(cause) => {
            assert_eq!(saga.status, failed_status(definition, cause), "{}", told());
            assert_eq!(saga.cause, Some(cause), "{}", told());
            assert_eq!(saga.failed_step.as_deref(), Some(step), "{}", told());
            assert!(saga.error_message.is_some(), "{}", told());
        }
        Expected::Attention => {
            assert_attention(&saga, step, &told());
            fault::order(&[]);
            begun.world.resume(&begun.saga);
            begun.world.settle();
            let saga = begun.world.saga(&begun.saga);
            assert_eq!(saga.status, SagaStatus::Completed, "{what}: resumed: {saga:#?}");
        }
        Expected::Waits => {
            assert_eq!((saga.status, saga.current_step.as_str()), (SagaStatus::Running, step), "{}", told());
            assert!(saga.wait_reason.is_some(), "{}", told());
            begun.world.heal();
            begun.world.settle();
            let saga = begun.world.saga(&begun.saga);
            assert_eq!(saga.status, SagaStatus::Completed, "{what}: healed: {saga:#?}");
        }
    }
}

/// Asserts that a saga stands at `step` for an operator, and says so.
pub fn assert_attention(saga: &SagaRow, step: &str, told: &str) {
    assert_eq!((saga.status, saga.current_step.as_str()), (SagaStatus::NeedsAttention, step), "{told}");
    assert_eq!((saga.wait_reason.as_deref(), saga.due_at), (Some("OPERATOR"), None), "{told}");
    assert!(saga.error_message.is_some(), "{told}");
}

/// How a saga ends that failed.
pub fn failed_status(definition: &Definition, cause: Cause) -> SagaStatus {
    match (definition.can_compensate(), cause) {
        (true, _) => SagaStatus::Compensated,
        (false, Cause::Timeout) => SagaStatus::Timeout,
        (false, Cause::Failed | Cause::Cancelled) => SagaStatus::Failed,
    }
}

/// What remains of a saga that everybody can see: the same after every way to the same end.
#[derive(Debug, PartialEq)]
pub struct Essence {
    saga: SagaStatus,
    status: Status,
    gone: bool,
    boot_count: u32,
    data_epoch: u32,
    starts: u64,
    left: Vec<String>,
}

impl Essence {
    /// Of a saga that has ended.
    pub fn of(begun: &Begun) -> Self {
        let DeviceRow { status, deleted_at, boot_count, data_epoch, .. } = begun.world.device(begun.device);
        Self {
            saga: begun.world.saga(&begun.saga).status,
            status,
            gone: deleted_at.is_some(),
            boot_count,
            data_epoch,
            starts: begun.world.host.phones.get(&begun.device).map_or(0, |phone| phone.facts.starts),
            left: begun.world.host.left_of(begun.device),
        }
    }
}

/// Database, quota and host agree; then the device can be deleted, which leaves nothing, and
/// a fresh order works.
pub fn clean_slate(scenario: &Scenario, begun: &mut Begun, what: &str) {
    fault::order(&[]);
    let wrong = begun.world.inconsistencies();
    let device = begun.world.device(begun.device);
    assert_eq!(wrong, Vec::<String>::new(), "{what}: {device:#?}\n{:#?}", begun.world.story(&begun.saga));
    let saga = begun.world.saga(&begun.saga);
    let undone = scenario.saga_type == "DEVICE_CREATION" && saga.status != SagaStatus::Completed;
    assert_eq!(
        device.deleted_at.is_some(),
        undone || scenario.saga_type == "DEVICE_DELETION",
        "{what}: {device:#?}"
    );
    if device.deleted_at.is_none() {
        let deletion = begun.world.verb(begun.device, Verb::Delete).saga_id;
        begun.world.settle();
        let saga = begun.world.saga(&deletion);
        assert_eq!(saga.status, SagaStatus::Completed, "{what}: {saga:#?}");
    }
    assert_eq!(begun.world.host.left_of(begun.device), Vec::<String>::new(), "{what}");
    let again = begun.world.create("phone");
    begun.world.settle();
    let saga = begun.world.saga(&again.saga_id);
    assert_eq!(saga.status, SagaStatus::Completed, "{what}: a fresh order: {saga:#?}");
    assert_eq!(begun.world.inconsistencies(), Vec::<String>::new(), "{what}: behind a fresh order");
}

/// Every step of a definition that has that way.
pub fn places(definition: &'static Definition, direction: Direction) -> Vec<Place> {
    let has = |step: &usize| direction == Direction::Forward || definition.steps[*step].compensate.is_some();
    (0..definition.steps.len())
        .filter(has)
        .map(|step| Place { saga_type: definition.saga_type, step, direction })
        .collect()
}
