//! Facts about the database as such.

use super::Result;
use phonefleet_protocol::id::FleetId;
use phonefleet_store::rusqlite::{Connection, OptionalExtension};

/// The fleet that this database is, drawn when it was new.
pub fn fleet_id(connection: &Connection, fresh: &FleetId) -> Result<FleetId> {
    let known: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = 'fleet_id'", [], |row| row.get(0))
        .optional()?;
    if let Some(text) = known {
        return text.parse().map_err(super::unreadable);
    }
    connection.execute("INSERT INTO meta(key, value) VALUES ('fleet_id', ?1)", [fresh.as_str()])?;
    Ok(fresh.clone())
}
