//! A change of mind about a device becomes a command in its host's log.
//!
//! A device has at most one unacknowledged command. While there is one, a further change
//! only marks the row; the transaction that applies the acknowledgement queues the newest
//! wish. So the log of a host that is away holds at most one item a device, however often
//! minds changed meanwhile.

use crate::recording::desire as recordings;
use crate::store::device::{self as table, DeviceRow};
use crate::store::{Notice, Result, Tx};
use phonefleet_link::domain::LogItem;
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::{DesiredDevice, QuestionId, Wish};
use phonefleet_protocol::id::{HostId, SagaId};
use phonefleet_protocol::item::Item;
use phonefleet_protocol::limits::ITEM_BYTES;
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::stream_log::COMMAND_OUTBOX;

/// Changes what a device shall be: a new generation, told to its host.
pub fn change_wish(tx: &mut Tx<'_>, device: &mut DeviceRow, wish: Wish, now: Timestamp) -> Result<()> {
    device.generation += 1;
    device.attempt = 1;
    device.wish = wish;
    ask(device, now);
    tell(tx, device, now)
}

/// Asks for another try of the same generation.
pub fn try_again(tx: &mut Tx<'_>, device: &mut DeviceRow, now: Timestamp) -> Result<()> {
    device.attempt += 1;
    ask(device, now);
    tell(tx, device, now)
}

/// The host knows a newer generation, of a time that this database has lost: the same
/// wish goes on above it.
pub fn outbid(tx: &mut Tx<'_>, device: &mut DeviceRow, known: u64, now: Timestamp) -> Result<()> {
    device.generation = known.saturating_add(1);
    device.attempt = 1;
    ask(device, now);
    tell(tx, device, now)
}

/// Another life of this database, one that a backup took back, may have asked the same host
/// under the same numbers. It did so for another order, or at another time.
fn ask(device: &mut DeviceRow, now: Timestamp) {
    let order = device.saga_id.as_ref().map_or("", SagaId::as_str);
    let before = device.question.map_or(0, |question| question.0);
    let (generation, attempt) = (device.generation, device.attempt);
    device.question = Some(QuestionId::of(&format!("{before:x} {generation} {attempt} {order} {}", now.0)));
}

/// Queues the device's wish, or marks it to be queued, and writes the row back.
pub fn tell(tx: &mut Tx<'_>, device: &mut DeviceRow, now: Timestamp) -> Result<()> {
    if device.command_seq.is_some() {
        device.command_dirty = true;
    } else {
        let item = item(&Command::Desire(device.desired()), &device.device_id.to_string())?;
        let host = device.host_id.as_str();
        let number = COMMAND_OUTBOX.append(tx, host, item.labels(), &item.item, now)?;
        device.command_seq = Some(number);
        device.command_dirty = false;
        tx.announce(Notice::Commands(device.host_id.clone()));
    }
    table::update(tx, device, now)
}

/// The host has committed everything up to `through`: what changed meanwhile goes next.
pub fn acknowledged(tx: &mut Tx<'_>, host: &HostId, through: u64, now: Timestamp) -> Result<()> {
    for mut device in table::acknowledged(tx, host, through)? {
        device.command_seq = None;
        if device.command_dirty && !planted(Mutant::ForgetDirty) {
            tell(tx, &mut device, now)?;
        } else {
            table::update(tx, &device, now)?;
        }
    }
    recordings::acknowledged(tx, host, through, now)
}

/// Every wish for a host, as the beginning of a new epoch of its log. Nothing is pending
/// any more: the snapshot carries the newest of everything.
pub fn snapshot(tx: &mut Tx<'_>, host: &HostId, now: Timestamp) -> Result<Vec<LogItem>> {
    let mut items = vec![item(&Command::SnapshotBegin {}, host.as_str())?];
    let mut chunk: Vec<DesiredDevice> = Vec::new();
    let mut size = 0;
    let mut wanted = table::wanted_on(tx, host)?;
    if planted(Mutant::SnapshotSkips) {
        wanted.pop();
    }
    for mut device in wanted {
        let desired = device.desired();
        let bytes = crate::store::json(&desired)?.len() + 1;
        // The envelope of a chunk has fewer than a hundred bytes.
        if size + bytes > ITEM_BYTES - 256 {
            items.push(item(
                &Command::SnapshotDevices { devices: std::mem::take(&mut chunk) },
                host.as_str(),
            )?);
            size = 0;
        }
        size += bytes;
        chunk.push(desired);
        if device.command_seq.is_some() || device.command_dirty {
            device.command_seq = None;
            device.command_dirty = false;
            table::update(tx, &device, now)?;
        }
    }
    if !chunk.is_empty() {
        items.push(item(&Command::SnapshotDevices { devices: chunk }, host.as_str())?);
    }
    items.extend(recordings::snapshot(tx, host)?);
    items.push(item(&Command::SnapshotEnd {}, host.as_str())?);
    Ok(items)
}

/// A command as a row of its host's log.
pub(crate) fn item(command: &Command, about: &str) -> Result<LogItem> {
    let (aggregate_type, event_type) = match command {
        Command::Desire(_) => ("device", "device.desire"),
        Command::SnapshotBegin {} => ("host", "snapshot.begin"),
        Command::SnapshotDevices { .. } => ("host", "snapshot.devices"),
        Command::Record(_) => ("recording", "recording.desire"),
        Command::SnapshotRecordings { .. } => ("host", "snapshot.recordings"),
        Command::SnapshotEnd {} => ("host", "snapshot.end"),
    };
    let item = command.encode().map_err(crate::store::unreadable)?;
    Ok(LogItem { aggregate_type, aggregate_id: about.to_owned(), event_type, item })
}
