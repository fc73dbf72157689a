//! Processor time of this process: what others do on the machine does not change it.

use anyhow::{Context, Result};

/// `USER_HZ`: what the kernel counts these times in, on every architecture that Debian has.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds that all threads have run so far, in user and kernel mode, to a hundredth.
pub fn seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may have anything in it; utime and stime are the 12th and
    // 13th fields behind it (see proc_pid_stat(5)).
    let (_, fields) = text.rsplit_once(')').context("a /proc/self/stat without a name")?;
    let ticks: f64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().context("a time in /proc/self/stat"))
        .sum::<Result<f64>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}
