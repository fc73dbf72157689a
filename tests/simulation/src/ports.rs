//! After every commit of an agent: whatever runs, runs at a port that is leased to it.

use crate::watch::{Watch, short};
use phonefleet_store::rusqlite::{self, Connection, OpenFlags};
use phonefleet_tests::simulation::Machine;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What an agent over this database, on this machine, calls after each commit.
pub fn commits_of(
    watch: &Arc<Watch>,
    host: &str,
    machine: &Machine,
    database: &Path,
) -> Arc<dyn Fn() + Send + Sync> {
    let (watch, machine) = (Arc::clone(watch), machine.clone());
    let (host, database) = (host.to_owned(), database.to_owned());
    let connection: Mutex<Option<Connection>> = Mutex::new(None);
    Arc::new(move || {
        let running = machine.running(&host);
        if running.is_empty() {
            return;
        }
        let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.is_none() {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            *connection = Connection::open_with_flags(&database, flags).ok();
        }
        let Some(connection) = connection.as_ref() else { return };
        let Ok(leased) = leases(connection) else { return };
        for (device, port) in running {
            // One that no row knows, or that is parked, has what its labels say.
            if let Some(lease) = leased.get(&device)
                && *lease != Some(port)
            {
                watch.accuse(format!(
                    "ports: {} runs at {port} of {host}, leased is {lease:?}",
                    short(&device)
                ));
            }
        }
    })
}

/// The ADB port of every device that the agent is in charge of.
fn leases(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Option<u16>>> {
    connection
        .prepare_cached(
            "SELECT d.device_id, p.port FROM device AS d
             LEFT JOIN port_lease AS p ON p.device_id = d.device_id AND p.kind = 'adb' AND p.state = 'LEASED'
             WHERE d.found = 0 AND d.parked = 0 AND d.phase IN ('running', 'stopping')",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
