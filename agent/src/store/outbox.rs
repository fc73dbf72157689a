//! Events for the controller, written in the transaction that they tell of.

use super::{CONTROLLER, Notice, Tx, unwritable};
use phonefleet_protocol::event::Event;
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::item::Item;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{self, Connection};
use phonefleet_store::stream_log::{EVENT_OUTBOX, Labels};

/// Appends an event about a device and returns its number.
pub fn append(
    tx: &mut Tx<'_>,
    device: DeviceId,
    event: &Event,
    now: Timestamp,
) -> Result<u64, rusqlite::Error> {
    append_about(tx, "device", &device.to_string(), event, now)
}

/// Appends an event about a recording and returns its number.
pub fn append_recording(
    tx: &mut Tx<'_>,
    recording: RecordingId,
    event: &Event,
    now: Timestamp,
) -> Result<u64, rusqlite::Error> {
    append_about(tx, "recording", &recording.to_string(), event, now)
}

fn append_about(
    tx: &mut Tx<'_>,
    aggregate_type: &str,
    aggregate_id: &str,
    event: &Event,
    now: Timestamp,
) -> Result<u64, rusqlite::Error> {
    let item = event.encode().map_err(unwritable)?;
    let labels = Labels { aggregate_type, aggregate_id, event_type: event.kind() };
    let number = EVENT_OUTBOX.append(tx, CONTROLLER, labels, &item, now)?;
    tx.announce(Notice::OutboxGrew);
    Ok(number)
}

/// Events that the controller is not known to have, and when the oldest was written. `heard`
/// is what the conversation has heard of: the number in the database may be seconds behind,
/// as it is written along with other work.
pub fn pending(connection: &Connection, heard: u64) -> Result<(u64, Option<Timestamp>), rusqlite::Error> {
    let acknowledged = EVENT_OUTBOX.acknowledged(connection, CONTROLLER)?.max(heard);
    EVENT_OUTBOX.pending(connection, CONTROLLER, acknowledged)
}
