//! DEVICE_CREATION: from an accepted order to a phone that has booted, or to nothing.
//!
//! The order's transaction has already reserved quota, chosen the host and written the
//! row. The way back ends with the host's word that the device is absent; quota and row
//! go in that last transaction.

use super::definition::{Definition, OnFailure, Step, StepContext, StepOutcome};
use super::device_step::{announce, ensure, load, release, set_status};
use crate::store::device::{self as table, Status};
use crate::store::saga::SagaStatus;
use crate::store::{Result, quota};
use phonefleet_protocol::desired::Wish;
use std::time::Duration;

/// The definition.
pub const DEFINITION: Definition = Definition {
    saga_type: "DEVICE_CREATION",
    version: 1,
    timeout: Some(Duration::from_secs(600)),
    on_failure: OnFailure::TurnRound,
    steps: &[
        Step {
            name: "ALLOCATE_PORTS",
            execute: |context| ensure(context, Wish::Reserved, |_| {}),
            compensate: Some(|context| ensure(context, Wish::Absent, |_| {})),
        },
        Step {
            name: "CREATE_PROVIDER_DEVICE",
            execute: |context| ensure(context, Wish::Stopped, |_| {}),
            compensate: Some(|context| ensure(context, Wish::Reserved, |_| {})),
        },
        Step { name: "CREATE_DATABASE_RECORD", execute: create_record, compensate: Some(remove_record) },
        Step {
            name: "REPORT_QUOTA_USAGE",
            execute: |context| report_usage(context, true),
            compensate: Some(|context| report_usage(context, false)),
        },
        Step {
            name: "START_DEVICE",
            execute: |context| ensure(context, Wish::Running, |_| {}),
            compensate: Some(|context| ensure(context, Wish::Stopped, |_| {})),
        },
    ],
    at_end,
};

/// Ports, container and state came with the host's answers, in the transactions that
/// applied them; what is left is to say so to subscribers.
fn create_record(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let (_, device) = load(context)?;
    announce(context, &device, "device.created")?;
    Ok(StepOutcome::Done)
}

fn remove_record(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let (_, mut device) = load(context)?;
    if device.deleted_at.is_some() {
        // Given up together with its host.
        return Ok(StepOutcome::Done);
    }
    device.status = Status::Deleting;
    table::update(context.tx, &device, context.now)?;
    announce(context, &device, "device.creation_undone")?;
    Ok(StepOutcome::Done)
}

fn report_usage(context: &mut StepContext<'_, '_>, used: bool) -> Result<StepOutcome> {
    let (state, _) = load(context)?;
    quota::set_used(context.tx, state.device_id, used)?;
    Ok(StepOutcome::Done)
}

fn at_end(context: &mut StepContext<'_, '_>) -> Result<()> {
    if context.saga.status == SagaStatus::Completed {
        set_status(context, None)
    } else {
        release(context, "device.deleted")?;
        set_status(context, None)
    }
}
