//! What to do next about one phone. Pure: what is known goes in, one action comes out.
//!
//! The ladder, from below: absent, reserved (ports), stopped (data and a container),
//! running (started, booted). Every call looks at where the phone *is*, never at what was
//! done before: a crash between two steps leaves nothing to remember.
//!
//! Whatever ends a phone, or removes its data, waits for what records on it: for a while to
//! stop it, and as long as it takes to erase it.
//!
//! After an answer that failed, nothing is built up any more (another attempt asks for
//! that), but what is to go still goes. What fails after a good answer is tried again, with
//! pauses that the task keeps.

use crate::runtime::{Container, ContainerState};
use crate::store::device::DeviceRow;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::{Phase, Reason};
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// Deaths within [`DEATH_WINDOW`] after which a phone is given up.
pub const CRASH_LOOP_DEATHS: usize = 5;
/// How long a death counts.
pub const DEATH_WINDOW: Duration = Duration::from_mins(10);
/// Longest wait before a phone that died is started again.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(1);

/// What is known of a phone beside its row.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Its container, as it is now; one of a stranger with the same name is none.
    pub container: Option<&'a Container>,
    /// The container is built from what the row asks for.
    pub fits: bool,
    /// Its ports passed a bind test since they were asked for.
    pub ports_tested: bool,
    /// This process saw the newest start succeed.
    pub start_seen: bool,
    /// This process reached the phone over adb since it runs.
    pub verified: bool,
    /// Time for another look at a phone that runs.
    pub probe_due: bool,
    /// Its data was removed since this was asked for.
    pub erased: bool,
    /// What records on it, or is being fetched from it.
    pub recording: Option<ActiveRecording>,
    /// The present.
    pub now: Timestamp,
}

/// A recording of the phone that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveRecording {
    /// It had its time to end by itself: the phone is not held up any more.
    pub had_its_time: bool,
    /// Which of the phone's data its file is in, once it was launched.
    pub data_epoch: Option<u32>,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, until something happens.
    Rest,
    /// Nothing before this moment.
    RestUntil(Timestamp),
    /// Lease what is missing, and test that both ports can be bound.
    LeasePorts,
    /// Make the data directory and the container.
    Create,
    /// Start the container.
    Start,
    /// Go on with the boot ladder.
    Boot,
    /// See whether a phone that runs still answers.
    Probe,
    /// End what records on it, and wait for that.
    FinishRecording,
    /// Bring the container to its end: as Android does it, or at once.
    Stop {
        /// Ask Android first.
        graceful: bool,
    },
    /// Remove the container; the data stays.
    RemoveContainer,
    /// Remove the data.
    EraseData,
    /// Remove the data of epochs before the one in use.
    EraseOldData,
    /// It is where it should be: answer, or tell.
    Settle(Phase),
    /// Answer that it failed, for good.
    Fail(Reason),
    /// It died by itself.
    Died(Reason),
    /// Tell something noteworthy, or that it has passed.
    Report(Option<Reason>),
}

impl Action {
    /// Whether this builds the phone up: what has just failed is not tried again at once.
    pub fn builds(&self) -> bool {
        matches!(self, Self::LeasePorts | Self::Create | Self::Start)
    }
}

/// When a phone that died may be started again.
pub fn next_start(deaths: &[Timestamp], now: Timestamp) -> Timestamp {
    let recent: Vec<_> = deaths.iter().filter(|death| is_recent(**death, now)).collect();
    let Some(last) = recent.last() else { return now };
    let doublings = u32::try_from(recent.len() - 1).unwrap_or(u32::MAX).min(6);
    let wait = Duration::from_secs(1 << doublings).min(LONGEST_BACK_OFF);
    last.after(wait)
}

/// Whether a death counts still. One in the future was noted before the clock was set back:
/// nobody knows when it was.
pub fn is_recent(death: Timestamp, now: Timestamp) -> bool {
    death <= now && now.since(death) < DEATH_WINDOW
}

/// The next thing to do about a phone.
pub fn plan(row: &DeviceRow, sight: &Sight<'_>) -> Action {
    if row.parked {
        return Action::Rest;
    }
    let action = match row.desired.wish {
        Wish::Absent => go_down(row, sight, Phase::Absent),
        Wish::Reserved => go_down(row, sight, Phase::Reserved),
        Wish::Stopped => stand_still(row, sight),
        Wish::Running => run(row, sight),
    };
    if holds_up(row, sight, &action) && !planted(Mutant::TearRecordings) {
        Action::FinishRecording
    } else {
        action
    }
}

/// Whether a recording has to end first.
fn holds_up(row: &DeviceRow, sight: &Sight<'_>, action: &Action) -> bool {
    let Some(recording) = sight.recording else { return false };
    match action {
        Action::Stop { .. } | Action::RemoveContainer => !recording.had_its_time,
        Action::EraseData => true,
        Action::EraseOldData => recording.data_epoch.is_some_and(|epoch| epoch < row.desired.data_epoch),
        Action::Rest
        | Action::RestUntil(_)
        | Action::LeasePorts
        | Action::Create
        | Action::Start
        | Action::Boot
        | Action::Probe
        | Action::FinishRecording
        | Action::Settle(_)
        | Action::Fail(_)
        | Action::Died(_)
        | Action::Report(_) => false,
    }
}

/// Nothing more is built up for the current question.
fn halted(row: &DeviceRow) -> bool {
    matches!(row.answer, Some(Outcome::Failed { .. }))
}

fn settled(row: &DeviceRow, phase: Phase) -> bool {
    row.answer.is_some() && row.phase == phase
}

fn go_down(row: &DeviceRow, sight: &Sight<'_>, goal: Phase) -> Action {
    if sight.container.is_some() {
        return Action::RemoveContainer;
    }
    if settled(row, goal) {
        return Action::Rest;
    }
    // What was never more than reserved has nothing to erase, but only its row says so.
    if !sight.erased && !planted(Mutant::KeepData) {
        return Action::EraseData;
    }
    if goal == Phase::Reserved {
        if halted(row) {
            return Action::Rest;
        }
        if row.ports.is_none() || !sight.ports_tested {
            return Action::LeasePorts;
        }
    }
    Action::Settle(goal)
}

fn stand_still(row: &DeviceRow, sight: &Sight<'_>) -> Action {
    let Some(container) = sight.container else {
        return if halted(row) { Action::Rest } else { build(row, sight) };
    };
    match container.state {
        ContainerState::Running | ContainerState::Paused => return stop(row, container),
        ContainerState::Dead => return Action::RemoveContainer,
        ContainerState::Created | ContainerState::Exited { .. } => {}
    }
    if !halted(row) {
        if row.ports.is_none() {
            return Action::LeasePorts;
        }
        if !sight.fits {
            return Action::RemoveContainer;
        }
    }
    if settled(row, Phase::Stopped) { erase_old(row) } else { Action::Settle(Phase::Stopped) }
}

fn build(row: &DeviceRow, sight: &Sight<'_>) -> Action {
    if row.ports.is_none() || !sight.ports_tested { Action::LeasePorts } else { Action::Create }
}

fn stop(row: &DeviceRow, container: &Container) -> Action {
    Action::Stop { graceful: row.booted && container.state == ContainerState::Running }
}

fn erase_old(row: &DeviceRow) -> Action {
    if row.applied_data_epoch < row.desired.data_epoch { Action::EraseOldData } else { Action::Rest }
}

fn run(row: &DeviceRow, sight: &Sight<'_>) -> Action {
    if halted(row) || row.phase == Phase::Error && row.answer.is_some() && !may_recover(row) {
        return given_up(row, sight);
    }
    let Some(container) = sight.container else {
        if was_up(row, sight) && row.answer.is_some() {
            return Action::Died(Reason::new("CONTAINER_REMOVED", "its container was removed from outside"));
        }
        return after_back_off(row, sight, build(row, sight));
    };
    if container.state == ContainerState::Dead {
        if was_up(row, sight) && row.answer.is_some() {
            return Action::Died(Reason::new("CONTAINER_REMOVED", "its container is being removed"));
        }
        return Action::RemoveContainer;
    }
    let runs = matches!(container.state, ContainerState::Running | ContainerState::Paused);
    if row.ports.is_none() {
        return Action::LeasePorts;
    }
    // A stop that has begun is finished first: nobody knows how far it came.
    let reboot = row.applied_boot_count < row.desired.boot_count;
    if runs && (row.phase == Phase::Stopping || !sight.fits || reboot) {
        return stop(row, container);
    }
    match &container.state {
        ContainerState::Running => up(row, sight),
        ContainerState::Paused => paused(row),
        state => down(row, sight, state),
    }
}

/// It was what was asked for, and then could not be built up again: an image that went away,
/// a start that was refused. What stands in the way may go, and nobody else would try again.
fn may_recover(row: &DeviceRow) -> bool {
    row.answer == Some(Outcome::Reached) && row.reason.as_ref().is_none_or(|reason| reason.code != CRASH_LOOP)
}

/// It failed, or died too often: its container is kept, but does not run unless it booted.
fn given_up(row: &DeviceRow, sight: &Sight<'_>) -> Action {
    match sight.container.map(|container| &container.state) {
        Some(ContainerState::Running | ContainerState::Paused) if !row.booted => {
            Action::Stop { graceful: false }
        }
        _ => Action::Rest,
    }
}

/// The container ran when this was last looked at.
fn was_up(row: &DeviceRow, sight: &Sight<'_>) -> bool {
    row.phase == Phase::Running || (row.phase == Phase::Starting && sight.start_seen)
}

fn after_back_off(row: &DeviceRow, sight: &Sight<'_>, action: Action) -> Action {
    let at = next_start(&row.deaths, sight.now);
    if at > sight.now { Action::RestUntil(at) } else { action }
}

fn up(row: &DeviceRow, sight: &Sight<'_>) -> Action {
    if row.phase != Phase::Running {
        return Action::Boot;
    }
    if row.answer.is_none() {
        return if sight.verified { Action::Settle(Phase::Running) } else { Action::Boot };
    }
    if row.reason.as_ref().is_some_and(|reason| reason.code == PAUSED) {
        return Action::Report(None);
    }
    if planted(Mutant::RestartPhones) && !sight.verified {
        return Action::Stop { graceful: false };
    }
    if sight.probe_due { Action::Probe } else { erase_old(row) }
}

/// The reason of a phone that died too often: only a new word of its controller helps.
pub const CRASH_LOOP: &str = "CRASH_LOOP";

const PAUSED: &str = "PAUSED";

fn paused(row: &DeviceRow) -> Action {
    if row.answer.is_none() {
        // The boot's deadline decides.
        return Action::Boot;
    }
    if row.reason.as_ref().is_some_and(|reason| reason.code == PAUSED) {
        return Action::Rest;
    }
    Action::Report(Some(Reason::new(PAUSED, "its container is paused; unpause it, or stop the device")))
}

fn down(row: &DeviceRow, sight: &Sight<'_>, state: &ContainerState) -> Action {
    if let ContainerState::Exited { code, out_of_memory } = state
        && was_up(row, sight)
    {
        let why = exit_text(*code, *out_of_memory);
        if row.answer.is_some() {
            return Action::Died(Reason::new("DIED", why));
        }
        if row.phase == Phase::Starting {
            return Action::Fail(Reason::new("BOOT_FAILED", format!("during its boot, {why}")));
        }
    }
    if !sight.fits {
        return Action::RemoveContainer;
    }
    after_back_off(row, sight, Action::Start)
}

fn exit_text(code: i64, out_of_memory: bool) -> String {
    let meaning = match code {
        _ if out_of_memory => ": killed for using more memory than its limit",
        129 => ": Android rebooted, or its init failed",
        130 => ": Android was shut down",
        137 => ": killed",
        134 | 139 => ": init crashed",
        _ => "",
    };
    format!("its container ended with exit code {code}{meaning}")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
