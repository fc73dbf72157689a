//! What can happen to the world, as data: random histories are drawn, shrunk and printed.

use crate::channel::Side;
use std::fmt;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Commits,
    /// Everything was done, and then the commit failed.
    CommitFails,
    /// The disk fails after so many calls.
    DiskFails(u32),
}

/// One thing that happens. `which` and `pick` choose among what there is, modulo their number.
#[derive(Clone, Debug)]
pub enum Action {
    /// The domain changes, `times` keys in one transaction.
    Write {
        side: Side,
        which: u8,
        key: u8,
        times: u8,
        remove: bool,
    },
    /// Some messages arrive in one transaction, in an order of the channel's choosing.
    Deliver {
        to: Side,
        picks: Vec<(u16, bool)>,
        outcome: Outcome,
    },
    /// A message is lost.
    Lose {
        to: Side,
        pick: u16,
    },
    /// All that is on its way to a side is lost.
    Forget {
        to: Side,
    },
    /// What is sent to a side is lost from now on, or no longer.
    Partition {
        to: Side,
        partitioned: bool,
    },
    /// Time passes and nothing arrives.
    Wait {
        milliseconds: u32,
    },
    /// Time passes and the channel behaves.
    Flow {
        milliseconds: u32,
    },
    /// The program dies and starts again.
    Crash {
        side: Side,
        which: u8,
    },
    Disconnect {
        side: Side,
        which: u8,
    },
    Connect {
        side: Side,
        which: u8,
    },
    /// A copy of the database is put away.
    Backup {
        side: Side,
        which: u8,
    },
    /// The database is replaced by a copy.
    Restore {
        side: Side,
        which: u8,
        pick: u8,
    },
    /// The database is replaced by a new one.
    Empty {
        side: Side,
        which: u8,
    },
    /// A copy of the database, or what it was at the last backup, comes to life beside it.
    Clone {
        side: Side,
        backup: bool,
    },
    /// One of two that live is gone for good.
    Kill {
        side: Side,
        which: u8,
    },
    /// Retention frees rows.
    Prune {
        side: Side,
        which: u8,
        keep: u8,
    },
    /// The next reads outside of transactions fail.
    ReadsFail {
        side: Side,
        which: u8,
        reads: u8,
    },
}

/// A history and its circumstances.
#[derive(Clone)]
pub struct History {
    pub actions: Vec<Action>,
    /// Rows in a frame at most.
    pub page: usize,
    /// Whether an endpoint starts from the stored acknowledgement, or from nothing.
    pub remembers: bool,
    /// Whether both sides connect anew when the world heals.
    pub reconnects: bool,
    /// Which of two that live survives.
    pub survivor: u8,
}

/// One action a line: what is left of a failing history should be readable at a glance.
impl fmt::Debug for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { actions, page, remembers, reconnects, survivor } = self;
        writeln!(
            formatter,
            "page {page}, remembers {remembers}, reconnects {reconnects}, survivor {survivor}:"
        )?;
        actions.iter().try_for_each(|action| writeln!(formatter, "    {action:?}"))
    }
}
