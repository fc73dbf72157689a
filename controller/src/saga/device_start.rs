//! DEVICE_START: a stopped phone runs again.

use super::definition::{Definition, OnFailure, Step, StepContext, StepOutcome};
use super::device_step::{ensure, load, release_running, set_status};
use crate::quota;
use crate::store::Result;
use crate::store::quota::Kind;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::facts::Reason;
use std::time::Duration;

/// The definition.
pub const DEFINITION: Definition = Definition {
    saga_type: "DEVICE_START",
    version: 1,
    timeout: Some(Duration::from_secs(300)),
    on_failure: OnFailure::TurnRound,
    steps: &[
        Step { name: "CHECK_CONCURRENCY", execute: check, compensate: Some(give_back) },
        Step {
            name: "START_DEVICE",
            execute: |context| ensure(context, Wish::Running, |_| {}),
            compensate: Some(|context| ensure(context, Wish::Stopped, |_| {})),
        },
    ],
    at_end: |context| set_status(context, None),
};

/// The right to run was reserved in the transaction that accepted the order.
fn check(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let (state, _) = load(context)?;
    if quota::holds(context.tx, state.device_id, Kind::Running)? {
        return Ok(StepOutcome::Done);
    }
    Ok(StepOutcome::Failed(Reason::new("QUOTA_EXCEEDED", "the right to run was given back before the start")))
}

fn give_back(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    release_running(context)?;
    Ok(StepOutcome::Done)
}
