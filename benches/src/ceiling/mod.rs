//! The ceilings: the least code that keeps the same promises on the same disk.
//!
//! They know no errors, no recovery, no second kind of anything. What a product adds to
//! them is what it costs; how far it stays below them is what the benches print.

pub mod group_commit;
pub mod outbox;
pub mod port;
pub mod row;
pub mod saga;

use phonefleet_store::rusqlite::{Connection, Result};
use std::path::Path;

/// A new database as the daemons' are: WAL, `synchronous=FULL`.
pub(crate) fn database(path: &Path, schema: &str) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(schema)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
