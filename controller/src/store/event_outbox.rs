//! What happened, in order, for subscribers.

use super::{Result, json};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, params};
use serde::Serialize;

/// Appends an event to the outbox, in the transaction that made it true.
pub fn append<T: Serialize>(
    connection: &Connection,
    aggregate_type: &str,
    aggregate_id: &str,
    event_type: &str,
    payload: &T,
    now: Timestamp,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO event_outbox(aggregate_type, aggregate_id, event_type, payload, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![aggregate_type, aggregate_id, event_type, json(payload)?, now.0])
        .map(|_| ())
}

/// Deletes up to `chunk` events older than `before`, from the oldest on. Looks at no more
/// rows than that, and leaves the newest one: its number must not be given twice.
pub fn prune(connection: &Connection, before: Timestamp, chunk: u32) -> Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM event_outbox WHERE seq IN
                (SELECT seq FROM (SELECT seq, created_at FROM event_outbox ORDER BY seq LIMIT ?2)
                 WHERE created_at < ?1 AND seq < (SELECT max(seq) FROM event_outbox))",
        )?
        .execute(params![before.0, chunk])
}

#[cfg(test)]
mod tests {
    use super::*;
    use phonefleet_store::Mode;
    use std::sync::Arc;

    #[tokio::test]
    async fn numbers_are_never_given_twice() {
        let directory = tempfile::tempdir().unwrap();
        let mode = Mode::Inline { gate: None };
        let store = crate::store::open(&directory.path().join("c.db"), mode, Arc::new(|_| {})).unwrap();
        let numbers = store
            .write(|tx| {
                let append = |at| append(tx, "device", "d", "device.status", &"RUNNING", Timestamp(at));
                (1..=5).try_for_each(append)?;
                assert_eq!(prune(tx, Timestamp(3), 100)?, 2);
                assert_eq!(prune(tx, Timestamp(100), 1)?, 1);
                assert_eq!(prune(tx, Timestamp(100), 100)?, 1);
                assert_eq!(prune(tx, Timestamp(100), 100)?, 0);
                append(6)?;
                let mut numbers = tx.prepare("SELECT seq FROM event_outbox ORDER BY seq")?;
                numbers.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>>>()
            })
            .await
            .unwrap();
        assert_eq!(numbers, [5, 6]);
    }
}
