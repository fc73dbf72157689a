//! The ideal saga of five steps: six writes, and each durable before the next begins.

use super::database;
use super::group_commit::GroupCommit;
use crate::load::{Outcome, closed_loop};
use anyhow::Result;
use phonefleet_store::rusqlite::params;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const STEPS: i64 = 5;
const SCHEMA: &str = "
    CREATE TABLE saga(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, input TEXT NOT NULL, state TEXT NOT NULL,
        step INTEGER NOT NULL);
    CREATE TABLE step(saga INTEGER NOT NULL, number INTEGER NOT NULL, output TEXT NOT NULL,
        PRIMARY KEY(saga, number)) WITHOUT ROWID;";

/// Runs ideal sagas, so many at a time, on a new database at `path`.
pub async fn run(path: &Path, concurrent: usize, duration: Duration) -> Result<Outcome> {
    let writer = GroupCommit::start(database(path, SCHEMA)?);
    let ids = Arc::new(AtomicI64::new(0));
    closed_loop(concurrent, duration, move |_| {
        let (writer, id) = (writer.clone(), ids.fetch_add(1, Ordering::Relaxed));
        async move { one(&writer, id).await }
    })
    .await
}

async fn one(writer: &GroupCommit, id: i64) -> Result<()> {
    writer
        .write(move |connection| {
            connection
                .prepare_cached("INSERT INTO saga VALUES (?1, 'DEVICE_CREATION', ?2, 'RUNNING', 0)")?
                .execute(params![id, r#"{"device":"018f4a10-0000-7000-8000-000000000001"}"#])
                .map(|_| ())
        })
        .await?;
    for step in 1..=STEPS {
        // The step itself would run here.
        tokio::task::yield_now().await;
        writer
            .write(move |connection| {
                connection.prepare_cached("INSERT INTO step VALUES (?1, ?2, ?3)")?.execute(params![
                    id,
                    step,
                    r#"{"done":true,"port":20123}"#
                ])?;
                let state = if step == STEPS { "COMPLETED" } else { "RUNNING" };
                connection
                    .prepare_cached("UPDATE saga SET step = ?2, state = ?3 WHERE id = ?1")?
                    .execute(params![id, step, state])
                    .map(|_| ())
            })
            .await?;
    }
    Ok(())
}
