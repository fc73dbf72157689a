//! Random numbers from a seed, by the SplitMix64 recurrence (Steele, Lea, Flood 2014).

use std::time::Duration;

/// A stream of numbers that follows from its seed alone.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A stream; `purpose` tells streams of one seed apart.
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self { state: seed ^ xxhash_rust::xxh3::xxh3_64(purpose.as_bytes()) }
    }

    /// Sixty-four random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// An index of something with `len` parts.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True so many times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// A time between these, in whole milliseconds.
    pub fn time(&mut self, from: Duration, to: Duration) -> Duration {
        let span = (to.saturating_sub(from).as_millis() as u64).max(1);
        from + Duration::from_millis(self.below(span))
    }

    /// The same, in seconds.
    pub fn seconds(&mut self, from: u64, to: u64) -> Duration {
        self.time(Duration::from_secs(from), Duration::from_secs(to))
    }
}
