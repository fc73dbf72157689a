//! Child processes that outlive the agent, known by pid and start time: a pid alone may
//! belong to somebody else by now.

use super::Tx;
use phonefleet_store::rusqlite::{self, Connection, OptionalExtension, params};

/// A process on the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownProcess {
    /// Its pid.
    pub pid: i32,
    /// Its start time in clock ticks since the machine's boot (`/proc/PID/stat`, field 22).
    pub start_time: u64,
}

/// Puts a process on the books under a name, in place of an earlier one.
pub fn put(tx: &mut Tx<'_>, name: &str, process: KnownProcess) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "INSERT INTO process(name, pid, start_time) VALUES (?1, ?2, ?3)
         ON CONFLICT(name) DO UPDATE SET pid = ?2, start_time = ?3",
    )?
    .execute(params![name, process.pid, process.start_time as i64])
    .map(|_| ())
}

/// The process of that name.
pub fn get(connection: &Connection, name: &str) -> Result<Option<KnownProcess>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT pid, start_time FROM process WHERE name = ?1")?
        .query_row([name], |row| {
            Ok(KnownProcess { pid: row.get(0)?, start_time: row.get::<_, i64>(1)? as u64 })
        })
        .optional()
}

/// Takes a process off the books; called once it has ended.
pub fn remove(tx: &mut Tx<'_>, name: &str) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("DELETE FROM process WHERE name = ?1")?.execute([name]).map(|_| ())
}
