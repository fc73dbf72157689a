//! The step of sagas that stop, reboot, reset or remove a phone: its recordings end first,
//! by request and whole.

use super::{apply, desire};
use crate::saga::device_step::load;
use crate::saga::{StepContext, StepOutcome};
use crate::store::recording as table;
use crate::store::{Result, Tx, host};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// How long an online host gets to end a device's recordings. Its own deadlines, from SIGINT
/// to SIGKILL, and the check of the file add up to half of it. What comes later is no loss:
/// the host ends them by itself before it stops the phone.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for the end of the device's recordings, and waits for it. Does not wait for a host
/// that is away: the next step tells it the rest, and waits for it by name.
pub fn finalize_recordings(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    if planted(Mutant::TearRecordings) {
        return Ok(StepOutcome::Done);
    }
    let (mut state, device) = load(context)?;
    let active = table::active_of(context.tx, state.device_id)?;
    if active.is_empty() || device.deleted_at.is_some() {
        return Ok(StepOutcome::Done);
    }
    let names: Vec<_> = active.iter().map(|row| row.recording_id.to_string()).collect();
    for mut row in active {
        desire::stop(context.tx, &mut row, context.now)?;
    }
    if !host::find(context.tx, &device.host_id)?.is_some_and(|host| host.online) {
        return Ok(StepOutcome::Done);
    }
    let until = if let Some(until) = state.recordings_until {
        until
    } else {
        let until = context.now.after(PATIENCE);
        state.recordings_until = Some(until);
        context.saga.state = crate::store::json(&state)?;
        until
    };
    if context.now < until {
        return Ok(StepOutcome::WaitUntil("RECORDINGS", until));
    }
    tracing::warn!(saga = %context.saga.saga_id, device = %state.device_id, recordings = names.join(", "),
        "recordings did not end in time; the host ends them with the phone");
    Ok(StepOutcome::Done)
}

/// The device is gone for sure: what has not ended by now never tells its end.
pub fn device_is_gone(tx: &mut Tx<'_>, device: DeviceId, now: Timestamp) -> Result<()> {
    let mut active = table::active_of(tx, device)?;
    let why = Reason::new("LOST", "its device is gone, and its host never told of its end");
    apply::give_up(tx, &mut active, &why, now)
}
