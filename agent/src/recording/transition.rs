//! What happened to a recording becomes its row and an event, in one transaction.

use super::mp4::Movie;
use super::phone_state::phone_state;
use super::plan::PhoneState;
use super::{Collected, Sighting};
use crate::store::recording::{self, RecordingRow, StopSignal};
use crate::store::{Notice, Tx, device, outbox};
use phonefleet_protocol::event::Event;
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::recording::{EndCause, RecordingPhase, RecordingWish};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite;
use std::collections::BTreeMap;
use std::time::Duration;

/// A video may be so much shorter than its time limit and still have ended by it: the
/// recorder begins to count before its first frame.
const LIMIT_SLACK: Duration = Duration::from_millis(1500);

/// Tells the facts.
pub fn say(tx: &mut Tx<'_>, row: &RecordingRow, now: Timestamp) -> Result<(), rusqlite::Error> {
    let event = Event::RecordingChanged { facts: row.facts(), at: now };
    let number = outbox::append_recording(tx, row.id(), &event, now)?;
    if row.phase.is_terminal() { recording::set_event_number(tx, row.id(), number) } else { Ok(()) }
}

/// Stores a row that came to another phase, and tells it.
pub fn change(tx: &mut Tx<'_>, row: &RecordingRow, now: Timestamp) -> Result<(), rusqlite::Error> {
    recording::put(tx, row)?;
    say(tx, row, now)
}

/// It is over.
fn finish(
    tx: &mut Tx<'_>,
    mut row: RecordingRow,
    phase: RecordingPhase,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    row.phase = phase;
    row.finished_at = Some(now);
    change(tx, &row, now)?;
    // The phone may be waiting for it, to stop.
    tx.announce(Notice::Device(row.device()));
    Ok(())
}

/// There is no video.
pub fn fail(
    tx: &mut Tx<'_>,
    mut row: RecordingRow,
    reason: Reason,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    row.reason = Some(reason);
    finish(tx, row, RecordingPhase::Failed, now)
}

/// Its end is due; the first cause stays.
pub fn end_is_due(row: &mut RecordingRow, cause: EndCause, now: Timestamp) {
    if row.end_cause.is_none() {
        row.end_cause = Some(cause);
    }
    if row.ending_since.is_none() {
        row.ending_since = Some(now);
    }
}

/// The row, if the recording is not over.
fn open(tx: &mut Tx<'_>, id: RecordingId) -> Result<Option<RecordingRow>, rusqlite::Error> {
    Ok(recording::get(tx, id)?.filter(|row| !row.phase.is_terminal()))
}

/// Fails a recording that is not over.
pub fn fail_open(
    tx: &mut Tx<'_>,
    id: RecordingId,
    reason: Reason,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    match open(tx, id)? {
        Some(row) => fail(tx, row, reason, now),
        None => Ok(()),
    }
}

/// What became of the wish to launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launching {
    /// It is noted, and may be made.
    Noted,
    /// Something came between: look again.
    NotNow,
    /// It has not so much room, with all that others may yet need.
    NoRoom {
        /// Bytes that all of them may need.
        needed: u64,
    },
}

/// The launch is about to be made. Tested in the same transaction that notes it: a phone that
/// is to stop notes that, too, and then waits for what was launched; and so that two that are
/// launched at once do not take the same room. `room`: bytes that may be used; `written`: how
/// large the videos of those that run are by now.
pub fn launching(
    tx: &mut Tx<'_>,
    id: RecordingId,
    room: u64,
    written: &BTreeMap<RecordingId, u64>,
    now: Timestamp,
) -> Result<Launching, rusqlite::Error> {
    let Some(mut row) = open(tx, id)? else { return Ok(Launching::NotNow) };
    let device = device::get(tx, row.device())?;
    let Some(device) = device.filter(|device| phone_state(Some(device)) == PhoneState::Ready) else {
        return Ok(Launching::NotNow);
    };
    if row.end_cause.is_some() || row.ended_at.is_some() {
        return Ok(Launching::NotNow);
    }
    if row.launched_at.is_none() {
        let others = recording::active(tx)?.into_iter().filter(RecordingRow::may_grow);
        let needed = others.fold(row.desired.spec.expected_bytes(), |sum, other| {
            let written = written.get(&other.id()).copied().unwrap_or(0);
            sum.saturating_add(other.desired.spec.expected_bytes().saturating_sub(written))
        });
        if needed > room {
            return Ok(Launching::NoRoom { needed });
        }
    }
    row.launched_at = Some(now);
    row.data_epoch = device.desired.data_epoch;
    recording::put(tx, &row)?;
    Ok(Launching::Noted)
}

/// Its process was seen.
pub fn adopt(
    tx: &mut Tx<'_>,
    id: RecordingId,
    sighting: &Sighting,
    process: recording::PhoneProcess,
    now: Timestamp,
) -> Result<bool, rusqlite::Error> {
    let Some(mut row) = open(tx, id)? else { return Ok(false) };
    row.process = Some(process);
    row.boot_mark = sighting.launched_in;
    if row.phase != RecordingPhase::Starting {
        recording::put(tx, &row)?;
        return Ok(false);
    }
    // A phone that was hard to reach may have begun well after the launch was noted.
    row.launched_at = row.launched_at.map(|noted| began(noted, sighting.age, now));
    row.phase = RecordingPhase::Recording;
    change(tx, &row, now)?;
    Ok(true)
}

/// When a process began that is so old by now: not before it was launched.
fn began(noted: Timestamp, age: Option<Duration>, now: Timestamp) -> Timestamp {
    let Some(age) = age else { return noted };
    let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    noted.max(Timestamp(now.0.saturating_sub(millis)))
}

/// Its end is due by itself.
pub fn due(tx: &mut Tx<'_>, id: RecordingId, cause: EndCause, now: Timestamp) -> Result<(), rusqlite::Error> {
    let Some(mut row) = open(tx, id)? else { return Ok(()) };
    end_is_due(&mut row, cause, now);
    recording::put(tx, &row)
}

/// A signal is about to be sent; it never is twice. `false`: it was noted already.
pub fn signalling(
    tx: &mut Tx<'_>,
    id: RecordingId,
    signal: StopSignal,
    now: Timestamp,
) -> Result<bool, rusqlite::Error> {
    let Some(mut row) = open(tx, id)? else { return Ok(false) };
    if row.signal.is_some_and(|(sent, _)| sent >= signal) {
        return Ok(false);
    }
    row.signal = Some((signal, now));
    stopping(tx, row, now)?;
    Ok(true)
}

/// Its process is gone.
pub fn ended(
    tx: &mut Tx<'_>,
    id: RecordingId,
    cause: Option<EndCause>,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    let Some(mut row) = open(tx, id)? else { return Ok(()) };
    row.end_cause = match (row.end_cause, cause) {
        // Which of the two it was is seen by its video.
        (None | Some(EndCause::Stopped | EndCause::TimeLimit), Some(EndCause::DeviceDied)) => cause,
        (known, found) => known.or(found),
    };
    gone(tx, row, now)
}

/// Its process was not seen to end, and nobody waits any more.
pub fn given_up(
    tx: &mut Tx<'_>,
    id: RecordingId,
    reason: Reason,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    let Some(mut row) = open(tx, id)? else { return Ok(()) };
    row.reason = Some(reason);
    gone(tx, row, now)
}

fn gone(tx: &mut Tx<'_>, mut row: RecordingRow, now: Timestamp) -> Result<(), rusqlite::Error> {
    if row.ended_at.is_none() {
        row.ended_at = Some(now);
    }
    stopping(tx, row, now)
}

fn stopping(tx: &mut Tx<'_>, mut row: RecordingRow, now: Timestamp) -> Result<(), rusqlite::Error> {
    if row.phase == RecordingPhase::Stopping {
        return recording::put(tx, &row);
    }
    row.phase = RecordingPhase::Stopping;
    change(tx, &row, now)
}

/// What is known of the signals that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// Each was answered: it had arrived.
    Arrived,
    /// One was not, or nobody remembers.
    Doubtful,
}

/// What there was of it is kept, or there was nothing. Returns how it ended.
pub fn collected(
    tx: &mut Tx<'_>,
    id: RecordingId,
    collected: &Collected,
    signals: Signals,
    now: Timestamp,
) -> Result<Option<RecordingPhase>, rusqlite::Error> {
    let Some(mut row) = open(tx, id)? else { return Ok(None) };
    let said = |row: &RecordingRow| ending(row, signals, &collected.words);
    let phase = match &collected.video {
        None => {
            row.end_cause = Some(row.end_cause.unwrap_or(EndCause::ProcessEnded));
            row.reason = Some(nothing(&row, signals, &collected.words));
            RecordingPhase::Failed
        }
        Some(video) => {
            row.bytes = Some(video.bytes);
            row.sha256 = Some(video.sha256.clone());
            let movie = video.movie.as_ref().ok();
            row.duration_ms = movie.map(|movie| movie.duration_ms);
            row.end_cause = Some(cause(&row, movie));
            match &video.movie {
                Ok(_) => {
                    // Its last bytes were written when it ended, however late that was found.
                    let written = video.written_at.map(|at| at.max(row.launched_at.unwrap_or(at)));
                    row.ended_at = row.ended_at.map(|found| written.map_or(found, |at| at.min(found)));
                    row.reason = None;
                    RecordingPhase::Final
                }
                Err(flaw) => {
                    row.reason = Some(Reason::new(flaw.code(), format!("{flaw}; {}", said(&row))));
                    RecordingPhase::Corrupt
                }
            }
        }
    };
    finish(tx, row, phase, now)?;
    Ok(Some(phase))
}

/// Why it ended. Unless somebody asked for that, either its time was over, or something was
/// wrong; a video of full length had ended before its phone died.
fn cause(row: &RecordingRow, movie: Option<&Movie>) -> EndCause {
    let limit = Duration::from_secs(u64::from(row.desired.spec.max_duration_seconds));
    let full = movie.is_some_and(|movie| Duration::from_millis(movie.duration_ms) + LIMIT_SLACK >= limit);
    match row.end_cause {
        // It was made whole first, as it had been asked to be.
        Some(EndCause::DeviceDied) if movie.is_some() && row.desired.wish != RecordingWish::Recording => {
            EndCause::Stopped
        }
        None | Some(EndCause::DeviceDied) if full => EndCause::TimeLimit,
        None => EndCause::ProcessEnded,
        Some(known) => known,
    }
}

/// What became of the recorder, in words.
fn ending(row: &RecordingRow, signals: Signals, words: &str) -> String {
    let mut what = match (row.end_cause, row.signal) {
        _ if row.reason.is_some() => row.reason.as_ref().map_or("", |reason| &reason.detail),
        (Some(EndCause::DeviceDied), _) => "the phone died while it recorded",
        (_, Some((StopSignal::Kill, _))) => "the recorder heeded neither SIGINT nor SIGHUP and was killed",
        (Some(EndCause::DeviceStopped), _) => "the phone stopped before the recorder had finished",
        (_, Some((StopSignal::HangUp, _))) => "the recorder did not heed SIGINT; it was ended by SIGHUP",
        (_, Some((StopSignal::Interrupt, _))) => {
            "the recorder was sent SIGINT, and ended without finishing its file"
        }
        (_, None) => "the recorder ended by itself, or somebody on the phone killed it",
    }
    .to_owned();
    if row.signal.is_some() && signals == Signals::Doubtful {
        what.push_str("; whether every signal arrived is not known");
    }
    if words.is_empty() { what } else { format!("{what}; it said: {words}") }
}

fn nothing(row: &RecordingRow, signals: Signals, words: &str) -> Reason {
    match row.end_cause {
        Some(EndCause::DeviceDied) => {
            Reason::new("DEVICE_DIED", "the phone died before anything was recorded")
        }
        _ if words.is_empty() => Reason::new(
            "NO_VIDEO",
            format!("there is no file, or an empty one; {}", ending(row, signals, words)),
        ),
        _ => Reason::new("RECORDER_FAILED", format!("the phone's screenrecord said: {words}")),
    }
}
