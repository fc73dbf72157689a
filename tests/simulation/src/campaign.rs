//! Many seeds, on all cores.

use crate::run::{Outcome, run};
use crate::scenario::Seed;
use crate::scenario::generate::scenario;
use crate::trace::Detail;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is run, and until when.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seeds, in order.
    pub seeds: Vec<Seed>,
    /// Runs at a time.
    pub jobs: usize,
    /// Begin no further run after this time.
    pub within: Option<Duration>,
    /// Stop after the first seed that fails.
    pub until_found: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Runs that were made.
    pub runs: usize,
    /// Seeds that failed, with what was found, by seed.
    pub failed: Vec<(Seed, Vec<String>)>,
    /// Virtual time of all of them.
    pub passed: Duration,
    /// Real time.
    pub took: Duration,
}

/// Runs a campaign. `began` is called on each worker before its first run.
pub fn campaign(plan: &Campaign, templates: &Path, began: impl Fn() + Sync) -> Report {
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let enough = AtomicBool::new(false);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                began();
                while !enough.load(Ordering::Relaxed)
                    && plan.within.is_none_or(|within| start.elapsed() < within)
                {
                    let Some(seed) = plan.seeds.get(next.fetch_add(1, Ordering::Relaxed)).copied() else {
                        return;
                    };
                    let Outcome { found, passed, .. } = run(&scenario(seed), templates, Detail::Hash);
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    report.runs += 1;
                    report.passed += passed;
                    if !found.is_empty() {
                        report.failed.push((seed, found));
                        enough.store(plan.until_found, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failed.sort();
    report.took = start.elapsed();
    report
}

/// Seeds that failed once, from `regressions.txt`.
pub fn regressions() -> Vec<Seed> {
    let seed = |line: &str| {
        let mut words = line.split_whitespace();
        let number = words.next()?.parse().ok()?;
        Some(Seed { number, plain: words.next() == Some("plain") })
    };
    include_str!("../regressions.txt").lines().filter_map(seed).collect()
}
