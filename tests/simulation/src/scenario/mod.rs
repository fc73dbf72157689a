//! What happens in one run: orders of users, and faults, each at its moment. All of it
//! follows from the seed; a part of the entries is a scenario too, which is how a failing
//! one is made smaller.

pub mod generate;
pub mod mood;

use phonefleet_controller::order::Verb;
use std::fmt;
use std::time::Duration;

/// What a scenario follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed {
    /// The number.
    pub number: u64,
    /// Whatever mood the number draws, it is of everything a little: as it was before there
    /// were moods.
    pub plain: bool,
}

impl Seed {
    /// A number, with the mood that it draws.
    pub fn new(number: u64) -> Self {
        Self { number, plain: false }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.number, if self.plain { " plain" } else { "" })
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Everything follows from it.
    pub seed: u64,
    /// What it concentrates on.
    pub mood: &'static str,
    /// Hosts of the fleet, 1 to 3.
    pub hosts: usize,
    /// Users, 1 or 2.
    pub users: usize,
    /// What happens, in order of time.
    pub entries: Vec<Entry>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Stays the same when others are left out.
    pub number: usize,
    /// Virtual time since all hosts are online.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// Order or fault.
#[derive(Clone, Debug)]
pub enum What {
    /// Somebody asks the API for something.
    Order(Order),
    /// Something breaks, or begins to.
    Fault(Fault),
}

/// A device that an order of the scenario asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Number of the entry that creates it.
    pub entry: usize,
    /// Its place in a batch, or 0.
    pub index: usize,
}

/// A phone as it is ordered.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name is `phone-N`.
    pub name: u64,
    /// How long its boot takes, ms.
    pub boot_ms: u64,
    /// Processors, in tenths.
    pub tenths_of_core: u64,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// A fault of the phone itself, such as `boot_hang`.
    pub fault: Option<&'static str>,
    /// An image that its host does not have.
    pub missing_image: bool,
    /// The host it must be on.
    pub host: Option<usize>,
}

/// What users and operators ask for.
#[derive(Clone, Debug)]
pub enum Order {
    /// A new device. `twice`: the same call again, at once, with the same key.
    Create {
        /// Which user.
        user: usize,
        /// What.
        wanted: Wanted,
        /// With an Idempotency-Key, and then again until it is answered.
        keyed: bool,
        /// The same call twice.
        twice: bool,
    },
    /// Several at once.
    Batch {
        /// Which user.
        user: usize,
        /// What.
        wanted: Vec<Wanted>,
    },
    /// A verb on a device.
    Verb {
        /// Which.
        target: Target,
        /// What.
        verb: Verb,
        /// With an Idempotency-Key, and then again until it is answered.
        keyed: bool,
        /// The same call twice.
        twice: bool,
    },
    /// A recording of a device.
    Record {
        /// Which.
        target: Target,
        /// At most so long.
        seconds: u64,
    },
    /// The end of its newest recording.
    StopRecording {
        /// Which device.
        target: Target,
    },
    /// Other limits of a user; `None` is unlimited.
    Limits {
        /// Which user.
        user: usize,
        /// Devices.
        devices: Option<u64>,
        /// Devices that run.
        running: Option<u64>,
        /// Processors of all.
        cores: Option<u64>,
    },
    /// A host takes no new devices, or does again.
    Cordon {
        /// Which.
        host: usize,
        /// No new devices.
        on: bool,
    },
}

/// A daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The controller.
    Controller,
    /// The agent of this host.
    Agent(usize),
}

/// Which call of an engine, and how it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// 500, and nothing was done.
    Unavailable,
    /// 500, and it was done.
    Done,
    /// No answer for so many seconds.
    Hang(u64),
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; started again at once, or after so many ms.
    Kill(Side, u64),
    /// The same at its n-th commit or effect from now.
    CrashAt(Side, u64),
    /// The broker is killed, with all its state.
    BrokerForgets,
    /// The broker is away for so many ms, and forgets if it says so.
    BrokerAway(u64, bool),
    /// A daemon is cut off for so many ms.
    Cut(Side, u64),
    /// For so many ms, messages are lost, repeated and delayed; percent each.
    Lossy(u64, [u64; 3]),
    /// An engine is away for so many ms.
    EngineDown(usize, u64),
    /// Every call takes so much longer, ms, for so many ms.
    EngineSlow(usize, u64, u64),
    /// The n-th call of a kind fails.
    EngineFails(usize, usize, u64, CallFault),
    /// Strangers take so many ports from this one on, for so many ms.
    PortsStolen(usize, u16, u16, u64),
    /// No phone of the host answers, for so many ms.
    AdbOffline(usize, u64),
    /// The device's container dies.
    PhoneDies(Target),
    /// The disk of a daemon's database is full for so many ms.
    DiskFull(Side, u64),
    /// The clock of a daemon jumps by so many seconds.
    ClockJumps(Side, i64),
    /// The machine of a host is replaced by an empty one.
    HostReplaced(usize),
    /// An agent's database is lost; its phones run on.
    DatabaseLost(usize),
    /// A daemon's database is saved now, and restored so many ms later.
    Restored(Side, u64),
    /// For so many ms there is a second agent with the host's id, on another machine.
    Twin(usize, u64),
}

impl Fault {
    /// The host whose phones it may stop, start or change by itself; `None` where it must
    /// not be seen by any phone.
    pub fn touches_phones(self) -> Touches {
        match self {
            Self::Kill(..)
            | Self::CrashAt(..)
            | Self::BrokerForgets
            | Self::BrokerAway(..)
            | Self::Cut(..)
            | Self::Lossy(..)
            | Self::PortsStolen(..)
            | Self::DiskFull(..) => Touches::Nothing,
            Self::PhoneDies(_) | Self::ClockJumps(..) | Self::Restored(Side::Controller, _) => {
                Touches::Everything
            }
            Self::EngineDown(host, _)
            | Self::EngineSlow(host, ..)
            | Self::EngineFails(host, ..)
            | Self::AdbOffline(host, _)
            | Self::HostReplaced(host)
            | Self::DatabaseLost(host)
            | Self::Twin(host, _)
            | Self::Restored(Side::Agent(host), _) => Touches::Host(host),
        }
    }
}

/// Whose phones a fault may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touches {
    /// Nobody's.
    Nothing,
    /// Those of one host.
    Host(usize),
    /// Anybody's.
    Everything,
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{:<3} {:>9.3}s  ", self.number, self.at.as_secs_f64())?;
        match &self.what {
            What::Order(order) => write!(formatter, "order {order:?}"),
            What::Fault(fault) => write!(formatter, "fault {fault:?}"),
        }
    }
}

/// The id of host number `index`, counted from 0.
pub fn host_name(index: usize) -> String {
    format!("host-{}", index + 1)
}

/// The name of user number `index`, counted from 0.
pub fn user_name(index: usize) -> String {
    format!("user-{}", index + 1)
}
