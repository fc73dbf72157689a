//! The least that an accepted order costs: one row that is durable before the answer.

use super::database;
use super::group_commit::GroupCommit;
use crate::load::{Outcome, closed_loop};
use anyhow::Result;
use phonefleet_store::rusqlite::params;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const SCHEMA: &str = "CREATE TABLE item(id INTEGER PRIMARY KEY, text TEXT NOT NULL);";

/// Writes rows, so many callers at a time, on a new database at `path`.
pub async fn run(path: &Path, concurrent: usize, duration: Duration) -> Result<Outcome> {
    let writer = GroupCommit::start(database(path, SCHEMA)?);
    let ids = Arc::new(AtomicI64::new(0));
    closed_loop(concurrent, duration, move |_| {
        let (writer, id) = (writer.clone(), ids.fetch_add(1, Ordering::Relaxed));
        async move {
            writer
                .write(move |connection| {
                    connection
                        .prepare_cached("INSERT INTO item VALUES (?1, ?2)")?
                        .execute(params![id, r#"{"device":"018f4a10-0000-7000-8000-000000000001"}"#])
                        .map(|_| ())
                })
                .await
        }
    })
    .await
}
