//! Every combination of wish, phase, container and flags: the plan leads to the goal from
//! each, and never does what it must not.

use super::*;
use phonefleet_protocol::desired::DesiredDevice;
use phonefleet_protocol::facts::Ports;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::spec::DeviceSpec;
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp(1_000_000_000);
const PHASES: [Phase; 7] = [
    Phase::Absent,
    Phase::Reserved,
    Phase::Stopped,
    Phase::Starting,
    Phase::Running,
    Phase::Stopping,
    Phase::Error,
];

/// A phone in the world of this test: what the plan sees, and what its actions do.
#[derive(Clone, Debug)]
struct World {
    row: DeviceRow,
    container: Option<ContainerState>,
    fits: bool,
    ports_tested: bool,
    start_seen: bool,
    verified: bool,
    erased: bool,
    data: bool,
    recording: Option<ActiveRecording>,
    now: Timestamp,
}

impl World {
    fn container(&self) -> Option<Container> {
        let state = self.container.clone()?;
        Some(Container { id: "c".into(), name: "n".into(), labels: BTreeMap::new(), state })
    }

    fn plan(&self) -> Action {
        let container = self.container();
        plan(
            &self.row,
            &Sight {
                container: container.as_ref(),
                fits: self.fits,
                ports_tested: self.ports_tested,
                start_seen: self.start_seen,
                verified: self.verified,
                probe_due: false,
                erased: self.erased,
                recording: self.recording,
                now: self.now,
            },
        )
    }

    /// What the action does when everything works.
    fn apply(&mut self, action: Action) {
        match action {
            Action::Rest | Action::Probe => unreachable!("{self:?}"),
            Action::RestUntil(at) => self.now = at,
            Action::LeasePorts => {
                self.row.ports = Some(Ports { adb: 1, webrtc: 2 });
                self.ports_tested = true;
            }
            Action::Create => {
                assert!(
                    self.container.is_none() && self.row.ports.is_some() && self.ports_tested,
                    "{self:?}"
                );
                (self.container, self.fits, self.data) = (Some(ContainerState::Created), true, true);
                self.start_seen = false;
            }
            Action::Start => {
                assert!(!self.runs() && self.fits, "{self:?}");
                self.container = Some(ContainerState::Running);
                (self.row.phase, self.row.booted) = (Phase::Starting, false);
                self.row.applied_boot_count = self.row.desired.boot_count;
                self.start_seen = true;
            }
            Action::Boot => {
                if self.container == Some(ContainerState::Paused) {
                    // Its deadline passes.
                    return self.fail(Reason::new("BOOT_TIMEOUT", ""));
                }
                self.verified = true;
                self.settle(Phase::Running);
            }
            Action::FinishRecording => {
                assert!(self.recording.is_some(), "{self:?}");
                self.recording = None;
            }
            Action::Stop { graceful } => {
                assert!(self.runs(), "{self:?}");
                assert!(!graceful || self.row.booted, "{self:?}");
                self.container = Some(ContainerState::Exited { code: 130, out_of_memory: false });
                if self.row.phase != Phase::Error {
                    self.row.phase = Phase::Stopping;
                }
                (self.start_seen, self.verified) = (false, false);
            }
            Action::RemoveContainer => {
                self.container = None;
                self.row.phase = Phase::Stopping;
                (self.erased, self.ports_tested, self.start_seen, self.verified) =
                    (false, false, false, false);
            }
            Action::EraseData => {
                assert!(self.container.is_none() && self.row.desired.wish < Wish::Stopped, "{self:?}");
                (self.erased, self.data) = (true, false);
            }
            Action::EraseOldData => self.row.applied_data_epoch = self.row.desired.data_epoch,
            Action::Settle(phase) => self.settle(phase),
            Action::Fail(reason) => self.fail(reason),
            Action::Died(_) => {
                assert!(self.row.answer.is_some() && !self.runs(), "{self:?}");
                self.row.deaths.push(self.now);
                (self.row.phase, self.start_seen) = (Phase::Starting, false);
                if self.row.deaths.len() >= CRASH_LOOP_DEATHS {
                    self.row.phase = Phase::Error;
                }
            }
            Action::Report(reason) => self.row.reason = reason,
        }
    }

    fn settle(&mut self, phase: Phase) {
        self.row.phase = phase;
        self.row.reason = None;
        self.row.booted = phase == Phase::Running;
        if phase == Phase::Absent {
            self.row.ports = None;
        }
        self.row.answer.get_or_insert(Outcome::Reached);
    }

    fn fail(&mut self, reason: Reason) {
        self.row.phase = Phase::Error;
        self.row.answer.get_or_insert(Outcome::Failed { reason, retryable: false });
    }

    fn runs(&self) -> bool {
        matches!(self.container, Some(ContainerState::Running | ContainerState::Paused))
    }
}

fn row(wish: Wish) -> DeviceRow {
    DeviceRow::new(DesiredDevice {
        device_id: DeviceId(uuid::Uuid::nil()),
        generation: 1,
        attempt: 1,
        question: None,
        wish,
        spec: Some(DeviceSpec::default()),
        boot_count: 0,
        data_epoch: 0,
    })
}

/// Every combination, also those that nobody can imagine to happen.
fn worlds() -> Vec<World> {
    let containers = [
        None,
        Some(ContainerState::Created),
        Some(ContainerState::Running),
        Some(ContainerState::Paused),
        Some(ContainerState::Exited { code: 129, out_of_memory: false }),
        Some(ContainerState::Dead),
    ];
    let failed = Outcome::Failed { reason: Reason::new("X", ""), retryable: true };
    let answers = [None, Some(Outcome::Reached), Some(failed)];
    let mut worlds = Vec::new();
    for wish in [Wish::Absent, Wish::Reserved, Wish::Stopped, Wish::Running] {
        for phase in PHASES {
            for container in &containers {
                for answer in &answers {
                    for bits in 0..256_u32 {
                        let bit = |number: u32| bits & (1 << number) != 0;
                        let mut row = row(wish);
                        row.phase = phase;
                        row.answer.clone_from(answer);
                        row.ports = bit(0).then_some(Ports { adb: 1, webrtc: 2 });
                        row.desired.boot_count = u32::from(bit(1));
                        row.desired.data_epoch = u32::from(bit(1));
                        row.booted = bit(2);
                        worlds.push(World {
                            row,
                            container: container.clone(),
                            fits: bit(3),
                            ports_tested: bit(4),
                            start_seen: bit(5),
                            verified: bit(6),
                            erased: bit(7),
                            data: true,
                            recording: None,
                            now: NOW,
                        });
                    }
                }
            }
        }
    }
    worlds
}

#[test]
fn every_state_leads_to_the_goal_and_stays_there() {
    for start in worlds() {
        let mut world = start.clone();
        let mut steps = 0;
        loop {
            let action = world.plan();
            if action == Action::Rest {
                break;
            }
            steps += 1;
            assert!(steps < 40, "no end from {start:?}: at {action:?} in {world:?}");
            world.apply(action);
        }
        assert!(world.row.answer.is_some(), "no answer from {start:?}: {world:?}");
        let failed = matches!(world.row.answer, Some(Outcome::Failed { .. }));
        let gave_up = failed || world.row.phase == Phase::Error;
        match world.row.desired.wish {
            Wish::Absent => {
                assert_eq!((world.row.phase, world.row.ports), (Phase::Absent, start_ports(&start, &world)));
                assert!(world.container.is_none(), "{start:?}");
            }
            Wish::Reserved => assert!(world.container.is_none(), "{start:?}"),
            Wish::Stopped => assert!(!world.runs(), "{start:?}"),
            Wish::Running if world.row.reason.as_ref().is_some_and(|reason| reason.code == PAUSED) => {
                assert_eq!(world.container, Some(ContainerState::Paused), "{start:?}: {world:?}");
            }
            Wish::Running if gave_up => assert!(!world.runs() || world.row.booted, "{start:?}: {world:?}"),
            Wish::Running => {
                assert!(world.runs() && world.row.phase == Phase::Running, "{start:?}: {world:?}");
                assert_eq!(world.row.applied_boot_count, world.row.desired.boot_count, "{start:?}");
                assert_eq!(world.row.applied_data_epoch, world.row.desired.data_epoch, "{start:?}");
                assert!(world.fits, "{start:?}");
            }
        }
    }
}

/// A device that was absent and answered keeps what its row said: nothing is planned for it.
fn start_ports(start: &World, end: &World) -> Option<Ports> {
    let rested = start.row.phase == Phase::Absent && start.row.answer.is_some() && start.container.is_none();
    if rested { end.row.ports } else { None }
}

#[test]
fn a_phone_that_is_fine_is_never_touched() {
    for world in worlds() {
        let fine = world.row.desired.wish == Wish::Running
            && world.row.phase == Phase::Running
            && world.container == Some(ContainerState::Running)
            && world.fits
            && world.row.ports.is_some()
            && world.row.applied_boot_count == world.row.desired.boot_count
            && !matches!(world.row.answer, Some(Outcome::Failed { .. }));
        if fine {
            let action = world.plan();
            let calm = matches!(
                action,
                Action::Rest | Action::Boot | Action::Probe | Action::Settle(Phase::Running)
            );
            assert!(calm, "{action:?} in {world:?}");
        }
    }
}

#[test]
fn what_records_ends_before_its_phone_does() {
    let recording = |had_its_time, data_epoch| Some(ActiveRecording { had_its_time, data_epoch });
    for start in worlds() {
        let mut world = World { recording: recording(false, Some(0)), ..start.clone() };
        let without = start.plan();
        let old_data = without == Action::EraseOldData;
        let ends = matches!(
            without,
            Action::Stop { .. } | Action::RemoveContainer | Action::EraseData | Action::EraseOldData
        );
        let action = world.plan();
        assert_eq!(action, if ends { Action::FinishRecording } else { without.clone() }, "{start:?}");
        // Of the data that is in use nothing is held up.
        for epoch in [Some(1), None] {
            world.recording = recording(false, epoch);
            assert_eq!(world.plan() == Action::FinishRecording, ends && !old_data, "{start:?}");
        }
        // A phone is not held up for ever, but nothing is erased under a recording.
        world.recording = recording(true, Some(0));
        let erases = matches!(without, Action::EraseData | Action::EraseOldData);
        assert_eq!(world.plan(), if erases { Action::FinishRecording } else { without }, "{start:?}");
    }
}

#[test]
fn a_parked_device_is_left_alone_whatever_it_is() {
    for mut world in worlds() {
        world.row.parked = true;
        assert_eq!(world.plan(), Action::Rest);
    }
}

#[test]
fn after_a_failure_nothing_is_built_up() {
    for world in worlds() {
        if matches!(world.row.answer, Some(Outcome::Failed { .. })) {
            let action = world.plan();
            let up = matches!(action, Action::LeasePorts | Action::Create | Action::Start | Action::Boot);
            assert!(!up, "{action:?} in {world:?}");
        }
    }
}

#[test]
fn a_death_is_told_once_and_only_of_a_phone_that_was_up() {
    let mut world = World {
        row: row(Wish::Running),
        container: Some(ContainerState::Exited { code: 137, out_of_memory: true }),
        fits: true,
        ports_tested: true,
        start_seen: false,
        verified: false,
        erased: false,
        data: true,
        recording: None,
        now: NOW,
    };
    world.row.ports = Some(Ports { adb: 1, webrtc: 2 });
    (world.row.phase, world.row.answer) = (Phase::Running, Some(Outcome::Reached));
    let Action::Died(reason) = world.plan() else { panic!("{:?}", world.plan()) };
    assert!(reason.detail.contains("more memory"), "{reason}");
    world.apply(Action::Died(reason));
    assert_eq!(world.plan(), Action::RestUntil(NOW.after(Duration::from_secs(1))));

    // During the first boot the same is a failure, and no second try.
    (world.row.answer, world.row.deaths, world.start_seen) = (None, Vec::new(), true);
    let action = world.plan();
    assert!(matches!(&action, Action::Fail(reason) if reason.code == "BOOT_FAILED"), "{action:?}");
    // Not seen to have been started: an earlier agent died before the engine was asked.
    world.start_seen = false;
    assert_eq!(world.plan(), Action::Start);
}

#[test]
fn the_back_off_doubles_to_a_minute_and_forgets_old_deaths() {
    let second = |number: i64| Timestamp(number * 1000);
    let waits: Vec<_> = (1..=9)
        .map(|deaths| next_start(&vec![second(5000); deaths], second(5000)).since(second(5000)).as_secs())
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(next_start(&[], second(5000)), second(5000));
    assert_eq!(next_start(&[second(4000)], second(5000)), second(5000));
    // Deaths before the clock was set back hold nothing up, however often that is asked.
    for now in 5000..5100 {
        assert_eq!(next_start(&[second(90_000); 3], second(now)), second(now));
    }
    assert_eq!(next_start(&[second(90_000), second(5000)], second(5000)), second(5001));
}

#[test]
fn what_failed_after_a_good_answer_is_tried_again_unless_it_died_too_often() {
    let start = World {
        row: row(Wish::Running),
        container: None,
        fits: true,
        ports_tested: true,
        start_seen: false,
        verified: false,
        erased: false,
        data: true,
        recording: None,
        now: NOW,
    };
    let after = |answer: Outcome, code: &str| {
        let mut world = start.clone();
        world.row.phase = Phase::Error;
        world.row.ports = Some(Ports { adb: 1, webrtc: 2 });
        world.row.reason = Some(Reason::new(code, ""));
        world.row.answer = Some(answer);
        world.plan()
    };
    let tried = after(Outcome::Reached, "IMAGE_MISSING");
    assert_eq!(tried, Action::Create);
    assert!(tried.builds(), "so that the task can pause before it");
    assert_eq!(after(Outcome::Reached, CRASH_LOOP), Action::Rest);
    let failed = Outcome::Failed { reason: Reason::new("IMAGE_MISSING", ""), retryable: false };
    assert_eq!(after(failed, "IMAGE_MISSING"), Action::Rest);
}
