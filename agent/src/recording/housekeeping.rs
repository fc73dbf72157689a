//! What belongs to no recording any more: recorders on phones that no row knows, their
//! folders, and videos that were kept for long enough.

use super::{Leftover, Phone, RecorderError};
use crate::phone::context::{Context, Hindrance};
use crate::store::device::{self, DeviceRow};
use crate::store::recording;
use phonefleet_protocol::facts::Phase;
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
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
/// Recorders that are ended on one phone before the next phone has its turn.
const ENDS: u32 = 3;
/// As many videos that cannot be deleted are the disk's fault, and no others are tried.
const STUCK: usize = 100;
/// What has no row is kept so much longer: rows come back with a restored database.
const LONGER: Duration = Duration::from_hours(24);
/// A wall clock that was set by more is not believed for so long, see [`Steadiness`].
const STEP: Duration = Duration::from_hours(1);
const STEADY: Duration = Duration::from_hours(24);

/// Whether the wall clock may be asked how old something is: one that was set by days would
/// make everything old at once. Nobody knows which of the two times was wrong, so that a day
/// goes by in which an operator may find out.
struct Steadiness {
    wall: Timestamp,
    at: Instant,
    doubtful_until: Option<Instant>,
}

impl Steadiness {
    fn new(wall: Timestamp) -> Self {
        Self { wall, at: Instant::now(), doubtful_until: None }
    }

    fn holds(&mut self, wall: Timestamp) -> bool {
        let expected = self.wall.after(self.at.elapsed());
        if wall.since(expected).max(expected.since(wall)) > STEP {
            tracing::warn!(%wall, %expected, "the clock was set: nothing is too old for a day");
            self.doubtful_until = Some(Instant::now() + STEADY);
        }
        (self.wall, self.at) = (wall, Instant::now());
        self.doubtful_until.is_none_or(|until| until <= Instant::now())
    }
}

/// Since when what has no row is known.
type Strays = BTreeMap<RecordingId, Instant>;

/// Runs for ever.
///
/// # Errors
/// The text of a database failure that the agent cannot go on after.
pub(crate) async fn run(context: Arc<Context>) -> Result<(), String> {
    let mut steadiness = Steadiness::new(context.now());
    sleep(FIRST).await;
    let (mut unasked, mut strays) = (BTreeSet::new(), Strays::new());
    let mut all_at = Instant::now();
    loop {
        let all = Instant::now() >= all_at;
        if all {
            all_at = Instant::now() + EVERY;
            // What is still there when it is this old is removed; older ones are gone.
            strays.retain(|_, since| since.elapsed() < LONGER * 2);
            if steadiness.holds(context.now()) {
                fatal(expire(&context).await)?;
            }
        }
        let phones = context.read_in_the_end(device::all).await?;
        let mut left = BTreeSet::new();
        for row in phones.iter().filter(|row| all || unasked.contains(&row.id())) {
            if !sweep(&context, row, &mut strays).await? {
                left.insert(row.id());
            }
        }
        unasked = left;
        let next = if unasked.is_empty() { all_at } else { all_at.min(Instant::now() + AGAIN) };
        // In one order, so that a simulation goes one way.
        tokio::select! {
            biased;
            () = sleep_until(next) => {}
            () = context.sweeps.ordered() => unasked.extend(context.sweeps.take()),
        }
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

/// Ends what no row knows, and removes what is not needed. `false`: the phone could not be asked.
///
/// A database that was lost comes back, or an operator asks for the videos: what no row knows
/// is left to lie for a day.
async fn sweep(context: &Context, row: &DeviceRow, strays: &mut Strays) -> Result<bool, String> {
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
    let mut ended = 0;
    for leftover in found {
        // Read after the list: a folder is made only when its row is there.
        let id = leftover.recording;
        let known = context.read_in_the_end(move |connection| recording::get(connection, id)).await?;
        if known.as_ref().is_some_and(|row| !row.phase.is_terminal()) {
            continue;
        }
        if leftover.process.is_some() {
            // Each may take its time, and other phones wait.
            if ended == ENDS {
                return Ok(false);
            }
            ended += 1;
        }
        let done = clear_up(context, phone, leftover, known.is_some_and(|row| row.is_taken()), strays).await;
        if let Err(error) = done {
            tracing::warn!(device = %phone.device, recording = %id, %error, "what is left of a recording stays");
            return Ok(false);
        }
    }
    Ok(true)
}

async fn clear_up(
    context: &Context,
    phone: Phone,
    leftover: Leftover,
    taken: bool,
    strays: &mut Strays,
) -> Result<(), RecorderError> {
    let Leftover { recording, process } = leftover;
    if let Some(process) = process {
        tracing::warn!(device = %phone.device, %recording, pid = process.pid, "a recorder without a row is ended");
        context.tally.orphan();
        context.recorder.end(phone, process).await?;
    }
    if !taken && strays.entry(recording).or_insert_with(Instant::now).elapsed() < LONGER {
        return Ok(());
    }
    context.recorder.remove(phone, recording).await
}

/// Forgets what was kept for long enough, a chunk at a time: the file first, so that no file
/// is left without a row.
async fn expire(context: &Context) -> Result<(), Hindrance> {
    let keep = context.settings.recording.keep;
    let now = context.now();
    let before = |age: Duration| {
        let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Timestamp(now.0.saturating_sub(millis))
    };
    let end = before(keep);
    // One that cannot be deleted holds up no other.
    let (mut stuck, mut fault) = (BTreeSet::new(), None);
    while stuck.len() < STUCK {
        let most = CHUNK + u32::try_from(stuck.len()).unwrap_or(CHUNK);
        let mut old = context.read(move |connection| recording::expired(connection, end, most)).await?;
        old.retain(|(_, id)| !stuck.contains(id));
        if old.is_empty() {
            break;
        }
        let mut gone = Vec::new();
        for (device, id) in old {
            match delete(context, device, id).await {
                Ok(()) => gone.push(id),
                Err(hindrance) => {
                    stuck.insert(id);
                    fault.get_or_insert(hindrance);
                }
            }
        }
        context.write(move |tx| gone.iter().try_for_each(|id| recording::forget(tx, *id))).await?;
        sleep(BETWEEN_CHUNKS).await;
    }
    for (device, id) in context.videos.kept_before(before(keep + LONGER)).await {
        if context.read(move |connection| recording::get(connection, id)).await?.is_none()
            && let Err(hindrance) = delete(context, device, id).await
        {
            fault.get_or_insert(hindrance);
        }
    }
    fault.map_or(Ok(()), Err)
}

async fn delete(context: &Context, device: DeviceId, id: RecordingId) -> Result<(), Hindrance> {
    let deleted = context.videos.delete(device, id).await;
    deleted.map_err(|error| Hindrance::trouble("DISK_UNAVAILABLE", &error))
}
