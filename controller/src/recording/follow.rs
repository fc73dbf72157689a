//! What a host's facts change of a recording's row. No database in here.

use crate::store::recording::{RecordingRow, Status};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::limits::shorten;
use phonefleet_protocol::recording::{RecordingFacts, RecordingPhase, RecordingWish};
use phonefleet_protocol::time::Timestamp;

/// More than any video of 180 s has. What a host claims beyond it is not counted, so that no
/// claim can make a user's sum overflow.
const MOST_BYTES: u64 = 1 << 40;
/// Code of a recording whose host no longer knows it.
pub const LOST: &str = "LOST";
/// Code with which a host answers about a recording that it never had.
const NEVER_STARTED: &str = "NEVER_STARTED";

/// What became of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has ended before: nothing changes any more.
    Over,
    /// Its numbers may have changed.
    Moved,
    /// Its process was seen for the first time.
    Started,
    /// It has ended.
    Ended,
}

/// Takes over what the host says. An end stays: what comes behind it is a repetition, or
/// the past of a host that was restored.
pub fn follow(row: &mut RecordingRow, facts: &RecordingFacts, now: Timestamp) -> Change {
    if row.status.is_terminal() {
        return Change::Over;
    }
    let ran_before = row.started_at.is_some();
    let is_lost = facts.phase == RecordingPhase::Failed
        && facts.reason.as_ref().is_some_and(|reason| reason.code == NEVER_STARTED)
        && (ran_before || row.reason.as_ref().is_some_and(|reason| reason.code == LOST));
    row.phase = Some(facts.phase);
    // A host that was emptied knows less than this row.
    row.started_at = facts.started_at.or(row.started_at);
    row.ended_at = facts.ended_at.or(row.ended_at);
    row.end_cause = facts.end_cause.or(row.end_cause);
    row.duration_ms = facts.duration_ms.or(row.duration_ms).map(|millis| millis.min(MOST_BYTES));
    row.bytes = facts.bytes.or(row.bytes).map(|bytes| bytes.min(MOST_BYTES));
    row.sha256 = facts.sha256.clone().filter(|hash| is_sha256(hash)).or_else(|| row.sha256.take());
    row.reason = if is_lost {
        Some(lost())
    } else {
        facts.reason.as_ref().map(|reason| Reason::new(&shorten(&reason.code), shorten(&reason.detail)))
    };
    row.status = status(facts.phase, row.wish);
    if row.status.is_terminal() {
        row.over_at = Some(now);
        row.command_dirty = false;
        row.quota_bytes = if row.status == Status::Failed { 0 } else { row.bytes.unwrap_or(0) };
        return Change::Ended;
    }
    if !ran_before && row.started_at.is_some() { Change::Started } else { Change::Moved }
}

/// What users see: a recording that shall stop is stopping, until it has.
pub const fn status(phase: RecordingPhase, wish: RecordingWish) -> Status {
    match (phase, wish) {
        (RecordingPhase::Final, _) => Status::Final,
        (RecordingPhase::Corrupt, _) => Status::Corrupt,
        (RecordingPhase::Failed, _) => Status::Failed,
        (RecordingPhase::Stopping, _) | (_, RecordingWish::Stopped | RecordingWish::Deleted) => {
            Status::Stopping
        }
        (RecordingPhase::Starting, RecordingWish::Recording) => Status::Starting,
        (RecordingPhase::Recording, RecordingWish::Recording) => Status::Recording,
    }
}

/// Ends a recording by the controller's own word: without a video.
pub fn give_up(row: &mut RecordingRow, why: Reason, now: Timestamp) {
    row.status = Status::Failed;
    row.wish = RecordingWish::Stopped;
    row.reason = Some(why);
    row.quota_bytes = 0;
    row.command_dirty = false;
    row.over_at = Some(now);
}

/// Why a recording is FAILED that its host has told of, and then never had.
pub fn lost() -> Reason {
    Reason::new(LOST, "its host no longer knows this recording: the agent's database was lost")
}

/// It goes into headers, and is compared by clients: nothing else will do.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
