//! From every state the plan leads to an end, in bounded time, and signals come in order and once.

use super::*;
use crate::store::recording::PhoneProcess;
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::{DesiredRecording, RecordingPhase, RecordingSpec, RecordingWish};

const NOW: Timestamp = Timestamp(1_000_000_000);
const PROCESS: PhoneProcess = PhoneProcess { pid: 7, start_time: 8 };

fn row() -> RecordingRow {
    let desired = DesiredRecording {
        recording_id: RecordingId(uuid::Uuid::nil()),
        device_id: DeviceId(uuid::Uuid::nil()),
        wish: RecordingWish::Recording,
        not_after: NOW.after(Duration::from_secs(30)),
        spec: RecordingSpec { max_duration_seconds: 60, ..RecordingSpec::default() },
    };
    RecordingRow::new(desired, "/data/x".to_owned())
}

fn seen(recorder: Recorded) -> ProcessState {
    ProcessState::Seen(Sighting { recorder, launched_in: Some(1), runs_in: Some(1), bytes: 5, age: None })
}

fn sight(phone: PhoneState, process: ProcessState) -> Sight {
    Sight { phone, process, age: None, signalled: Duration::ZERO, now: NOW }
}

fn running() -> RecordingRow {
    RecordingRow {
        phase: RecordingPhase::Recording,
        launched_at: Some(NOW),
        process: Some(PROCESS),
        boot_mark: Some(1),
        ..row()
    }
}

fn fails(action: &Action, code: &str) -> bool {
    matches!(action, Action::Fail(reason) if reason.code == code)
}

/// The phone was asked for a minute.
const UNKNOWN: ProcessState = ProcessState::Unknown(Duration::from_secs(60));
const DOWN: PhoneState = PhoneState::Down { container_runs: true };
const DEAD: PhoneState = PhoneState::Down { container_runs: false };

#[test]
fn it_begins_on_a_phone_that_is_ready_and_in_time() {
    let unknown = UNKNOWN;
    assert_eq!(plan(&row(), &sight(PhoneState::Ready, unknown)), Action::Launch);
    assert_eq!(plan(&row(), &sight(PhoneState::Unsettled, unknown)), Action::Rest(LOOK_AGAIN));
    for phone in [DOWN, DEAD] {
        assert!(fails(&plan(&row(), &sight(phone, unknown)), "DEVICE_NOT_RUNNING"));
    }
    let late = Sight { now: NOW.after(Duration::from_secs(31)), ..sight(PhoneState::Ready, unknown) };
    assert!(fails(&plan(&row(), &late), "TOO_LATE"));
    for (cause, code) in
        [(EndCause::Stopped, "NEVER_STARTED"), (EndCause::DeviceStopped, "DEVICE_NOT_RUNNING")]
    {
        let row = RecordingRow { end_cause: Some(cause), ..row() };
        assert!(fails(&plan(&row, &sight(PhoneState::Ready, unknown)), code));
    }
}

#[test]
fn a_launch_whose_fate_is_unknown_is_looked_for_and_never_made_blindly() {
    let launched = RecordingRow { launched_at: Some(NOW), ..row() };
    let at = |process, now| Sight { now, ..sight(PhoneState::Ready, process) };
    assert_eq!(plan(&launched, &at(UNKNOWN, NOW)), Action::Rest(LOOK_AGAIN));
    assert_eq!(plan(&launched, &at(seen(Recorded::Never), NOW)), Action::Launch);
    let late = NOW.after(Duration::from_secs(31));
    assert_eq!(plan(&launched, &at(seen(Recorded::Never), late)), Action::Forbid);
    let stopped = RecordingRow { end_cause: Some(EndCause::Stopped), ..launched.clone() };
    assert_eq!(plan(&stopped, &at(seen(Recorded::Never), NOW)), Action::Forbid);
    assert!(matches!(plan(&launched, &at(seen(Recorded::Runs(PROCESS)), late)), Action::Adopt(_)));
    assert!(matches!(plan(&stopped, &at(seen(Recorded::Runs(PROCESS)), late)), Action::Adopt(_)));
    assert_eq!(plan(&launched, &at(seen(Recorded::Ended), NOW)), Action::Ended(None));
}

#[test]
fn ends_are_told_apart() {
    let died = Action::Ended(Some(EndCause::DeviceDied));
    assert_eq!(plan(&running(), &sight(DEAD, UNKNOWN)), died);
    assert_eq!(plan(&running(), &sight(PhoneState::Ready, seen(Recorded::Ended))), Action::Ended(None));
    let boot = |launched_in, runs_in| {
        ProcessState::Seen(Sighting { recorder: Recorded::Ended, launched_in, runs_in, bytes: 5, age: None })
    };
    assert_eq!(plan(&running(), &sight(PhoneState::Ready, boot(None, Some(2)))), died);
    assert_eq!(plan(&running(), &sight(PhoneState::Ready, boot(None, None))), Action::Ended(None));
    let unnoted = RecordingRow { boot_mark: None, process: None, ..running() };
    assert_eq!(plan(&unnoted, &sight(PhoneState::Ready, boot(Some(1), Some(2)))), died);
    // A folder that is gone is no recorder that never was.
    let never = |runs_in| {
        let recorder = Recorded::Never;
        ProcessState::Seen(Sighting { recorder, launched_in: None, runs_in, bytes: 0, age: None })
    };
    assert_eq!(plan(&running(), &sight(PhoneState::Ready, never(Some(1)))), Action::Ended(None));
    assert_eq!(plan(&running(), &sight(PhoneState::Ready, never(Some(2)))), died);
    let ended = RecordingRow { ended_at: Some(NOW), ..running() };
    assert_eq!(plan(&ended, &sight(DEAD, UNKNOWN)), Action::Collect);
    let over = RecordingRow { phase: RecordingPhase::Final, ..ended };
    assert_eq!(plan(&over, &sight(DEAD, UNKNOWN)), Action::Done);
}

/// A recorder that heeds nothing: every signal once, in order, each after its patience.
#[test]
fn signals_come_in_order_once_and_in_time() {
    for cause in [EndCause::Stopped, EndCause::DeviceStopped, EndCause::TimeLimit] {
        let mut row = RecordingRow { end_cause: Some(cause), ending_since: Some(NOW), ..running() };
        let (mut now, mut sent) = (NOW, Vec::new());
        loop {
            let process = seen(Recorded::Runs(PROCESS));
            let signalled = row.signal.map_or(Duration::ZERO, |(_, at)| now.since(at));
            match plan(&row, &Sight { signalled, now, ..sight(PhoneState::Ready, process) }) {
                Action::Wait(wait) => {
                    assert!(wait > Duration::ZERO);
                    now = now.after(wait);
                }
                Action::Signal(signal) => {
                    assert!(row.signal.is_none_or(|(before, _)| before < signal));
                    row.signal = Some((signal, now));
                    sent.push((signal, now.since(NOW).as_secs()));
                }
                Action::GiveUp(reason) if reason.code == "RECORDER_FAILED" => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sent, [(StopSignal::Interrupt, 0), (StopSignal::HangUp, 10), (StopSignal::Kill, 15)]);
        assert_eq!(now.since(NOW).as_secs(), 20);
    }
}

#[test]
fn a_recorder_without_a_file_is_not_signalled_at_once() {
    let row = RecordingRow { end_cause: Some(EndCause::Stopped), ..running() };
    let empty = Sighting {
        recorder: Recorded::Runs(PROCESS),
        launched_in: Some(1),
        runs_in: Some(1),
        bytes: 0,
        age: None,
    };
    let at = |now| Sight { now, ..sight(PhoneState::Ready, ProcessState::Seen(empty)) };
    assert_eq!(plan(&row, &at(NOW)), Action::Wait(LOOK_AGAIN));
    assert_eq!(plan(&row, &at(NOW.after(FILE_PATIENCE))), Action::Signal(StopSignal::Interrupt));
}

#[test]
fn one_that_runs_is_waited_for_until_its_limit_and_a_little_longer() {
    let at = |seconds| Sight {
        now: NOW.after(Duration::from_secs(seconds)),
        ..sight(PhoneState::Ready, seen(Recorded::Runs(PROCESS)))
    };
    assert_eq!(plan(&running(), &at(0)), Action::Wait(WAIT));
    assert_eq!(plan(&running(), &at(63)), Action::Wait(Duration::from_secs(2)));
    assert_eq!(plan(&running(), &at(65)), Action::Finish(EndCause::TimeLimit));
    // A phone on its way down is waited for in the same way: its task orders the end.
    assert_eq!(plan(&running(), &Sight { phone: DOWN, ..at(1) }), Action::Wait(WAIT));
}

#[test]
fn a_phone_that_does_not_answer_holds_nothing_up_for_ever() {
    let at = |seconds| Sight {
        now: NOW.after(Duration::from_secs(seconds)),
        ..sight(PhoneState::Unsettled, UNKNOWN)
    };
    assert_eq!(plan(&running(), &at(180)), Action::Rest(LOOK_AGAIN));
    let gives_up = |row: &RecordingRow, sight: &Sight| matches!(plan(row, sight), Action::GiveUp(reason) if reason.code == "PHONE_UNREACHABLE");
    assert!(gives_up(&running(), &at(186)));
    // A limit that lies far ahead is not one that has passed.
    let mut long = running();
    long.desired.spec.max_duration_seconds = 180;
    assert_eq!(plan(&long, &at(40)), Action::Rest(LOOK_AGAIN));
    // Who has only just begun to ask does not give up, however late it is.
    let just_begun = Sight { process: ProcessState::Unknown(Duration::from_secs(1)), ..at(10_000) };
    assert_eq!(plan(&running(), &just_begun), Action::Rest(LOOK_AGAIN));
    let stopped = RecordingRow { end_cause: Some(EndCause::Stopped), ending_since: Some(NOW), ..running() };
    assert_eq!(plan(&stopped, &at(119)), Action::Rest(LOOK_AGAIN));
    assert!(gives_up(&stopped, &at(120)));
}

#[test]
fn a_clock_that_is_set_changes_nothing_of_what_runs() {
    let signalled = |at, for_seconds| {
        let row = RecordingRow {
            end_cause: Some(EndCause::Stopped),
            signal: Some((StopSignal::Interrupt, at)),
            ..running()
        };
        let signalled = Duration::from_secs(for_seconds);
        plan(&row, &Sight { signalled, ..sight(PhoneState::Ready, seen(Recorded::Runs(PROCESS))) })
    };
    let hour = Duration::from_hours(1);
    for at in [NOW, NOW.after(hour), Timestamp(NOW.0 - 3_600_000)] {
        assert_eq!(signalled(at, 9), Action::Wait(Duration::from_secs(1)));
        assert_eq!(signalled(at, 10), Action::Signal(StopSignal::HangUp));
    }
    // One that runs is as old as its phone says.
    let old = |age, now, process| {
        plan(
            &running(),
            &Sight { age: Some(Duration::from_secs(age)), now, ..sight(PhoneState::Ready, process) },
        )
    };
    for now in [NOW, NOW.after(hour), Timestamp(NOW.0 - 3_600_000)] {
        assert_eq!(old(20, now, seen(Recorded::Runs(PROCESS))), Action::Wait(WAIT));
        let overdue = old(65, now, seen(Recorded::Runs(PROCESS)));
        assert_eq!(overdue, Action::Finish(EndCause::TimeLimit));
        assert_eq!(old(20, now, UNKNOWN), Action::Rest(LOOK_AGAIN));
        assert!(matches!(old(185, now, UNKNOWN), Action::GiveUp(_)));
    }
}
