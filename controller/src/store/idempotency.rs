//! Answers to accepted POSTs, given again to the byte when the key comes again.

use super::Result;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, OptionalExtension, params};

/// What a key is unique within, and the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Who asks; empty where the call names no user.
    pub user_id: String,
    /// HTTP method.
    pub method: String,
    /// HTTP path.
    pub path: String,
    /// The `Idempotency-Key` header.
    pub key: String,
}

/// A stored answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Hash of the body it answered.
    pub body_hash: u64,
    /// HTTP status.
    pub status: u16,
    /// HTTP body.
    pub answer: String,
}

/// The stored answer of a key.
pub fn find(connection: &Connection, scope: &Scope) -> Result<Option<Stored>> {
    connection
        .prepare_cached(
            "SELECT body_hash, status, answer FROM idempotency
             WHERE user_id = ?1 AND method = ?2 AND path = ?3 AND key = ?4",
        )?
        .query_row(params![scope.user_id, scope.method, scope.path, scope.key], |row| {
            Ok(Stored { body_hash: row.get::<_, i64>(0)? as u64, status: row.get(1)?, answer: row.get(2)? })
        })
        .optional()
}

/// Stores the answer of a key, in the transaction that accepted the call.
pub fn store(connection: &Connection, scope: &Scope, stored: &Stored, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO idempotency(user_id, method, path, key, body_hash, status, answer, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            scope.user_id,
            scope.method,
            scope.path,
            scope.key,
            stored.body_hash as i64,
            stored.status,
            stored.answer,
            now.0
        ])
        .map(|_| ())
}

/// Deletes up to `chunk` answers older than `before`.
pub fn prune(connection: &Connection, before: Timestamp, chunk: u32) -> Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM idempotency WHERE (user_id, method, path, key) IN
                (SELECT user_id, method, path, key FROM idempotency WHERE created_at < ?1
                 ORDER BY created_at LIMIT ?2)",
        )?
        .execute(params![before.0, chunk])
}
