//! Single facts by name.

use super::Tx;
use phonefleet_store::rusqlite::{self, Connection, OptionalExtension, params};

/// The fleet that this agent belongs to: the first that it met.
pub const FLEET: &str = "fleet_id";
/// What addresses of videos are signed with: 64 hexadecimal digits.
pub const CONTENT_KEY: &str = "content_key";
/// A snapshot of the controller has begun and not ended.
pub const SNAPSHOT_OPEN: &str = "snapshot_open";

/// The value of a name.
pub fn get(connection: &Connection, name: &str) -> Result<Option<String>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Sets a value.
pub fn set(tx: &mut Tx<'_>, name: &str, value: &str) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "INSERT INTO meta(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = ?2",
    )?
    .execute(params![name, value])
    .map(|_| ())
}

/// Removes a value; returns whether there was one.
pub fn remove(tx: &mut Tx<'_>, name: &str) -> Result<bool, rusqlite::Error> {
    Ok(tx.prepare_cached("DELETE FROM meta WHERE name = ?1")?.execute([name])? > 0)
}
