//! The ideal port lease: a bitmap in memory, and one row that is durable before the port
//! is used.

use super::database;
use super::group_commit::GroupCommit;
use crate::load::{Outcome, closed_loop};
use anyhow::{Context, Result};
use phonefleet_store::rusqlite::params;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// First port of the range.
pub const FIRST: u16 = 10_000;
/// Ports of the range.
pub const PORTS: u16 = 10_000;
/// Ports that are leased throughout.
pub const LEASED: u16 = 5000;

const SCHEMA: &str =
    "CREATE TABLE lease(port INTEGER PRIMARY KEY, owner INTEGER NOT NULL, until INTEGER NOT NULL);";

struct Bitmap {
    words: Vec<u64>,
    /// Where the next search begins.
    next: usize,
}

impl Bitmap {
    fn new() -> Self {
        let mut words = vec![0_u64; usize::from(PORTS).div_ceil(64)];
        // Behind the range there is nothing to lease.
        for port in (0..usize::from(LEASED)).chain(usize::from(PORTS)..words.len() * 64) {
            words[port / 64] |= 1 << (port % 64);
        }
        Self { words, next: 0 }
    }

    fn take(&mut self) -> Option<u16> {
        for _ in 0..self.words.len() {
            let word = &mut self.words[self.next];
            if *word != u64::MAX {
                let bit = word.trailing_ones();
                *word |= 1 << bit;
                return Some((self.next * 64) as u16 + bit as u16);
            }
            self.next = (self.next + 1) % self.words.len();
        }
        None
    }

    fn free(&mut self, port: u16) {
        self.words[usize::from(port / 64)] &= !(1 << (port % 64));
    }
}

/// Leases and releases ports, so many at a time, on a new database at `path`.
pub async fn run(path: &Path, concurrent: usize, duration: Duration) -> Result<Outcome> {
    let connection = database(path, SCHEMA)?;
    connection.execute_batch("BEGIN")?;
    for port in 0..LEASED {
        connection.execute("INSERT INTO lease VALUES (?1, 1, 0)", [FIRST + port])?;
    }
    connection.execute_batch("COMMIT")?;
    let writer = GroupCommit::start(connection);
    let bitmap = Arc::new(Mutex::new(Bitmap::new()));
    closed_loop(concurrent, duration, move |caller| {
        let (writer, bitmap) = (writer.clone(), Arc::clone(&bitmap));
        async move {
            let lock = || bitmap.lock().unwrap_or_else(PoisonError::into_inner);
            let port = lock().take().context("no port is free")?;
            writer
                .write(move |connection| {
                    connection
                        .prepare_cached("INSERT INTO lease VALUES (?1, ?2, 0)")?
                        .execute(params![FIRST + port, caller as i64])
                        .map(|_| ())
                })
                .await?;
            writer
                .write(move |connection| {
                    connection
                        .prepare_cached("DELETE FROM lease WHERE port = ?1")?
                        .execute([FIRST + port])
                        .map(|_| ())
                })
                .await?;
            lock().free(port);
            Ok(())
        }
    })
    .await
}
