//! A change of mind about a recording becomes a command in its host's log, as it does about
//! a device: at most one unacknowledged, and only the newest wish behind it.

use crate::fleet::desire::item;
use crate::store::recording::{self as table, RecordingRow, Status};
use crate::store::{Notice, Result, Tx};
use phonefleet_link::domain::LogItem;
use phonefleet_protocol::command::Command;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::limits::ITEM_BYTES;
use phonefleet_protocol::recording::{DesiredRecording, RecordingWish};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::stream_log::COMMAND_OUTBOX;

/// Queues the recording's wish, or marks it to be queued, and writes the row back.
pub fn tell(tx: &mut Tx<'_>, row: &mut RecordingRow, now: Timestamp) -> Result<()> {
    if row.command_seq.is_some() {
        row.command_dirty = true;
    } else {
        let item = item(&Command::Record(row.desired()), &row.recording_id.to_string())?;
        row.command_seq =
            Some(COMMAND_OUTBOX.append(tx, row.host_id.as_str(), item.labels(), &item.item, now)?);
        row.command_dirty = false;
        tx.announce(Notice::Commands(row.host_id.clone()));
    }
    // The answer to an order shows this row.
    row.updated_at = now;
    table::update(tx, row, now)
}

/// Asks for its end, unless that was asked for or has come.
pub fn stop(tx: &mut Tx<'_>, row: &mut RecordingRow, now: Timestamp) -> Result<()> {
    if row.status.is_terminal() || row.wish >= RecordingWish::Stopped {
        return Ok(());
    }
    row.wish = RecordingWish::Stopped;
    row.status = Status::Stopping;
    tell(tx, row, now)
}

/// Has its host delete what it keeps of a recording that has ended; the bytes are given back
/// at once. Repeated, it changes nothing.
pub fn delete(tx: &mut Tx<'_>, row: &mut RecordingRow, now: Timestamp) -> Result<bool> {
    if row.wish == RecordingWish::Deleted {
        return Ok(false);
    }
    row.wish = RecordingWish::Deleted;
    row.quota_bytes = 0;
    tell(tx, row, now)?;
    Ok(true)
}

/// The host has committed everything up to `through`: what changed meanwhile goes next.
pub fn acknowledged(tx: &mut Tx<'_>, host: &HostId, through: u64, now: Timestamp) -> Result<()> {
    for mut row in table::acknowledged(tx, host, through)? {
        row.command_seq = None;
        if row.command_dirty {
            tell(tx, &mut row, now)?;
        } else {
            table::update(tx, &row, now)?;
        }
    }
    Ok(())
}

/// What a host must hear of recordings at the beginning of a new epoch of its log. One that it
/// has told of, and that shall go on, is not named: it goes on by itself, and a host that was
/// emptied must not begin it a second time. Deletions are named for as long as their rows are
/// there: whether one was heard in an older epoch is not known.
pub fn snapshot(tx: &mut Tx<'_>, host: &HostId) -> Result<Vec<LogItem>> {
    table::nothing_pending(tx, host)?;
    let mut items = Vec::new();
    let mut chunk: Vec<DesiredRecording> = Vec::new();
    let mut size = 0;
    let whole =
        |recordings: Vec<DesiredRecording>| item(&Command::SnapshotRecordings { recordings }, host.as_str());
    let mut rows = table::active_on(tx, host)?;
    rows.extend(table::deleted_on(tx, host)?);
    for row in rows {
        if row.phase.is_some() && row.wish == RecordingWish::Recording {
            continue;
        }
        let desired = row.desired();
        let bytes = crate::store::json(&desired)?.len() + 1;
        // The envelope of a chunk has fewer than a hundred bytes.
        if size + bytes > ITEM_BYTES - 256 {
            items.push(whole(std::mem::take(&mut chunk))?);
            size = 0;
        }
        size += bytes;
        chunk.push(desired);
    }
    if !chunk.is_empty() {
        items.push(whole(chunk)?);
    }
    Ok(items)
}
