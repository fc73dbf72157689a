//! What a host's word about a recording means: the row follows, its quota becomes what it
//! really takes, subscribers hear of it, and the saga that waits for its end goes on.

use super::desire;
use super::follow::{self, Change, follow};
use crate::saga::Engine;
use crate::store::recording::{self as table, RecordingRow, Status};
use crate::store::{Notice, RecordingEnd, Result, Tx, device, event_outbox};
use phonefleet_link::Applied;
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::{DeviceId, HostId};
use phonefleet_protocol::recording::{EndCause, RecordingFacts, RecordingSpec, RecordingWish};
use phonefleet_protocol::time::Timestamp;
use serde::Serialize;

/// Applies what `host` says of one recording.
pub fn take_facts(
    engine: &Engine,
    tx: &mut Tx<'_>,
    host: &HostId,
    facts: &RecordingFacts,
    now: Timestamp,
) -> Result<Applied> {
    let row = match table::find(tx, facts.recording_id)? {
        Some(row) => Ok(row),
        None => match device::find(tx, facts.device_id)? {
            None => {
                tracing::warn!(%host, recording = %facts.recording_id, device = %facts.device_id,
                    "a host tells of a recording of a device that nobody knows");
                return Ok(Applied::Done);
            }
            Some(device) if device.host_id == *host => {
                let row = adopted(facts, host, device.user_id, now);
                // What is there already is told, whatever the quota.
                table::insert(tx, &row, None)?;
                Ok(row)
            }
            Some(device) => Err(format!("its device belongs to host {}", device.host_id)),
        },
    };
    let row = row.and_then(|row| {
        if row.host_id != *host {
            Err(format!("it belongs to host {}", row.host_id))
        } else if row.device_id != facts.device_id {
            Err(format!("it is one of device {}", row.device_id))
        } else {
            Ok(row)
        }
    });
    match row {
        Err(why) => {
            let reason = format!("recording {} is not one of host {host}: {why}", facts.recording_id);
            Ok(Applied::Refused { kind: "recording".to_owned(), reason })
        }
        Ok(mut row) => {
            match follow(&mut row, facts, now) {
                Change::Over => return Ok(Applied::Done),
                Change::Moved => table::update(tx, &row, now)?,
                Change::Started => {
                    table::update(tx, &row, now)?;
                    announce(tx, &row, "recording.started", now)?;
                }
                Change::Ended => {
                    ended(tx, &row, now)?;
                    wake_waiting(engine, tx, row.device_id, now)?;
                }
            }
            Ok(Applied::Done)
        }
    }
}

/// A recording that this database does not know: it was restored to a time before the order.
fn adopted(
    facts: &RecordingFacts,
    host: &HostId,
    user_id: phonefleet_protocol::id::UserId,
    now: Timestamp,
) -> RecordingRow {
    RecordingRow {
        recording_id: facts.recording_id,
        device_id: facts.device_id,
        host_id: host.clone(),
        user_id,
        status: Status::Starting,
        spec: None,
        adopted: true,
        wish: RecordingWish::Recording,
        not_after: now,
        command_seq: None,
        command_dirty: false,
        phase: None,
        started_at: None,
        ended_at: None,
        end_cause: None,
        duration_ms: None,
        bytes: None,
        sha256: None,
        reason: None,
        // Its own order is not known; that of most has nothing but defaults.
        quota_bytes: RecordingSpec::default().expected_bytes(),
        // The host's clock may be ahead.
        created_at: facts.started_at.map_or(now, |at| at.min(now)),
        updated_at: now,
        over_at: None,
    }
}

/// An inventory part names these. One that belongs to another host is no reason to refuse
/// the others.
pub fn inventory(
    engine: &Engine,
    tx: &mut Tx<'_>,
    host: &HostId,
    recordings: &[RecordingFacts],
    now: Timestamp,
) -> Result<()> {
    for facts in recordings {
        table::inventory_see(tx, host, facts.recording_id)?;
        if let Applied::Refused { reason, .. } = take_facts(engine, tx, host, facts, now)? {
            tracing::error!(%host, reason, "an inventory names a recording of another host");
        }
    }
    Ok(())
}

/// The inventory is complete. An active recording that it has not named is asked about: a
/// host that has it repeats its end, one that was emptied answers that it never began it,
/// and that end is LOST ([`follow`]). Only one that the host has never told of may still begin.
pub fn inventory_end(tx: &mut Tx<'_>, host: &HostId, now: Timestamp) -> Result<()> {
    for mut row in table::inventory_end(tx, host)? {
        if row.phase.is_some() {
            tracing::warn!(recording = %row.recording_id, %host, "its host no longer names this recording");
            row.wish = RecordingWish::Stopped;
            row.status = Status::Stopping;
            row.reason = Some(follow::lost());
            desire::tell(tx, &mut row, now)?;
        } else if row.command_seq.is_none() {
            desire::tell(tx, &mut row, now)?;
        }
    }
    Ok(())
}

/// Ends recordings by the controller's own word.
pub fn give_up(tx: &mut Tx<'_>, recordings: &mut [RecordingRow], why: &Reason, now: Timestamp) -> Result<()> {
    for row in recordings {
        follow::give_up(row, why.clone(), now);
        ended(tx, row, now)?;
    }
    Ok(())
}

/// Their host is given up: what runs there has ended, and no video of it is there any more.
/// Should it return, it hears that all of them shall go.
pub fn forget_host(tx: &mut Tx<'_>, host: &HostId, now: Timestamp) -> Result<()> {
    let mut rows = table::active_on(tx, host)?;
    let why = Reason::new("HOST_FORGOTTEN", "its host was given up while it ran");
    give_up(tx, &mut rows, &why, now)?;
    rows.extend(table::kept_on(tx, host)?);
    for row in &mut rows {
        desire::delete(tx, row, now)?;
    }
    Ok(())
}

/// Writes an end down, for everybody who counts or listens.
fn ended(tx: &mut Tx<'_>, row: &RecordingRow, now: Timestamp) -> Result<()> {
    table::update(tx, row, now)?;
    tx.announce(Notice::RecordingEnded(RecordingEnd {
        status: row.status.name(),
        cause: row.end_cause.map_or("NONE", EndCause::name),
        duration_ms: row.duration_ms.filter(|_| row.status == Status::Final),
    }));
    announce(tx, row, "recording.finished", now)
}

/// The saga of the device may wait for this end.
fn wake_waiting(engine: &Engine, tx: &mut Tx<'_>, device: DeviceId, now: Timestamp) -> Result<()> {
    match device::newest_saga(tx, device)? {
        Some(saga) => engine.wake(tx, &saga, now),
        None => Ok(()),
    }
}

/// Appends an event about the recording to the controller's outbox.
pub(super) fn announce(tx: &mut Tx<'_>, row: &RecordingRow, event: &str, now: Timestamp) -> Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        recording_id: phonefleet_protocol::id::RecordingId,
        device_id: DeviceId,
        user_id: &'a str,
        host_id: &'a str,
        status: Status,
        end_cause: Option<&'static str>,
        duration_ms: Option<u64>,
        bytes: Option<u64>,
        reason: Option<&'a Reason>,
    }
    let payload = Payload {
        recording_id: row.recording_id,
        device_id: row.device_id,
        user_id: row.user_id.as_str(),
        host_id: row.host_id.as_str(),
        status: row.status,
        end_cause: row.end_cause.map(EndCause::name),
        duration_ms: row.duration_ms,
        bytes: row.bytes,
        reason: row.reason.as_ref(),
    };
    event_outbox::append(tx, "recording", &row.recording_id.to_string(), event, &payload, now)
}
