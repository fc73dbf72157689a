//! The step that most sagas share: tell the host a wish, and wait for its answer.

use super::definition::{StepContext, StepOutcome};
use super::engine::Engine;
use crate::fleet::apply::is_host_ahead;
use crate::fleet::desire;
use crate::quota;
use crate::recording::finalize::device_is_gone;
use crate::store::device::{self as table, DeviceRow, Status};
use crate::store::quota::Kind;
use crate::store::saga::{SagaRow, SagaStatus};
use crate::store::{Result, event_outbox, host};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What the device sagas keep in `state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceState {
    /// The device.
    pub device_id: DeviceId,
    /// The step (and direction) whose wish was already told: told once, then awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    /// The saga that a deletion cancels first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancels: Option<String>,
    /// How long the device's recordings may still take to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recordings_until: Option<Timestamp>,
}

impl DeviceState {
    /// The state of a saga about `device_id`.
    pub fn new(device_id: DeviceId) -> Self {
        Self { device_id, told: None, cancels: None, recordings_until: None }
    }
}

/// Whether the host was told the wish of the saga's present step.
pub fn was_told(saga: &SagaRow) -> bool {
    let state = serde_json::from_str::<DeviceState>(&saga.state);
    state.is_ok_and(|state| state.told.as_ref() == Some(&saga.current_step))
}

/// Reads the saga's state and its device.
///
/// # Errors
/// Those of SQLite, and a state or row that cannot be read: the saga then needs attention.
pub fn load(context: &mut StepContext<'_, '_>) -> Result<(DeviceState, DeviceRow)> {
    let state: DeviceState = serde_json::from_str(&context.saga.state).map_err(crate::store::unreadable)?;
    let device = table::find(context.tx, state.device_id)?
        .ok_or_else(|| crate::store::unreadable(format!("device {} has no row", state.device_id)))?;
    Ok((state, device))
}

/// Tells the host `wish` once, then waits for the answer to it. `change` raises counters
/// of the wish, such as the boot count.
pub fn ensure(
    context: &mut StepContext<'_, '_>,
    wish: Wish,
    change: impl FnOnce(&mut DeviceRow),
) -> Result<StepOutcome> {
    let (mut state, mut device) = load(context)?;
    if device.deleted_at.is_some() {
        // Forgotten together with its host: nothing is left to tell.
        return Ok(StepOutcome::Done);
    }
    let direction = if context.saga.status == SagaStatus::Running { "" } else { " back" };
    let told = format!("{}{direction}", context.saga.current_step);
    if state.told.as_ref() != Some(&told) {
        state.told = Some(told);
        context.saga.state = crate::store::json(&state)?;
        change(&mut device);
        desire::change_wish(context.tx, &mut device, wish, context.now)?;
        let impatient = planted(Mutant::DeletionDoesNotWait) && wish == Wish::Absent;
        if !impatient && !planted(Mutant::AnyAnswer) {
            return wait_for_host(context, &device);
        }
    }
    match device.current_answer() {
        None if planted(Mutant::DeletionDoesNotWait) && wish == Wish::Absent => Ok(StepOutcome::Done),
        None => wait_for_host(context, &device),
        Some(Outcome::Reached) => Ok(StepOutcome::Done),
        Some(Outcome::Failed { reason, retryable: true }) if !context.is_retry => {
            Ok(StepOutcome::Retry(reason.clone()))
        }
        Some(Outcome::Failed { retryable: true, .. } | Outcome::Outdated) => {
            desire::try_again(context.tx, &mut device, context.now)?;
            wait_for_host(context, &device)
        }
        // An operator who resumed wants another try where the host saw no use in one.
        Some(Outcome::Failed { .. }) if context.is_retry => {
            desire::try_again(context.tx, &mut device, context.now)?;
            wait_for_host(context, &device)
        }
        Some(Outcome::Failed { reason, .. }) => Ok(StepOutcome::Failed(reason.clone())),
    }
}

fn wait_for_host(context: &mut StepContext<'_, '_>, device: &DeviceRow) -> Result<StepOutcome> {
    let online = host::find(context.tx, &device.host_id)?.is_some_and(|host| host.online);
    Ok(StepOutcome::Wait(if online { "HOST_ANSWER" } else { "HOST_UNREACHABLE" }))
}

/// The last transaction of a device's life: quota and row go together.
pub fn release(context: &mut StepContext<'_, '_>, event: &str) -> Result<()> {
    let (_, mut device) = load(context)?;
    quota::release(context.tx, device.device_id, None)?;
    device_is_gone(context.tx, device.device_id, context.now)?;
    if device.deleted_at.is_some() {
        return Ok(());
    }
    device.status = Status::Deleted;
    device.deleted_at = Some(context.now);
    device.ports = None;
    device.container_id = None;
    table::update(context.tx, &device, context.now)?;
    announce(context, &device, event)
}

/// Sets what users see, unless the device is gone or another saga has taken it over.
pub fn set_status(context: &mut StepContext<'_, '_>, status: Option<Status>) -> Result<()> {
    let (_, mut device) = load(context)?;
    let mine = device.saga_id.as_ref() == Some(&context.saga.saga_id);
    if device.deleted_at.is_some() || !mine {
        // A deletion waits for this saga to end: let it look.
        if let Some(saga) = device.saga_id.filter(|_| !mine) {
            Engine::nudge(context.tx, &saga, context.now)?;
        }
        return Ok(());
    }
    // A saga that ended between a stop and a start holds the right to run for nobody.
    if device.wish == Wish::Stopped && device.current_answer() == Some(&Outcome::Reached) {
        quota::release(context.tx, device.device_id, Some(Kind::Running))?;
    }
    device.status = status.unwrap_or_else(|| crate::fleet::apply::status_of(&device));
    if device.current_answer().is_some_and(is_host_ahead) {
        // What the device is to be from here on has to be known above the host's numbers: it
        // calls this outdated, and is asked again.
        desire::tell(context.tx, &mut device, context.now)?;
    }
    table::update(context.tx, &device, context.now)?;
    announce(context, &device, "device.status")
}

/// Gives back the right to run.
pub fn release_running(context: &mut StepContext<'_, '_>) -> Result<()> {
    let (state, _) = load(context)?;
    quota::release(context.tx, state.device_id, Some(Kind::Running))
}

/// Appends an event about the device to the controller's outbox.
pub fn announce(context: &mut StepContext<'_, '_>, device: &DeviceRow, event: &str) -> Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        device_id: DeviceId,
        user_id: &'a str,
        host_id: &'a str,
        status: &'a str,
        saga_id: &'a str,
    }
    let id = device.device_id.to_string();
    let payload = Payload {
        device_id: device.device_id,
        user_id: device.user_id.as_str(),
        host_id: device.host_id.as_str(),
        status: device.status.name(),
        saga_id: context.saga.saga_id.as_str(),
    };
    event_outbox::append(context.tx, "device", &id, event, &payload, context.now)
}
