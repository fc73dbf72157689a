//! The wall clock of one daemon: virtual time, and how far its clock was set wrong.

use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_tests::simulation::time::VirtualClock;
use std::sync::atomic::{AtomicI64, Ordering};

/// A clock that can jump.
#[derive(Debug)]
pub struct DaemonClock {
    base: VirtualClock,
    wrong_ms: AtomicI64,
}

impl DaemonClock {
    /// A clock that is right.
    pub fn new(base: VirtualClock) -> Self {
        Self { base, wrong_ms: AtomicI64::new(0) }
    }

    /// Sets it forward, or back.
    pub fn jump(&self, seconds: i64) {
        self.wrong_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for DaemonClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.base.now().0 + self.wrong_ms.load(Ordering::Relaxed))
    }
}
