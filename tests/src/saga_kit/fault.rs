//! What may go wrong at a step, and how it gets into every definition.
//!
//! A definition is made of plain functions, which cannot carry a fault with them. So each of
//! them is replaced by one function that finds the real one in the registry and looks at
//! this thread's fault: the kit runs every transaction on the thread of its test.

use phonefleet_controller::saga::definition::StepFunction;
use phonefleet_controller::saga::{Definition, REGISTRY, Registry, Step, StepContext, StepOutcome};
use phonefleet_controller::store::Result;
use phonefleet_controller::store::saga::{SagaRow, SagaStatus};
use phonefleet_protocol::facts::Reason;
use phonefleet_store::rusqlite;
use std::cell::{Cell, RefCell};

/// Code of failures that the kit ordered.
pub const ORDERED: &str = "ORDERED_BY_THE_KIT";

/// Which way a saga goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `execute`.
    Forward,
    /// `compensate`.
    Back,
}

/// A step of a saga, on one of its ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Type of the saga.
    pub saga_type: &'static str,
    /// Index of the step.
    pub step: usize,
    /// Which way.
    pub direction: Direction,
}

impl Place {
    /// Whether a saga is there now.
    pub fn is_of(self, saga: &SagaRow) -> bool {
        let direction = match saga.status {
            SagaStatus::Running => Direction::Forward,
            SagaStatus::Compensating => Direction::Back,
            _ => return false,
        };
        saga.saga_type == self.saga_type
            && saga.step_index as usize == self.step
            && direction == self.direction
    }
}

/// What goes wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, but the function is run twice in the place of once.
    Twice,
    /// It fails for good, having done nothing.
    FailsBefore,
    /// It does its work and fails for good.
    FailsAfter,
    /// It cannot be done now, this many times; then it can.
    Retries(u32),
    /// It does nothing and never answers: unknown.
    HangsBefore,
    /// It does its work and never answers: unknown too.
    HangsAfter,
    /// It panics.
    Panics,
    /// Its rows cannot be read.
    Unreadable,
    /// The host refuses for good.
    HostRefuses,
    /// The host cannot do it now, this many times; then it can.
    HostRetries(u32),
    /// The host never hears of it.
    HostDeaf,
    /// The host does it and its answer comes late.
    HostMute,
    /// The host knows a newer generation, of a time that the database has lost.
    HostAhead,
}

impl Fault {
    /// Whether it is the host's, and not the step function's.
    pub const fn is_of_host(self) -> bool {
        match self {
            Self::HostRefuses | Self::HostRetries(_) | Self::HostDeaf | Self::HostMute | Self::HostAhead => {
                true
            }
            Self::Twice
            | Self::FailsBefore
            | Self::FailsAfter
            | Self::Retries(_)
            | Self::HangsBefore
            | Self::HangsAfter
            | Self::Panics
            | Self::Unreadable => false,
        }
    }
}

thread_local! {
    static ORDERED_FAULTS: RefCell<Vec<(Place, Fault)>> = const { RefCell::new(Vec::new()) };
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Orders these faults on this thread, in the place of all that were ordered before.
pub fn order(faults: &[(Place, Fault)]) {
    ORDERED_FAULTS.with_borrow_mut(|ordered| faults.clone_into(ordered));
    CALLS.set(0);
}

/// The fault that is ordered for where a saga is now.
pub fn at(saga: &SagaRow) -> Option<Fault> {
    ORDERED_FAULTS
        .with_borrow(|ordered| ordered.iter().find(|(place, _)| place.is_of(saga)).map(|(_, fault)| *fault))
}

/// The controller's registry with the kit between every step and its engine. `raise` is added
/// to every version: a release that came, or went.
pub fn registry(raise: u32) -> Registry {
    let definitions: Vec<&'static Definition> = REGISTRY
        .0
        .iter()
        .map(|definition| {
            let steps: Vec<Step> = definition
                .steps
                .iter()
                .map(|step| Step {
                    execute: forward,
                    compensate: step.compensate.map(|_| -> StepFunction { back }),
                    ..*step
                })
                .collect();
            let changed =
                Definition { version: definition.version + raise, steps: steps.leak(), ..**definition };
            &*Box::leak(Box::new(changed))
        })
        .collect();
    Registry(definitions.leak())
}

fn forward(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let real = real_step(context.saga).execute;
    run(context, real)
}

fn back(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let real = real_step(context.saga).compensate.expect("only steps with a way back get this one");
    run(context, real)
}

fn real_step(saga: &SagaRow) -> Step {
    let found = REGISTRY.0.iter().find(|definition| definition.saga_type == saga.saga_type);
    found.expect("the kit's registry has the same definitions").steps[saga.step_index as usize]
}

fn run(context: &mut StepContext<'_, '_>, real: StepFunction) -> Result<StepOutcome> {
    let reason = || Reason::new(ORDERED, "ordered by the kit");
    match at(context.saga) {
        Some(Fault::Twice) => match real(context)? {
            first @ (StepOutcome::Retry(_) | StepOutcome::Failed(_)) => Ok(first),
            first => {
                let second = real(context)?;
                assert!(
                    first == second
                        || matches!((&first, &second), (StepOutcome::Wait(_), StepOutcome::Wait(_))),
                    "{}: first {first:?}, then {second:?}",
                    context.saga.current_step
                );
                Ok(second)
            }
        },
        Some(Fault::FailsBefore) => Ok(StepOutcome::Failed(reason())),
        Some(Fault::FailsAfter) => match real(context)? {
            StepOutcome::Done => Ok(StepOutcome::Failed(reason())),
            other => Ok(other),
        },
        Some(Fault::Retries(times)) => {
            // Only what follows a pause counts: anything may make a step look again.
            if CALLS.get() < times {
                CALLS.set(CALLS.get() + 1);
                return Ok(StepOutcome::Retry(reason()));
            }
            real(context)
        }
        Some(Fault::HangsBefore) => Ok(StepOutcome::Wait(ORDERED)),
        Some(Fault::HangsAfter) => match real(context)? {
            StepOutcome::Done => Ok(StepOutcome::Wait(ORDERED)),
            other => Ok(other),
        },
        Some(Fault::Panics) => panic!("{ORDERED}"),
        Some(Fault::Unreadable) => {
            Err(rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, ORDERED.into()))
        }
        Some(
            Fault::HostRefuses | Fault::HostRetries(_) | Fault::HostDeaf | Fault::HostMute | Fault::HostAhead,
        )
        | None => real(context),
    }
}
