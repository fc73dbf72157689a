//! What to do next about one recording. Pure: what is known goes in, one action comes out.

use super::{Recorded, Sighting};
use crate::store::recording::{RecordingRow, StopSignal};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::recording::EndCause;
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// From SIGINT to SIGHUP: writing the index of a long video takes the phone a while.
pub const INTERRUPT_PATIENCE: Duration = Duration::from_secs(10);
/// From SIGHUP to SIGKILL.
pub const HANG_UP_PATIENCE: Duration = Duration::from_secs(5);
/// From SIGKILL until a process that lives on is left to its fate.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a recorder may go on beyond its time limit before it is ended.
pub const LIMIT_GRACE: Duration = Duration::from_secs(5);
/// A recorder listens to signals once it has its file. One that makes none by then is
/// signalled all the same.
pub const FILE_PATIENCE: Duration = Duration::from_secs(3);
/// How long a phone that does not answer may hold up an end that is due.
pub const ANSWER_PATIENCE: Duration = Duration::from_mins(2);
/// An agent that has only just begun to ask does not give up at once, however late it is.
pub const ASKED_FOR: Duration = Duration::from_secs(30);
/// Longest wait in one go: how old a size may be.
pub const WAIT: Duration = Duration::from_secs(5);
/// Between two looks at a phone that does not answer, or whose recorder has no file yet.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A wall clock that was set back by more is not waited for.
const CLOCK_SET_BACK: Duration = Duration::from_mins(1);

/// How the phone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneState {
    /// It runs, and nobody wants it otherwise.
    Ready,
    /// Its container runs, but it is not known to be what was asked for, or is paused.
    Unsettled,
    /// Its container does not run, or it is on its way down.
    Down {
        /// Its container runs still.
        container_runs: bool,
    },
}

/// What is known of the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// The phone could not be asked, for so long by now.
    Unknown(Duration),
    /// It was seen.
    Seen(Sighting),
}

/// What is known beside the row.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The phone.
    pub phone: PhoneState,
    /// The recorder.
    pub process: ProcessState,
    /// How long it has been there, by a clock that nobody sets, if that is known.
    pub age: Option<Duration>,
    /// How long its newest signal has been under way, by such a clock; by an agent that did
    /// not send it: how long it knows of it.
    pub signalled: Duration,
    /// The present.
    pub now: Timestamp,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is over.
    Done,
    /// Look again after this time, or when something happens.
    Rest(Duration),
    /// Launch the recorder.
    Launch,
    /// Note the process that was seen.
    Adopt(Sighting),
    /// Wait for the end of the process.
    Wait(Duration),
    /// Its end is due for this cause.
    Finish(EndCause),
    /// Note a signal and send it.
    Signal(StopSignal),
    /// Its process is gone.
    Ended(Option<EndCause>),
    /// Its process was not seen to end, and is not waited for any more, for this reason.
    GiveUp(Reason),
    /// Take care that it is not launched any more.
    Forbid,
    /// Fetch and check its file, and end it.
    Collect,
    /// End it without a video.
    Fail(Reason),
}

/// The next thing to do about a recording.
pub fn plan(row: &RecordingRow, sight: &Sight) -> Action {
    if row.phase.is_terminal() {
        return Action::Done;
    }
    if row.ended_at.is_some() {
        return Action::Collect;
    }
    if row.launched_at.is_none() {
        return begin(row, sight);
    }
    if let PhoneState::Down { container_runs: false } = sight.phone {
        return Action::Ended(Some(EndCause::DeviceDied));
    }
    match sight.process {
        ProcessState::Unknown(long) => unanswered(row, long, sight),
        ProcessState::Seen(sighting) => match sighting.recorder {
            Recorded::Never if row.process.is_none() => not_launched(row, sight),
            // It ran once: somebody deleted its folder, or an older state of the database came
            // back after its video was taken.
            Recorded::Never | Recorded::Ended => {
                Action::Ended(rebooted(row, &sighting).then_some(EndCause::DeviceDied))
            }
            Recorded::Runs(process) if row.process != Some(process) => Action::Adopt(sighting),
            Recorded::Runs(_) => go_on(row, &sighting, sight),
        },
    }
}

/// Why it is not begun at all, if so.
pub fn obstacle(row: &RecordingRow, phone: PhoneState, now: Timestamp) -> Option<Reason> {
    match (row.end_cause, phone) {
        (Some(EndCause::DeviceStopped | EndCause::DeviceDied), _) | (None, PhoneState::Down { .. }) => {
            Some(Reason::new("DEVICE_NOT_RUNNING", "the device does not run; start it, then record"))
        }
        (Some(_), _) => Some(Reason::new("NEVER_STARTED", "it was stopped before it had begun")),
        (None, _) if now > row.desired.not_after => Some(Reason::new(
            "TOO_LATE",
            format!("it could not be begun before {}, and is not begun later", row.desired.not_after),
        )),
        (None, _) => None,
    }
}

fn begin(row: &RecordingRow, sight: &Sight) -> Action {
    match (obstacle(row, sight.phone, sight.now), sight.phone) {
        (Some(reason), _) => Action::Fail(reason),
        (None, PhoneState::Ready) => Action::Launch,
        (None, _) => Action::Rest(LOOK_AGAIN),
    }
}

/// The launch was noted, and the phone knows nothing of it.
fn not_launched(row: &RecordingRow, sight: &Sight) -> Action {
    match (obstacle(row, sight.phone, sight.now), sight.phone) {
        // A launch that is still on its way there must not begin anything.
        (Some(_), _) => Action::Forbid,
        (None, PhoneState::Ready) => Action::Launch,
        (None, _) => Action::Rest(LOOK_AGAIN),
    }
}

fn rebooted(row: &RecordingRow, sighting: &Sighting) -> bool {
    let launched_in = row.boot_mark.or(sighting.launched_in);
    launched_in.is_some() && sighting.runs_in.is_some() && launched_in != sighting.runs_in
}

fn limit(row: &RecordingRow) -> Duration {
    Duration::from_secs(u64::from(row.desired.spec.max_duration_seconds))
}

/// When the recorder must have ended by itself.
fn overdue_at(row: &RecordingRow) -> Timestamp {
    row.launched_at.unwrap_or_default().after(limit(row) + LIMIT_GRACE)
}

fn unanswered(row: &RecordingRow, long: Duration, sight: &Sight) -> Action {
    let lasts = limit(row) + LIMIT_GRACE + ANSWER_PATIENCE;
    // Counted from what has happened: a limit that lies ahead is no clock that was set back.
    let due = match (row.ending_since, sight.age) {
        (Some(since), _) => passed(since, ANSWER_PATIENCE, sight.now),
        (None, Some(age)) => age >= lasts,
        (None, None) => passed(row.launched_at.unwrap_or_default(), lasts, sight.now),
    };
    if long < ASKED_FOR || !due {
        return Action::Rest(LOOK_AGAIN);
    }
    let detail = "the phone answered no more, and what became of the recorder is not known";
    Action::GiveUp(Reason::new("PHONE_UNREACHABLE", detail))
}

/// Whether so much time has passed since `since`.
fn passed(since: Timestamp, patience: Duration, now: Timestamp) -> bool {
    now.since(since) >= patience || since.since(now) > CLOCK_SET_BACK.max(patience)
}

/// A wall clock that is set meanwhile must neither end it early nor hurry its signals.
fn go_on(row: &RecordingRow, sighting: &Sighting, sight: &Sight) -> Action {
    let Some(launched_at) = row.launched_at else { return Action::Launch };
    if row.end_cause.is_none() {
        let left = sight.age.map_or_else(
            || overdue_at(row).since(sight.now),
            |age| (limit(row) + LIMIT_GRACE).saturating_sub(age),
        );
        return if left.is_zero() {
            Action::Finish(EndCause::TimeLimit)
        } else {
            Action::Wait(left.min(WAIT))
        };
    }
    let Some((signal, _)) = row.signal else {
        let had_its_time = sight
            .age
            .map_or_else(|| passed(launched_at, FILE_PATIENCE, sight.now), |age| age >= FILE_PATIENCE);
        return if sighting.bytes > 0 || had_its_time {
            Action::Signal(StopSignal::Interrupt)
        } else {
            Action::Wait(LOOK_AGAIN)
        };
    };
    let patience = match signal {
        StopSignal::Interrupt => INTERRUPT_PATIENCE,
        StopSignal::HangUp => HANG_UP_PATIENCE,
        StopSignal::Kill => KILL_PATIENCE,
    };
    let left = patience.saturating_sub(sight.signalled);
    if !left.is_zero() {
        return Action::Wait(left.clamp(Duration::from_millis(10), WAIT));
    }
    match signal {
        StopSignal::Interrupt => Action::Signal(StopSignal::HangUp),
        StopSignal::HangUp => Action::Signal(StopSignal::Kill),
        StopSignal::Kill => {
            let detail = "the recorder heeded neither SIGINT nor SIGHUP, and SIGKILL was not seen to end it";
            Action::GiveUp(Reason::new("RECORDER_FAILED", detail))
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
