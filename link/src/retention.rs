//! Deletes acknowledged rows that are too old, or too many, and what was put aside long ago.
//!
//! What the peer has committed is kept for a while, so that a peer restored from a backup
//! can be replayed. It goes in small chunks, each a write job of its own: one large
//! delete would hold up every other writer. The acknowledged number is the one in the
//! database, at most some seconds behind the conversation's.

use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_store::stream_log::StreamLog;
use phonefleet_store::{Store, Tx, WriteError, aside, rusqlite};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between two rounds.
const ROUND: Duration = Duration::from_mins(1);
/// Rows of one write job.
const CHUNK: u32 = 500;
/// How long refused items, and items of kinds that nobody knew, are kept for somebody to look.
const ASIDE_KEEP: Duration = Duration::from_hours(30 * 24);
/// How many of each, at most.
const ASIDE_MOST: u32 = 10_000;

/// How long acknowledged rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Rows older than this go. Default 7 days.
    pub keep: Duration,
    /// While the database has more bytes in use than this, the oldest go whatever their
    /// age. Default 1 GiB.
    pub database_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: Duration::from_hours(7 * 24), database_bytes: 1 << 30 }
    }
}

/// Prunes every log of `table` once a minute, until it is dropped or the store is closed.
pub async fn prune<N: Send + 'static>(
    store: Store<N>,
    table: StreamLog,
    retention: Retention,
    clock: Arc<dyn Clock>,
) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match prune_once(&store, table, retention, clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "pruned acknowledged rows"),
            Err(WriteError::Closed | WriteError::Unknown(_)) => return,
            Err(error) => {
                tracing::warn!(%error, "could not prune acknowledged rows; trying again in a minute");
            }
        }
    }
}

/// One round; returns the number of deleted rows.
pub async fn prune_once<N: Send + 'static>(
    store: &Store<N>,
    table: StreamLog,
    retention: Retention,
    now: Timestamp,
) -> Result<u64, WriteError<rusqlite::Error>> {
    let before = |keep: Duration| {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        Timestamp(now.0.saturating_sub(keep))
    };
    let (old, old_aside) = (before(retention.keep), before(ASIDE_KEEP));
    let logs = store.write(|tx: &mut Tx<'_, N>| logs(tx)).await?;
    let mut deleted = 0;
    for log in logs {
        loop {
            let name = log.clone();
            let job = move |tx: &mut Tx<'_, N>| {
                let full = bytes_in_use(tx)? > retention.database_bytes;
                let before = if full { Timestamp(i64::MAX) } else { old };
                // Read again in each job: the log may have forked meanwhile.
                let acknowledged = table.acknowledged(tx, &name)?;
                table.prune(tx, &name, acknowledged, before, CHUNK)
            };
            match store.write(job).await? {
                0 => break,
                rows => deleted += rows,
            }
        }
    }
    loop {
        let job = move |tx: &mut Tx<'_, N>| aside::prune(tx, old_aside, ASIDE_MOST, CHUNK);
        match store.write(job).await? {
            0 => return Ok(deleted),
            rows => deleted += rows,
        }
    }
}

fn logs(connection: &rusqlite::Connection) -> Result<Vec<String>, rusqlite::Error> {
    connection.prepare_cached("SELECT log FROM stream_log")?.query_map([], |row| row.get(0))?.collect()
}

/// Bytes of the database that hold something. Not the file's size: deleting frees pages
/// for new rows and does not make the file smaller.
fn bytes_in_use(connection: &rusqlite::Connection) -> Result<u64, rusqlite::Error> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(u64::try_from(pages.saturating_mul(number("page_size")?)).unwrap_or(0))
}
