//! DEVICE_DELETION: nothing of the device is left. Accepted in every state; it has no
//! deadline and no way back, and ends only when the host has confirmed, or was forgotten.

use super::definition::{Definition, OnFailure, Step, StepContext, StepOutcome};
use super::device_step::{ensure, load, release};
use super::engine::Engine;
use crate::recording::finalize::finalize_recordings;
use crate::store::Result;
use crate::store::saga::{self as sagas, SagaStatus};
use phonefleet_protocol::desired::Wish;

/// The definition.
pub const DEFINITION: Definition = Definition {
    saga_type: "DEVICE_DELETION",
    version: 1,
    timeout: None,
    on_failure: OnFailure::Persist,
    steps: &[
        Step { name: "CANCEL_ACTIVE_SAGA", execute: cancel_active, compensate: None },
        Step { name: "FINALIZE_RECORDINGS", execute: finalize_recordings, compensate: None },
        Step {
            name: "REMOVE_DEVICE",
            execute: |context| ensure(context, Wish::Absent, |_| {}),
            compensate: None,
        },
        Step { name: "RELEASE", execute: release_all, compensate: None },
    ],
    at_end: |_| Ok(()),
};

/// The saga that was active was turned round in the transaction that accepted the
/// deletion; this waits until it has ended, or takes over where it cannot go on.
fn cancel_active(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let (state, _) = load(context)?;
    let Some(active) = state.cancels.and_then(|id| id.parse().ok()) else { return Ok(StepOutcome::Done) };
    match sagas::find(context.tx, &active)? {
        Some(mut saga) if saga.status == SagaStatus::NeedsAttention => {
            Engine::supersede(context.tx, &mut saga, "the device is being deleted", context.now)?;
            Ok(StepOutcome::Done)
        }
        Some(saga) if !saga.status.is_terminal() => {
            // Events of the device wake its newest saga, which is this one: pass it on.
            Engine::nudge(context.tx, &active, context.now)?;
            Ok(StepOutcome::Wait("ACTIVE_SAGA"))
        }
        _ => Ok(StepOutcome::Done),
    }
}

fn release_all(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    release(context, "device.deleted")?;
    Ok(StepOutcome::Done)
}
