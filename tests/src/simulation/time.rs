//! Wall clock and ids of a simulation: both follow from the seed and virtual time alone.

use phonefleet_protocol::id::{IdSource, uuid_v7};
use phonefleet_protocol::time::{Clock, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Wall time that follows tokio's time, from one fixed moment on.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    start: Instant,
    set_forward_millis: Arc<AtomicU64>,
}

impl VirtualClock {
    /// A clock that begins now, at 2026-01-01T00:00:00Z.
    pub fn start() -> Self {
        Self { start: Instant::now(), set_forward_millis: Arc::default() }
    }

    /// Somebody sets it.
    pub fn set_forward(&self, by: Duration) {
        self.set_forward_millis.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_767_225_600_000).after(
            self.start.elapsed() + Duration::from_millis(self.set_forward_millis.load(Ordering::SeqCst)),
        )
    }
}

/// Numbers from a seed, by the SplitMix64 recurrence (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub struct SeededIds {
    state: AtomicU64,
}

impl SeededIds {
    /// Ids that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }
}

impl IdSource for SeededIds {
    fn uuid(&self, now: Timestamp) -> Uuid {
        uuid_v7(now, (u128::from(self.random()) << 64) | u128::from(self.random()))
    }

    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.state.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
