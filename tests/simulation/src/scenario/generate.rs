//! From a seed to a scenario. Each seed draws which kinds of faults it has at all: a few
//! kinds often meet each other in ways that all kinds together would drown.

use super::mood::{self, Kind, Mood};
use super::{CallFault, Entry, Fault, Order, Scenario, Seed, Side, Target, Wanted, What};
use crate::random::Random;
use phonefleet_controller::order::Verb;
use std::time::Duration;

/// Orders come within this time.
const ORDERS: u64 = 100;
/// Kinds of faults: see [`fault`].
const KINDS: u64 = 18;

/// The scenario of a seed, in the mood that it draws.
pub fn scenario(seed: Seed) -> Scenario {
    let mood = if seed.plain { &mood::PLAIN } else { mood::of(seed.number) };
    let mut random = Random::new(seed.number, "scenario");
    let hosts = random.pick(&[1, 1, 2, 2, 2, 3]);
    let users = random.pick(&[1, 2]);
    let mut draft = Draft { mood, targets: Vec::new(), entries: Vec::new(), hosts, users };
    for _ in 0..mood.early {
        let at = random.seconds(0, 15);
        let user = random.index(users);
        draft.create(&mut random, user, at);
    }
    for _ in 0..random.below(12) + 3 {
        let at = random.seconds(0, ORDERS);
        draft.order(&mut random, at);
    }
    let calm = random.chance(10);
    // Only what no phone may notice, so that every phone can be held to that.
    let gentle = random.chance(35);
    let kinds: Vec<u64> = if mood.faults.is_empty() {
        (0..KINDS).filter(|kind| random.chance(30) && (*kind < GENTLE || !gentle)).collect()
    } else {
        mood.faults.to_vec()
    };
    if !calm && !kinds.is_empty() {
        for _ in 0..=random.below(mood.most_faults) {
            let at = random.seconds(0, ORDERS + 20);
            let kind = random.pick(&kinds);
            if let Some(fault) = fault(kind, &mut random, &draft) {
                draft.push(at, What::Fault(fault));
                if let Fault::Restored(_, later) = fault
                    && mood.verbs_after_backups
                {
                    draft.stop_and_start(&mut random, at, Duration::from_millis(later));
                }
            }
        }
    }
    let mut entries = draft.entries;
    entries.sort_by_key(|entry| (entry.at, entry.number));
    Scenario { seed: seed.number, mood: mood.name, hosts, users, entries }
}

struct Draft {
    mood: &'static Mood,
    targets: Vec<(Target, Duration)>,
    entries: Vec<Entry>,
    hosts: usize,
    users: usize,
}

impl Draft {
    fn push(&mut self, at: Duration, what: What) {
        self.entries.push(Entry { number: self.entries.len(), at, what });
    }

    fn create(&mut self, random: &mut Random, user: usize, at: Duration) {
        let entry = self.entries.len();
        let wanted = wanted(random, self.hosts);
        let order = Order::Create { user, wanted, keyed: random.chance(80), twice: random.chance(15) };
        self.push(at, What::Order(order));
        self.targets.push((Target { entry, index: 0 }, at));
    }

    /// Something that the backup does not know of when it is put back.
    fn stop_and_start(&mut self, random: &mut Random, at: Duration, within: Duration) {
        let before: Vec<_> = self.targets.iter().filter(|(_, ordered)| *ordered < at).copied().collect();
        if before.is_empty() {
            return;
        }
        let (target, _) = random.pick(&before);
        for verb in [Verb::Stop, Verb::Start] {
            let at = at + random.time(Duration::ZERO, within);
            self.push(at, What::Order(Order::Verb { target, verb, keyed: true, twice: false }));
        }
    }

    fn order(&mut self, random: &mut Random, at: Duration) {
        let entry = self.entries.len();
        let user = random.index(self.users);
        let soon = self.mood.soon;
        let late = |random: &mut Random, after: Duration| {
            // Mostly when it has come to rest, and sometimes right behind.
            if random.chance(soon) {
                after + random.time(Duration::ZERO, Duration::from_secs(2))
            } else {
                random.time(after, Duration::from_secs(ORDERS + 10))
            }
        };
        let known = (!self.targets.is_empty()).then(|| random.pick(&self.targets));
        match (self.mood.kind(random.below(100)), known) {
            (Kind::Create, _) | (Kind::Verb | Kind::Record | Kind::StopAndStart | Kind::Film, None) => {
                self.create(random, user, at);
            }
            (Kind::Batch, _) => {
                let wanted: Vec<_> = (0..random.below(6) + 2).map(|_| wanted(random, self.hosts)).collect();
                self.targets.extend((0..wanted.len()).map(|index| (Target { entry, index }, at)));
                self.push(at, What::Order(Order::Batch { user, wanted }));
            }
            (Kind::Verb, Some((target, after))) => {
                let verb = random.pick(self.mood.verbs);
                let at = late(random, after);
                let order = Order::Verb { target, verb, keyed: random.chance(80), twice: random.chance(15) };
                self.push(at, What::Order(order));
            }
            (Kind::Record, Some((target, after))) => {
                let at = late(random, after + Duration::from_secs(3));
                self.push(at, What::Order(Order::Record { target, seconds: random.below(25) + 2 }));
                if random.chance(50) {
                    let at = at + random.seconds(0, 20);
                    self.push(at, What::Order(Order::StopRecording { target }));
                }
            }
            (Kind::StopAndStart, Some((target, after))) => {
                // Stop and start in a row, which is where late answers do harm.
                let at = late(random, after);
                for verb in [Verb::Stop, Verb::Start] {
                    let at = at + random.seconds(0, 6);
                    self.push(at, What::Order(Order::Verb { target, verb, keyed: true, twice: false }));
                }
            }
            (Kind::Limits, _) => {
                let few = |random: &mut Random| random.chance(60).then(|| random.below(5));
                let (devices, running) = (few(random), few(random));
                let cores = random.chance(30).then(|| random.below(6));
                self.push(at, What::Order(Order::Limits { user, devices, running, cores }));
            }
            (Kind::Film, Some((target, after))) => {
                // Something happens to the phone while it records.
                let at = late(random, after + Duration::from_secs(3));
                self.push(at, What::Order(Order::Record { target, seconds: random.below(25) + 10 }));
                let (at, verb) = (at + random.seconds(1, 12), random.pick(self.mood.verbs));
                self.push(at, What::Order(Order::Verb { target, verb, keyed: true, twice: false }));
            }
            (Kind::Cordon, _) => {
                let (host, on) = (random.index(self.hosts), random.chance(50));
                self.push(at, What::Order(Order::Cordon { host, on }));
            }
        }
    }
}

fn wanted(random: &mut Random, hosts: usize) -> Wanted {
    Wanted {
        name: random.below(9),
        boot_ms: random.pick(&[300, 500, 800, 1500, 4000]),
        tenths_of_core: random.pick(&[5, 10, 10, 20]),
        memory_mb: random.pick(&[128, 256]),
        fault: random
            .chance(8)
            .then(|| random.pick(&["boot_hang", "exit_129", "record_fail", "record_hang"])),
        missing_image: random.chance(3),
        host: random.chance(20).then(|| random.index(hosts)),
    }
}

/// Kinds below this are never noticed by a phone.
const GENTLE: u64 = 8;

fn side(random: &mut Random, hosts: usize) -> Side {
    if random.chance(40) { Side::Controller } else { Side::Agent(random.index(hosts)) }
}

fn fault(kind: u64, random: &mut Random, draft: &Draft) -> Option<Fault> {
    let host = random.index(draft.hosts);
    let side = side(random, draft.hosts);
    let short = random.below(20_000) + 200;
    // Longer than a saga's deadline, now and then.
    let long = random.pick(&[short, short, 40_000, 90_000, 700_000]);
    Some(match kind {
        0 => Fault::Kill(side, random.pick(&[0, 0, 0, 0, short, long])),
        1 => Fault::CrashAt(side, random.below(40) + 1),
        2 => Fault::BrokerForgets,
        3 => Fault::BrokerAway(short, random.chance(50)),
        4 => Fault::Cut(side, long),
        5 => Fault::Lossy(
            long,
            [random.pick(&[0, 10, 30]), random.pick(&[0, 10, 30]), random.pick(&[0, 20, 40])],
        ),
        6 => {
            Fault::PortsStolen(host, random.pick(&[20_000, 20_001, 21_000]), random.below(4) as u16 + 1, long)
        }
        7 => Fault::DiskFull(side, short),
        8 => Fault::EngineDown(host, long),
        9 => Fault::EngineSlow(host, random.below(3_000), long),
        10 | 11 => {
            let how =
                random.pick(&[CallFault::Unavailable, CallFault::Done, CallFault::Done, CallFault::Hang(20)]);
            Fault::EngineFails(host, random.index(6), random.below(6) + 1, how)
        }
        12 => Fault::AdbOffline(host, short),
        13 if draft.targets.is_empty() => return None,
        13 => Fault::PhoneDies(random.pick(&draft.targets).0),
        14 => Fault::ClockJumps(side, random.pick(&[-3600, -60, -2, 2, 60, 300, 3600])),
        15 => random.pick(&[Fault::HostReplaced(host), Fault::DatabaseLost(host)]),
        16 => Fault::Restored(side, random.below(40_000) + 1_000),
        _ => Fault::Twin(host, long),
    })
}
