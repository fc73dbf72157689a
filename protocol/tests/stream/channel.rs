//! What is on its way between the two sides, as bytes.

use std::time::Duration;

/// Which side of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Its log is a history of events: replayed to a receiver that went back.
    Agent,
    /// Its log is a list of wishes: told anew to a receiver that went back.
    Controller,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Agent, Self::Controller];

    pub fn other(self) -> Self {
        match self {
            Self::Agent => Self::Controller,
            Self::Controller => Self::Agent,
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }
}

/// One message on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub due: Duration,
    pub payload: Vec<u8>,
}

/// Both directions. Everything else that is hostile is decided by whoever takes parcels out.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    parcels: [Vec<Parcel>; 2],
    partitioned: [bool; 2],
    /// Messages handed in since the start, lost ones included.
    pub said: u64,
}

/// How long a message takes when nothing disturbs it.
pub const LATENCY: Duration = Duration::from_millis(20);

impl Channel {
    pub fn send(&mut self, now: Duration, to: Side, payload: Vec<u8>) {
        self.said += 1;
        if !self.partitioned[to.index()] {
            self.parcels[to.index()].push(Parcel { due: now + LATENCY, payload });
        }
    }

    /// How many messages are on their way to a side.
    pub fn waiting(&self, to: Side) -> usize {
        self.parcels[to.index()].len()
    }

    /// Takes any of the waiting messages, in any order; `keep` leaves a copy to come again.
    pub fn take(&mut self, to: Side, pick: u16, keep: bool) -> Option<Parcel> {
        let parcels = &mut self.parcels[to.index()];
        let index = usize::from(pick).checked_rem(parcels.len())?;
        Some(if keep { parcels[index].clone() } else { parcels.remove(index) })
    }

    /// When the oldest message to a side arrives on a channel that behaves.
    pub fn next_due(&self, to: Side) -> Option<Duration> {
        self.parcels[to.index()].first().map(|parcel| parcel.due)
    }

    /// Everything on its way to a side is lost.
    pub fn forget(&mut self, to: Side) {
        self.parcels[to.index()].clear();
    }

    /// While partitioned, what is sent to this side is lost at once.
    pub fn partition(&mut self, to: Side, partitioned: bool) {
        self.partitioned[to.index()] = partitioned;
    }
}
