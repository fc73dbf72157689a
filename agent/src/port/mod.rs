//! Which port a phone gets.
//!
//! ```text
//!   PortPool::hold ─▶ Hold (bit in memory) ─▶ lease row committed ─▶ Hold::keep ─▶ bind test
//!                        └─ dropped before: the bit is free again         └─ held by a stranger:
//!                                                                    quarantine row, then the next port
//! ```
//!
//! The pool is the fast half, rebuilt from the rows at start; the primary key of the lease
//! rows is what makes two owners of one port impossible.

use crate::store::port_lease::{Holder, PortKind, PortLease};
use phonefleet_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a port that something else holds is left alone.
pub const QUARANTINE: Duration = Duration::from_mins(10);

/// Every adb server scans these for emulators: a phone there would be shown twice.
const EMULATORS: RangeInclusive<u16> = 5555..=5585;

/// Where ports are leased from. Ports 5555 to 5585 are never leased.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// Published ADB ports.
    pub adb: RangeInclusive<u16>,
    /// Ports for WebRTC streamers.
    pub webrtc: RangeInclusive<u16>,
    /// The kernel's range for outgoing connections (`ip_local_port_range`), never leased.
    pub ephemeral: Option<RangeInclusive<u16>>,
}

impl PortSettings {
    fn range(&self, kind: PortKind) -> &RangeInclusive<u16> {
        match kind {
            PortKind::Adb => &self.adb,
            PortKind::Webrtc => &self.webrtc,
        }
    }

    /// Whether a port may be leased at all.
    pub fn may_lease(&self, kind: PortKind, port: u16) -> bool {
        port != 0
            && self.range(kind).contains(&port)
            && !EMULATORS.contains(&port)
            && !self.ephemeral.as_ref().is_some_and(|range| range.contains(&port))
    }

    /// How many ports of a kind can be leased.
    pub fn size(&self, kind: PortKind) -> usize {
        self.range(kind).clone().filter(|port| self.may_lease(kind, *port)).count()
    }
}

/// Ports in use and in quarantine.
#[derive(Clone)]
pub struct PortPool {
    settings: Arc<PortSettings>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// One bit for each port of the machine: leased, or about to be.
    taken: Box<[u64; 1024]>,
    quarantine: BTreeMap<u16, Timestamp>,
    /// Where the next search begins, by kind: a port that was just released is used last.
    next: [u16; 2],
}

impl State {
    fn is_taken(&self, port: u16) -> bool {
        self.taken[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }

    fn set(&mut self, port: u16, taken: bool) {
        let word = &mut self.taken[usize::from(port / 64)];
        if taken { *word |= 1 << (port % 64) } else { *word &= !(1 << (port % 64)) }
    }
}

impl PortPool {
    /// A pool in the state that the rows tell of.
    pub fn new(settings: PortSettings, rows: &[PortLease]) -> Self {
        let mut state = State {
            taken: Box::new([0; 1024]),
            quarantine: BTreeMap::new(),
            next: [*settings.adb.start(), *settings.webrtc.start()],
        };
        for row in rows {
            match row.holder {
                Holder::Leased(_) => state.set(row.port, true),
                Holder::Quarantined(until) => {
                    state.quarantine.insert(row.port, until);
                }
            }
        }
        Self { settings: Arc::new(settings), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next free port of a kind, `None` when there is none.
    pub fn hold(&self, kind: PortKind, now: Timestamp) -> Option<Hold> {
        let range = self.settings.range(kind);
        let mut state = self.state();
        // A clock that was set back must not make it longer.
        state.quarantine.retain(|_, until| *until > now && *until <= now.after(QUARANTINE));
        let next = state.next[kind as usize];
        let port = (next..=*range.end()).chain(*range.start()..next).find(|port| {
            self.settings.may_lease(kind, *port)
                && !state.is_taken(*port)
                && !state.quarantine.contains_key(port)
        })?;
        state.set(port, true);
        state.next[kind as usize] = if port == *range.end() { *range.start() } else { port + 1 };
        Some(Hold { pool: self.clone(), port, kept: false })
    }

    /// This very port, if it may be leased and is free: for a container that has it already.
    pub fn hold_exactly(&self, kind: PortKind, port: u16) -> Option<Hold> {
        let mut state = self.state();
        let taken = state.is_taken(port) || state.quarantine.contains_key(&port);
        if taken || !self.settings.may_lease(kind, port) {
            return None;
        }
        state.set(port, true);
        Some(Hold { pool: self.clone(), port, kept: false })
    }

    /// A port whose lease row is gone may be leased again.
    pub fn free(&self, port: u16) {
        self.state().set(port, false);
    }

    /// A port whose lease row became a quarantine.
    pub fn quarantine(&self, port: u16, until: Timestamp) {
        let mut state = self.state();
        state.set(port, false);
        state.quarantine.insert(port, until);
    }

    /// Ports in use, and in quarantine.
    pub fn counts(&self, now: Timestamp) -> (usize, usize) {
        let state = self.state();
        let taken = state.taken.iter().map(|word| word.count_ones() as usize).sum();
        (taken, state.quarantine.values().filter(|until| **until > now).count())
    }
}

/// A port on its way to a lease row; free again when it is dropped without [`Hold::keep`].
pub struct Hold {
    pool: PortPool,
    port: u16,
    kept: bool,
}

impl Hold {
    /// Which port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The row is committed.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.kept {
            self.pool.free(self.port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn settings(adb: RangeInclusive<u16>) -> PortSettings {
        PortSettings { adb, webrtc: 21_000..=21_001, ephemeral: Some(32_768..=60_999) }
    }

    #[test]
    fn every_port_is_given_once_and_then_there_is_none() {
        let pool = PortPool::new(settings(20_000..=20_099), &[]);
        let mut seen = HashSet::new();
        while let Some(hold) = pool.hold(PortKind::Adb, Timestamp(0)) {
            assert!(seen.insert(hold.port()));
            hold.keep();
        }
        assert_eq!(seen.len(), 100);
        pool.free(20_007);
        assert_eq!(pool.hold(PortKind::Adb, Timestamp(0)).unwrap().port(), 20_007);
        assert_eq!(pool.counts(Timestamp(0)), (99, 0));
    }

    #[test]
    fn emulator_and_ephemeral_ports_are_never_given() {
        let pool = PortPool::new(settings(5550..=5590), &[]);
        assert_eq!(settings(5550..=5590).size(PortKind::Adb), 10);
        let given: Vec<u16> = std::iter::from_fn(|| {
            pool.hold(PortKind::Adb, Timestamp(0)).map(|hold| (hold.port(), hold.keep()).0)
        })
        .collect();
        assert_eq!(given, [5550, 5551, 5552, 5553, 5554, 5586, 5587, 5588, 5589, 5590]);
        assert!(PortPool::new(settings(40_000..=40_010), &[]).hold(PortKind::Adb, Timestamp(0)).is_none());
    }

    #[test]
    fn a_port_in_quarantine_comes_back_after_its_time() {
        let rows =
            [PortLease { port: 20_000, kind: PortKind::Adb, holder: Holder::Quarantined(Timestamp(1000)) }];
        let pool = PortPool::new(settings(20_000..=20_000), &rows);
        assert!(pool.hold(PortKind::Adb, Timestamp(999)).is_none());
        assert!(pool.hold(PortKind::Adb, Timestamp(1000)).is_some());
        // Dropped without a row: free at once.
        assert!(pool.hold(PortKind::Adb, Timestamp(1000)).is_some());
    }
}
