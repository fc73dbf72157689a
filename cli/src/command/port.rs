//! `phonefleet port`: ports that are leased to devices.

use crate::client::address::with_query;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::follow::{self, Watch};
use crate::output::Shown;
use crate::output::page::{Cell, Page};
use crate::session::Session;
use clap::{Args, Subcommand};
use serde::Deserialize;

/// What to do with ports.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List leased ports
    #[command(visible_alias = "ls")]
    List(List),
}

/// Which ports to list.
#[derive(Debug, Args)]
pub struct List {
    /// Of this host only
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Lease {
    host_id: String,
    port: u16,
    kind: String,
    device_id: String,
}

/// Carries it out.
///
/// # Errors
/// Refusals.
pub async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    let Command::List(list) = command;
    let path = with_query("/ports/allocated", &[("hostId", list.host.as_deref())]);
    follow::watch(session, &list.watch, async || {
        // A bare array, without the envelope.
        let value = session.client.json(Call::get(path.as_str())).await?;
        let ports: Vec<Lease> = session.client.read(&value)?;
        Ok(Shown { page: table(&ports), value })
    })
    .await
}

fn table(ports: &[Lease]) -> Page {
    let rows = ports
        .iter()
        .map(|port| {
            vec![
                Cell::from(port.host_id.as_str()),
                port.port.to_string().into(),
                port.kind.as_str().into(),
                port.device_id.as_str().into(),
            ]
        })
        .collect();
    Page::table(&["HOST", "PORT", "KIND", "DEVICE"], rows, "no ports are leased")
}
