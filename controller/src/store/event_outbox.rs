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

/// Deletes up to `chunk` events older than `before`.
pub fn prune(connection: &Connection, before: Timestamp, chunk: u32) -> Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM event_outbox WHERE seq IN
                (SELECT seq FROM event_outbox WHERE created_at < ?1 ORDER BY seq LIMIT ?2)",
        )?
        .execute(params![before.0, chunk])
}
