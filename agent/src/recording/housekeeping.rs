//! What belongs to no recording any more: recorders on phones that no row knows, their
//! folders, and videos that were kept for long enough.

use super::Phone;
use crate::phone::context::{Context, Hindrance};
use crate::store::device::{self, DeviceRow};
use crate::store::recording;
use phonefleet_protocol::facts::Phase;
use phonefleet_protocol::id::{DeviceId, RecordingId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// After the start, so that phones are reached again first.
const FIRST: Duration = Duration::from_secs(5);
/// A phone that could not be asked is asked again so soon.
const AGAIN: Duration = Duration::from_secs(30);
/// Between two looks at every phone.
const EVERY: Duration = Duration::from_hours(1);
/// Recordings that are forgotten in one go.
const CHUNK: u32 = 100;
/// Between two chunks, so that others get to the disk.
const BETWEEN_CHUNKS: Duration = Duration::from_millis(50);
/// A video without a row is kept so much longer: rows come back with a restored database.
const LONGER: Duration = Duration::from_hours(24);

/// Runs for ever.
///
/// # Errors
/// The text of a database failure that the agent cannot go on after.
pub(crate) async fn run(context: Arc<Context>) -> Result<(), String> {
    sleep(FIRST).await;
    let mut unasked: BTreeSet<DeviceId> = BTreeSet::new();
    let mut all_at = Instant::now();
    loop {
        let all = Instant::now() >= all_at;
        if all {
            all_at = Instant::now() + EVERY;
            fatal(expire(&context).await)?;
        }
        let phones = context.store.read(device::all).await.map_err(|error| error.to_string())?;
        let mut left = BTreeSet::new();
        for row in phones.iter().filter(|row| all || unasked.contains(&row.id())) {
            if !sweep(&context, row).await? {
                left.insert(row.id());
            }
        }
        unasked = left;
        let next = if unasked.is_empty() { all_at } else { all_at.min(Instant::now() + AGAIN) };
        sleep_until(next).await;
    }
}

fn fatal(done: Result<(), Hindrance>) -> Result<(), String> {
    match done {
        Err(Hindrance::Fatal(why)) => Err(why),
        Err(Hindrance::Trouble(reason)) => {
            tracing::warn!(%reason, "old recordings are forgotten later");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Ends what no row knows. `false`: the phone could not be asked.
async fn sweep(context: &Context, row: &DeviceRow) -> Result<bool, String> {
    let runs = row.phase == Phase::Running || row.parked && row.booted;
    let (true, Some(ports)) = (runs, row.ports) else { return Ok(true) };
    let phone = Phone { device: row.id(), address: context.adb_address(ports.adb) };
    let found = match context.recorder.list(phone).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(device = %phone.device, %error, "cannot be asked for its recorders");
            return Ok(false);
        }
    };
    for leftover in found {
        // Read after the list: a folder is made only when its row is there.
        let id = leftover.recording;
        let known = context.store.read(move |connection| recording::get(connection, id)).await;
        let known = known.map_err(|error| error.to_string())?;
        if known.is_some_and(|row| !row.phase.is_terminal()) {
            continue;
        }
        if let Some(process) = leftover.process {
            tracing::warn!(device = %phone.device, recording = %id, pid = process.pid, "a recorder without a row is ended");
            context.tally.orphan();
        }
        if let Err(error) = context.recorder.remove(phone, leftover).await {
            tracing::warn!(device = %phone.device, recording = %id, %error, "what is left of a recording stays");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Forgets what was kept for long enough, a chunk at a time: the file first, so that no file
/// is left without a row.
async fn expire(context: &Context) -> Result<(), Hindrance> {
    let keep = context.settings.recording.keep;
    let now = context.now();
    let before = |age: Duration| {
        let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        phonefleet_protocol::time::Timestamp(now.0.saturating_sub(millis))
    };
    let end = before(keep);
    loop {
        let old = context.read(move |connection| recording::expired(connection, end, CHUNK)).await?;
        if old.is_empty() {
            break;
        }
        for (device, id) in &old {
            delete(context, *device, *id).await?;
        }
        let ids: Vec<RecordingId> = old.into_iter().map(|(_, id)| id).collect();
        context.write(move |tx| ids.iter().try_for_each(|id| recording::forget(tx, *id))).await?;
        sleep(BETWEEN_CHUNKS).await;
    }
    for (device, id) in context.videos.kept_before(before(keep + LONGER)).await {
        if context.read(move |connection| recording::get(connection, id)).await?.is_none() {
            delete(context, device, id).await?;
        }
    }
    Ok(())
}

async fn delete(context: &Context, device: DeviceId, id: RecordingId) -> Result<(), Hindrance> {
    let deleted = context.videos.delete(device, id).await;
    deleted.map_err(|error| Hindrance::trouble("DISK_UNAVAILABLE", &error))
}
