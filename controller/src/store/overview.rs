//! Numbers over whole tables, for the metrics.

use super::Result;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::Connection;

/// Commands that their hosts have not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many.
    pub pending: u64,
    /// When the oldest was written.
    pub oldest: Option<Timestamp>,
}

/// Counts what every log holds behind its acknowledged number.
pub fn command_backlog(connection: &Connection) -> Result<Backlog> {
    // CROSS JOIN fixes the order: one short range of each log, never the whole table.
    connection
        .prepare_cached(
            "SELECT count(*), min(c.created_at) FROM stream_log l
             CROSS JOIN command_outbox c ON c.log = l.log AND c.seq > l.acknowledged",
        )?
        .query_row([], |row| {
            let pending = row.get::<_, i64>(0)? as u64;
            Ok(Backlog { pending, oldest: row.get::<_, Option<i64>>(1)?.map(Timestamp) })
        })
}
