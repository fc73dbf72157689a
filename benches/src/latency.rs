//! How long numbered events take from the moment they were due.

use crate::report::percentile;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When each event was due, and how long after that it had arrived. Events have numbers
/// from 1; which one is which is known only when its log numbers it.
pub struct Latencies {
    origin: Instant,
    due_us: Box<[AtomicU64]>,
    took_ms: Mutex<Vec<f64>>,
}

impl Latencies {
    /// For so many events.
    pub fn new(events: u64) -> Self {
        let due_us = (0..=events).map(|_| AtomicU64::new(0)).collect();
        Self { origin: Instant::now(), due_us, took_ms: Mutex::default() }
    }

    /// Event `number` was due at `at`. Said again, it counts again.
    pub fn due(&self, number: u64, at: Instant) {
        if let Some(due) = self.due_us.get(number as usize) {
            due.store(at.duration_since(self.origin).as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// These events have arrived now.
    pub fn arrived(&self, numbers: RangeInclusive<u64>) {
        let now = self.origin.elapsed().as_micros() as u64;
        let due = self.due_us.get(*numbers.start() as usize..=*numbers.end() as usize).unwrap_or_default();
        let mut took = self.took_ms.lock().unwrap_or_else(PoisonError::into_inner);
        took.extend(due.iter().map(|due| now.saturating_sub(due.load(Ordering::Relaxed)) as f64 / 1e3));
    }

    /// Median, and what 99 of 100 did not exceed, ms.
    pub fn p50_p99_ms(&self) -> (f64, f64) {
        let took = self.took_ms.lock().unwrap_or_else(PoisonError::into_inner);
        (percentile(&took, 0.5), percentile(&took, 0.99))
    }
}

/// Calls `work` for each of `events` when it is due at `per_second`, whether or not the
/// earlier ones have ended. Blocks the thread: a runtime's timers are too coarse.
pub fn at_rate(events: u64, per_second: u64, mut work: impl FnMut(u64, Instant)) {
    let began = Instant::now();
    for index in 0..events {
        let due = began + Duration::from_micros(index * 1_000_000 / per_second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        work(index, due);
    }
}
