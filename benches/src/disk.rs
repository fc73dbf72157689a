//! Where the databases of a bench are, and what the disk under them can do.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Writes of the reference before it goes back to the file's beginning: the size at which
/// SQLite's WAL begins anew too.
const FILE_BLOCKS: u32 = 1000;
const BLOCK: [u8; 4096] = [7; 4096];

/// A directory that goes away with the value: in `PHONEFLEET_BENCH_DIR`, so that another
/// disk can be measured, or in `default`.
pub fn scratch(default: &str) -> io::Result<TempDir> {
    let parent =
        std::env::var_os("PHONEFLEET_BENCH_DIR").map_or_else(|| PathBuf::from(default), PathBuf::from);
    std::fs::create_dir_all(&parent)?;
    tempfile::Builder::new().prefix("bench-").tempdir_in(parent)
}

/// Writes of 4 KiB, each followed by fdatasync, per second: what one commit costs at least.
/// A round without it cannot be compared with any other hour.
pub fn flushes_per_second(directory: &Path, duration: Duration) -> io::Result<f64> {
    let path = directory.join("flush");
    let mut file: File = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let began = Instant::now();
    let mut flushes = 0_u32;
    while began.elapsed() < duration {
        if flushes.is_multiple_of(FILE_BLOCKS) {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        flushes += 1;
    }
    let rate = f64::from(flushes) / began.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
