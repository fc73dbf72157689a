//! Callers that each wait for their own work before they begin the next.

use crate::report::percentile;
use anyhow::Result;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Pieces of work that were done.
    pub done: u64,
    /// Of them per second.
    pub per_second: f64,
    /// Median time of one, ms.
    pub p50_ms: f64,
    /// Time that 99 of 100 did not exceed, ms.
    pub p99_ms: f64,
}

impl Outcome {
    /// Of pieces of work that took so long each, ms, and all together `time`.
    pub fn new(took_ms: &[f64], time: Duration) -> Self {
        Self {
            done: took_ms.len() as u64,
            per_second: took_ms.len() as f64 / time.as_secs_f64(),
            p50_ms: percentile(took_ms, 0.5),
            p99_ms: percentile(took_ms, 0.99),
        }
    }
}

/// Keeps `callers` busy for `duration`: each does `work` again and again, given its own
/// number. What had begun when the time was over is finished and counted.
pub async fn closed_loop<F, W>(callers: usize, duration: Duration, work: F) -> Result<Outcome>
where
    F: Fn(usize) -> W + Send + Sync + 'static,
    W: Future<Output = Result<()>> + Send,
{
    let work = Arc::new(work);
    let began = Instant::now();
    let mut running = JoinSet::new();
    for caller in 0..callers {
        let work = Arc::clone(&work);
        running.spawn(async move {
            let mut took_ms = Vec::new();
            while began.elapsed() < duration {
                let start = Instant::now();
                work(caller).await?;
                took_ms.push(start.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(took_ms)
        });
    }
    let mut all_ms = Vec::new();
    while let Some(ended) = running.join_next().await {
        all_ms.extend(ended??);
    }
    Ok(Outcome::new(&all_ms, began.elapsed()))
}

/// A runtime with as many workers as this machine has processors, as the daemons have.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
