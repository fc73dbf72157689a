//! Moods: what a scenario concentrates on. All orders and all faults together meet each other
//! in one special way only rarely; a few kinds of both do so at every third try.

use crate::random::Random;
use phonefleet_controller::order::Verb;

/// A kind of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new device.
    Create,
    /// Several at once.
    Batch,
    /// A verb on a device.
    Verb,
    /// A recording, which somebody perhaps ends.
    Record,
    /// A stop and a start in a row.
    StopAndStart,
    /// Other limits.
    Limits,
    /// A host takes no new devices, or does again.
    Cordon,
    /// A recording, and a verb in the middle of it.
    Film,
}

/// What a scenario concentrates on.
#[derive(Debug)]
pub struct Mood {
    /// Its name.
    pub name: &'static str,
    /// Kinds of orders, with their percentage; together 100.
    pub orders: &'static [(Kind, u64)],
    /// Verbs, each as often as it is named.
    pub verbs: &'static [Verb],
    /// How many percent of the orders come right behind the one that they build on.
    pub soon: u64,
    /// Devices that are ordered at the very beginning.
    pub early: u64,
    /// Kinds of faults (see `fault`); none: each scenario draws its own.
    pub faults: &'static [u64],
    /// How many faults at most.
    pub most_faults: u64,
    /// Phones are stopped and started between a backup and the moment that it is put back.
    pub verbs_after_backups: bool,
}

impl Mood {
    /// The kind of order for a number below 100.
    pub fn kind(&self, mut drawn: u64) -> Kind {
        for (kind, percent) in self.orders {
            if drawn < *percent {
                return *kind;
            }
            drawn -= percent;
        }
        Kind::Create
    }
}

/// Of everything a little.
pub const PLAIN: Mood = Mood {
    name: "plain",
    orders: &[
        (Kind::Create, 35),
        (Kind::Batch, 9),
        (Kind::Verb, 28),
        (Kind::Record, 10),
        (Kind::StopAndStart, 4),
        (Kind::Limits, 9),
        (Kind::Cordon, 5),
    ],
    verbs: &[
        Verb::Stop,
        Verb::Stop,
        Verb::Start,
        Verb::Start,
        Verb::Reboot,
        Verb::Reset,
        Verb::Delete,
        Verb::Delete,
    ],
    soon: 30,
    early: 0,
    faults: &[],
    most_faults: 8,
    verbs_after_backups: false,
};

/// Minds change while hosts are away.
const FICKLE: Mood = Mood {
    name: "fickle",
    orders: &[
        (Kind::Create, 30),
        (Kind::Batch, 5),
        (Kind::Verb, 45),
        (Kind::Record, 5),
        (Kind::StopAndStart, 12),
        (Kind::Limits, 3),
    ],
    verbs: &[Verb::Stop, Verb::Start, Verb::Delete, Verb::Delete, Verb::Reboot, Verb::Reset],
    soon: 70,
    early: 1,
    faults: &[0, 3, 4, 4, 5],
    most_faults: 6,
    verbs_after_backups: false,
};

/// Databases and machines are lost and put back.
const BACKUPS: Mood = Mood {
    name: "backups",
    orders: &[(Kind::Create, 25), (Kind::Batch, 5), (Kind::Verb, 60), (Kind::Record, 10)],
    verbs: &[Verb::Stop, Verb::Stop, Verb::Start, Verb::Start, Verb::Reboot, Verb::Reset, Verb::Delete],
    soon: 20,
    early: 2,
    faults: &[15, 16, 16, 16, 1, 4],
    most_faults: 5,
    verbs_after_backups: true,
};

/// Phones are recorded while everything happens to them.
const FILMS: Mood = Mood {
    name: "films",
    orders: &[(Kind::Create, 15), (Kind::Verb, 15), (Kind::Record, 30), (Kind::Film, 40)],
    verbs: &[Verb::Stop, Verb::Stop, Verb::Start, Verb::Reboot, Verb::Reset, Verb::Delete],
    soon: 20,
    early: 3,
    faults: &[0, 1, 3, 4, 5, 12],
    most_faults: 4,
    verbs_after_backups: false,
};

/// Many want more than there is.
const CROWD: Mood = Mood {
    name: "crowd",
    orders: &[
        (Kind::Create, 30),
        (Kind::Batch, 20),
        (Kind::Verb, 28),
        (Kind::StopAndStart, 4),
        (Kind::Limits, 18),
    ],
    verbs: &[Verb::Stop, Verb::Start, Verb::Start, Verb::Delete],
    soon: 40,
    early: 1,
    faults: &[0, 1, 1, 5, 7],
    most_faults: 4,
    verbs_after_backups: false,
};

/// Engines and phones fail.
const FRAGILE: Mood = Mood {
    name: "fragile",
    orders: &[(Kind::Create, 25), (Kind::Batch, 5), (Kind::Verb, 50), (Kind::Record, 12), (Kind::Film, 8)],
    verbs: &[Verb::Stop, Verb::Start, Verb::Start, Verb::Reboot, Verb::Reset, Verb::Delete],
    soon: 30,
    early: 2,
    faults: &[8, 9, 10, 11, 12, 13, 13, 1],
    most_faults: 6,
    verbs_after_backups: false,
};

/// Hosts are closed and opened, and phones used as they should be.
const DAILY: Mood = Mood {
    name: "daily",
    orders: &[(Kind::Create, 40), (Kind::Verb, 35), (Kind::Cordon, 25)],
    verbs: &[Verb::Stop, Verb::Start, Verb::Reboot, Verb::Reboot, Verb::Reset, Verb::Delete],
    soon: 20,
    early: 2,
    faults: &[0, 2, 3, 6],
    most_faults: 3,
    verbs_after_backups: false,
};

/// The mood of a seed. A third is plain.
pub fn of(seed: u64) -> &'static Mood {
    const MOODS: [&Mood; 9] = [&PLAIN, &PLAIN, &PLAIN, &FICKLE, &BACKUPS, &FILMS, &CROWD, &FRAGILE, &DAILY];
    MOODS[Random::new(seed, "mood").index(MOODS.len())]
}
