//! The controller's word about a recording becomes a row. Transitions of the database only.

use super::PHONE_FOLDER;
use super::phone_state::phone_state;
use super::plan::PhoneState;
use super::transition;
use crate::store::recording::{self, RecordingRow};
use crate::store::{Tx, device};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::recording::{DesiredRecording, EndCause, RecordingWish};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite;

/// Takes in one desired recording. `Err` inside: the controller broke the protocol, and why.
pub fn accept(
    tx: &mut Tx<'_>,
    desired: &DesiredRecording,
    now: Timestamp,
) -> Result<Result<(), String>, rusqlite::Error> {
    match recording::get(tx, desired.recording_id)? {
        None => begin(tx, desired, now)?,
        Some(row) if row.device() != desired.device_id => {
            return Ok(Err(format!("recording {} is one of device {}", row.id(), row.device())));
        }
        Some(row) => again(tx, row, desired.wish, now)?,
    }
    Ok(Ok(()))
}

fn begin(tx: &mut Tx<'_>, desired: &DesiredRecording, now: Timestamp) -> Result<(), rusqlite::Error> {
    let folder = format!("{PHONE_FOLDER}/{}", desired.recording_id);
    let row = RecordingRow::new(desired.clone(), folder);
    match refusal(tx, desired, now)? {
        Some(reason) => transition::fail(tx, row, reason, now),
        None => transition::change(tx, &row, now),
    }
}

/// Why it is not begun; the controller always gets an end.
fn refusal(
    tx: &mut Tx<'_>,
    desired: &DesiredRecording,
    now: Timestamp,
) -> Result<Option<Reason>, rusqlite::Error> {
    if desired.wish != RecordingWish::Recording {
        return Ok(Some(Reason::new("NEVER_STARTED", "it was stopped before this host had heard of it")));
    }
    if now > desired.not_after {
        let text = format!("the order came after {}, and is not begun later", desired.not_after);
        return Ok(Some(Reason::new("TOO_LATE", text)));
    }
    let faults = desired.spec.faults();
    if !faults.is_empty() {
        let text: Vec<_> =
            faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect();
        return Ok(Some(Reason::new("INVALID_SPEC", text.join("; "))));
    }
    let device = device::get(tx, desired.device_id)?;
    if matches!(phone_state(device.as_ref()), PhoneState::Down { .. }) {
        return Ok(Some(Reason::new("DEVICE_NOT_RUNNING", "the device does not run; start it, then record")));
    }
    let busy = recording::active_of(tx, desired.device_id)?;
    Ok(busy.map(|other| {
        Reason::new("BUSY", format!("recording {} of this device is not over; stop it first", other.id()))
    }))
}

/// A word about a recording that is known: the wish only ever goes down, and the same word
/// gets the same facts again.
fn again(
    tx: &mut Tx<'_>,
    mut row: RecordingRow,
    wish: RecordingWish,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    if wish <= row.desired.wish {
        return transition::say(tx, &row, now);
    }
    row.desired.wish = wish;
    if row.phase.is_terminal() {
        recording::put(tx, &row)?;
        // What is deleted was told, and goes.
        return if wish == RecordingWish::Deleted { Ok(()) } else { transition::say(tx, &row, now) };
    }
    transition::end_is_due(&mut row, EndCause::Stopped, now);
    recording::put(tx, &row)
}

/// A device is to stop or go: what records on it ends now. Returns whether something does.
pub fn end_for_device(tx: &mut Tx<'_>, device: DeviceId, now: Timestamp) -> Result<bool, rusqlite::Error> {
    let Some(mut row) = recording::active_of(tx, device)? else { return Ok(false) };
    if row.end_cause.is_none() {
        transition::end_is_due(&mut row, EndCause::DeviceStopped, now);
        recording::put(tx, &row)?;
    }
    Ok(true)
}
