//! The agent's database as the ledger of processes.

use super::server::ProcessLedger;
use crate::host::process::ProcessId;
use crate::store::{Notice, process};
use async_trait::async_trait;
use phonefleet_store::Store;

/// Notes processes in the agent's database.
pub struct StoreLedger(pub Store<Notice>);

#[async_trait]
impl ProcessLedger for StoreLedger {
    async fn recorded(&self, name: &str) -> Result<Option<ProcessId>, String> {
        let name = name.to_owned();
        let row = self.0.read(move |connection| process::get(connection, &name)).await;
        let row = row.map_err(|error| error.to_string())?;
        Ok(row.and_then(|row| {
            Some(ProcessId { pid: u32::try_from(row.pid).ok()?, start_time: row.start_time })
        }))
    }

    async fn record(&self, name: &str, process: ProcessId) -> Result<(), String> {
        let name = name.to_owned();
        let pid = i32::try_from(process.pid).map_err(|error| error.to_string())?;
        let row = process::KnownProcess { pid, start_time: process.start_time };
        let written = self.0.write(move |tx| process::put(tx, &name, row)).await;
        written.map_err(|error| error.to_string())
    }
}
