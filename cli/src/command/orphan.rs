//! `phonefleet orphan`: what is there and belongs to nobody: what this machine's agent finds,
//! and what the controller knows of every host.

use crate::client::Client;
use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::follow::{self, Watch};
use crate::models::{Device, Host};
use crate::output::page::{Cell, Page};
use crate::output::{Shown, note};
use crate::session::Session;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

/// What to do with orphans.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List containers, ports, data and devices that belong to nobody
    #[command(visible_alias = "ls")]
    List(List),
}

/// Where to look.
#[derive(Debug, Args)]
pub struct List {
    /// Do not ask this machine's agent
    #[arg(long)]
    no_agent: bool,
    #[command(flatten)]
    watch: Watch,
}

/// Something that belongs to nobody.
struct Orphan {
    source: &'static str,
    host: String,
    kind: String,
    name: String,
    detail: String,
}

/// What an agent answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    orphans: Vec<Found>,
    fault: Option<String>,
}

/// One thing that an agent found.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Found {
    kind: String,
    what: String,
    why: String,
    removing: bool,
}

/// Carries it out.
///
/// # Errors
/// Those of the controller; an agent that cannot be asked is said, and is no failure.
pub async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    let Command::List(list) = command;
    follow::watch(session, &list.watch, async || {
        let (known, mut orphans) = known(session).await?;
        let mut found = Value::Null;
        if !list.no_agent {
            match found_by_agent(session).await {
                Ok((value, more)) => {
                    found = value;
                    orphans.extend(more);
                }
                Err(failure) if !list.watch.watch => {
                    note(&format!("this machine's agent is left out (--no-agent): {failure}"));
                }
                Err(_) => {}
            }
        }
        let value = json!({"agent": found, "controller": known});
        Ok(Shown { value, page: table(&orphans) })
    })
    .await
}

/// What the controller knows: devices that hosts have and nobody asked for, and recorders
/// without a recording.
async fn known(session: &Session) -> Result<(Value, Vec<Orphan>), Failure> {
    let client = &session.client;
    let mut orphans = Vec::new();
    let mut values = Vec::new();
    for item in client.list("/hosts", &[]).await? {
        let host: Host = client.read(&item)?;
        let detail = client.data(Call::get(path(&["hosts", &host.id]))).await?;
        let Host { strays, .. } = client.read(&detail)?;
        if let Some(list) = detail["strays"].as_array() {
            values.extend(
                list.iter().map(|stray| json!({"hostId": host.id, "kind": "device", "stray": stray})),
            );
        }
        orphans.extend(strays.into_iter().map(|stray| Orphan {
            source: "controller",
            host: host.id.clone(),
            kind: "device".to_owned(),
            name: stray.device_id,
            detail: stray.reason.map_or_else(
                || format!("{}, and the controller does not know it", stray.phase),
                |reason| reason.to_string(),
            ),
        }));
        let recorders = host.last_heartbeat.map_or(0, |beat| beat.orphan_recorders);
        if recorders > 0 {
            values.push(json!({"hostId": host.id, "kind": "recorder", "count": recorders}));
            orphans.push(Orphan {
                source: "controller",
                host: host.id.clone(),
                kind: "recorder".to_owned(),
                name: format!("{recorders} processes"),
                detail: "found and ended by the agent since its start".to_owned(),
            });
        }
    }
    for item in client.list("/devices", &[("status", Some("PARKED"))]).await? {
        let device: Device = client.read(&item)?;
        values.push(json!({"hostId": device.host_id, "kind": "parked", "device": item}));
        orphans.push(Orphan {
            source: "controller",
            host: device.host_id,
            kind: "parked".to_owned(),
            name: format!("{} ({})", device.name, device.id),
            detail: device.reason.map(|reason| reason.to_string()).unwrap_or_default(),
        });
    }
    Ok((Value::Array(values), orphans))
}

/// What this machine's agent found. It looks when it is asked.
async fn found_by_agent(session: &Session) -> Result<(Value, Vec<Orphan>), Failure> {
    let agent = Client::new(session.configuration.agent.value.clone(), session.time_limit);
    let value = agent.json(Call::get("/orphans")).await?;
    let report: Report = agent.read(&value)?;
    if let Some(fault) = &report.fault {
        note(&format!("the agent could not look at everything: {fault}"));
    }
    let orphans = report.orphans.into_iter().map(|found| Orphan {
        source: "agent",
        host: "this machine".to_owned(),
        kind: found.kind,
        name: found.what,
        detail: if found.removing { format!("{} (being removed)", found.why) } else { found.why },
    });
    Ok((value, orphans.collect()))
}

fn table(orphans: &[Orphan]) -> Page {
    let rows = orphans
        .iter()
        .map(|orphan| {
            vec![
                Cell::from(orphan.source),
                orphan.host.as_str().into(),
                orphan.kind.as_str().into(),
                orphan.name.as_str().into(),
                orphan.detail.as_str().into(),
            ]
        })
        .collect();
    Page::table(&["TOLD BY", "HOST", "KIND", "WHAT", "DETAIL"], rows, "no orphans")
}
