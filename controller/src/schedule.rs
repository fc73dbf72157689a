//! Periodic work: what is old enough goes, in small chunks that never hold up the others.
//!
//! Deadlines of sagas need nothing here: the saga runner's timer is exact, and looks once
//! a minute in any case.

use crate::store::{Result, Store, Tx, device, event_outbox, idempotency, recording, saga};
use phonefleet_link::retention::{self, Retention};
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_store::damage::{is_damage, look};
use phonefleet_store::stream_log::COMMAND_OUTBOX;
use phonefleet_store::{ReadError, WriteError, rusqlite};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two rounds.
const ROUND: Duration = Duration::from_mins(5);
/// Hosts look for old videos once an hour.
const DELETED_WITHIN: Duration = Duration::from_hours(2);
/// Between two looks at the database.
const DATABASE_LOOK: Duration = Duration::from_secs(5);
/// Rows of one write job.
const CHUNK: u32 = 500;

/// How long what is over is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Ended sagas with their stories. Default 30 days.
    pub sagas: Duration,
    /// Devices that are gone, and confirmed to be. Default 30 days, as their last saga.
    pub devices: Duration,
    /// Answers to idempotency keys. Default 24 h.
    pub answers: Duration,
    /// Events for subscribers. Default 7 days.
    pub events: Duration,
    /// Ended recordings. Default 30 days; their files are kept by their hosts, for as long as
    /// `[recording]` of the agent says, and take of a quota for that long.
    pub recordings: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            sagas: Duration::from_hours(30 * 24),
            devices: Duration::from_hours(30 * 24),
            answers: Duration::from_hours(24),
            events: Duration::from_hours(7 * 24),
            recordings: Duration::from_hours(30 * 24),
        }
    }
}

/// Looks at the database until it cannot be gone on with; returns why. Nobody would find what is
/// written to a file that was removed, and what a damaged one answers is not to be acted on.
pub async fn database_is_lost(store: Store) -> String {
    loop {
        let written = store.write(|_| Ok::<_, rusqlite::Error>(())).await;
        if let Err(error @ (WriteError::Closed | WriteError::Unknown(_))) = written {
            return error.to_string();
        }
        if let Err(ReadError::Sqlite(error)) = store.read(look).await
            && is_damage(&error)
        {
            return error.to_string();
        }
        tokio::time::sleep(DATABASE_LOOK).await;
    }
}

type Pruning = fn(&Tx<'_>, Timestamp, u32) -> Result<usize>;

/// Works until it is dropped or the store is closed.
pub async fn run(store: Store, clock: Arc<dyn Clock>, keep: Keep) {
    let commands = retention::prune(store.clone(), COMMAND_OUTBOX, Retention::default(), Arc::clone(&clock));
    let rounds = async {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            match prune_once(&store, keep, clock.now()).await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(rows, "removed what was old enough"),
                Err(WriteError::Closed | WriteError::Unknown(_)) => return,
                Err(error) => tracing::warn!(%error, "old rows cannot be removed; trying again later"),
            }
        }
    };
    tokio::join!(commands, rounds);
}

/// One round; returns the number of removed rows (a saga counts as one, as does a quota that
/// was given back).
pub async fn prune_once(
    store: &Store,
    keep: Keep,
    now: Timestamp,
) -> std::result::Result<usize, WriteError<rusqlite::Error>> {
    let work: [(Pruning, Duration); 6] = [
        (|tx, before, chunk| saga::prune(tx, before, chunk), keep.sagas),
        (|tx, before, chunk| device::prune(tx, before, chunk), keep.devices),
        (|tx, before, chunk| idempotency::prune(tx, before, chunk), keep.answers),
        (|tx, before, chunk| event_outbox::prune(tx, before, chunk), keep.events),
        (|tx, before, chunk| recording::prune(tx, before, chunk), keep.recordings),
        // `before` is now.
        (|tx, now, chunk| recording::release_expired(tx, now, DELETED_WITHIN, chunk), Duration::ZERO),
    ];
    let mut removed = 0;
    for (prune, keep) in work {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(now.0.saturating_sub(keep));
        loop {
            let rows = store.write(move |tx| prune(tx, before, CHUNK)).await?;
            removed += rows;
            if rows < CHUNK as usize {
                break;
            }
        }
    }
    Ok(removed)
}
