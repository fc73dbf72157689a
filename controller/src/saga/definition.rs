//! What a saga is made of: named steps, each with its way back.

use crate::store::saga::SagaRow;
use crate::store::{Result, Tx};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// How a step ended, or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// Done; the next step may begin.
    Done,
    /// Waits for something that will wake it, named for people and programs.
    Wait(&'static str),
    /// The same, and the step looks again at this moment in any case.
    WaitUntil(&'static str, Timestamp),
    /// Could not be done now. Tried again after a pause, a few times.
    Retry(Reason),
    /// Cannot be done.
    Failed(Reason),
}

/// What a step works with: one transaction, and nothing outside of it.
pub struct StepContext<'a, 't> {
    /// The transaction. What a step does outside the database, it queues here.
    pub tx: &'a mut Tx<'t>,
    /// The present.
    pub now: Timestamp,
    /// The saga. A step may change its `state`, and nothing else of it.
    pub saga: &'a mut SagaRow,
    /// The pause after a [`StepOutcome::Retry`] is over: try again, do not only look.
    pub is_retry: bool,
}

/// A step's function. It is called again whenever something it waits for may have
/// happened, so it looks first and acts once: its outcome follows from the rows.
pub type StepFunction = fn(&mut StepContext<'_, '_>) -> Result<StepOutcome>;

/// One step and its way back.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its name, upper case; part of the stored format.
    pub name: &'static str,
    /// The way forward.
    pub execute: StepFunction,
    /// The way back; also run for the step that was in flight.
    pub compensate: Option<StepFunction>,
}

/// What follows when a step cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Turn round, or end if nothing can be undone.
    TurnRound,
    /// Retry for ever, and stop for an operator where retrying is useless.
    Persist,
}

/// A saga's definition. A change of steps raises the version; running sagas of another
/// version stop for an operator.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name, upper case; part of the stored format.
    pub saga_type: &'static str,
    /// Its version.
    pub version: u32,
    /// Deadline for the way forward.
    pub timeout: Option<Duration>,
    /// Its steps, in order; at least one.
    pub steps: &'static [Step],
    /// What follows when a step cannot be done.
    pub on_failure: OnFailure,
    /// Called in the transaction in which the saga ends, with the status it ends with:
    /// what must go last.
    pub at_end: fn(&mut StepContext<'_, '_>) -> Result<()>,
}

impl Definition {
    /// Whether any step has a way back.
    pub fn can_compensate(&self) -> bool {
        self.steps.iter().any(|step| step.compensate.is_some())
    }
}

/// The definitions that an engine knows.
#[derive(Clone, Copy, Debug)]
pub struct Registry(pub &'static [&'static Definition]);

impl Registry {
    /// The definition in force of that type; `usual` where it knows none.
    pub fn in_force(&self, usual: &'static Definition) -> &'static Definition {
        let found = self.0.iter().copied().find(|definition| definition.saga_type == usual.saga_type);
        found.unwrap_or(usual)
    }

    /// The definition of a stored saga; `None` where name or version is unknown, or the
    /// step is not one of it.
    pub fn of(&self, saga: &SagaRow) -> Option<&'static Definition> {
        self.0.iter().copied().find(|definition| {
            definition.saga_type == saga.saga_type
                && definition.version == saga.version
                && (saga.step_index as usize) < definition.steps.len()
        })
    }
}
