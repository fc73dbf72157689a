//! `phonefleet host`: the machines that run phones.

use super::Once;
use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::follow::{self, Watch};
use crate::models::Host;
use crate::output::Shown;
use crate::output::page::{Cell, Page, Style, cores};
use crate::output::time::age;
use crate::session::Session;
use clap::{Args, Subcommand};
use phonefleet_protocol::time::Timestamp;
use serde_json::Value;
use std::fmt::Display;

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List hosts
    #[command(visible_alias = "ls")]
    List(Watch),
    /// Show everything about a host
    Get(Get),
    /// Keep new devices away from hosts; those there are stay
    Cordon(Verb),
    /// Let hosts take new devices again
    Uncordon(Verb),
    /// Give up what an unreachable host holds, and fence it: its devices are gone
    Forget(Verb),
}

/// Which host to show.
#[derive(Debug, Args)]
pub struct Get {
    /// Its id
    host: String,
    #[command(flatten)]
    watch: Watch,
}

/// Which hosts a verb is for.
#[derive(Debug, Args)]
pub struct Verb {
    /// Their ids
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    once: Once,
}

/// Carries it out.
///
/// # Errors
/// Refusals.
pub async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::List(watch) => {
            follow::watch(session, &watch, async || {
                let items = session.client.list("/hosts", &[]).await?;
                let hosts: Vec<Host> =
                    items.iter().map(|item| session.client.read(item)).collect::<Result<_, _>>()?;
                Ok(Shown { page: table(&hosts, session.now()), value: Value::Array(items) })
            })
            .await
        }
        Command::Get(get) => {
            follow::watch(session, &get.watch, async || {
                let value = session.client.data(Call::get(path(&["hosts", &get.host]))).await?;
                let host: Host = session.client.read(&value)?;
                Ok(Shown { page: fields(&host, session.now()), value })
            })
            .await
        }
        Command::Cordon(verb) => run_verb(session, &verb, "cordon").await,
        Command::Uncordon(verb) => run_verb(session, &verb, "uncordon").await,
        Command::Forget(verb) => run_verb(session, &verb, "forget").await,
    }
}

async fn run_verb(session: &Session, verb: &Verb, name: &str) -> Result<(), Failure> {
    let key = verb.once.key();
    let act = async |host: &str| {
        let answer = session.client.json(Call::post(path(&["hosts", host, name]), None, key.clone())).await?;
        Ok((host.to_owned(), answer))
    };
    let (done, mut result) = session.each(&verb.hosts, act).await;
    let mut page = Page::default();
    let mut values = Vec::new();
    for (host, mut answer) in done {
        let message = answer["message"].as_str().unwrap_or("done");
        page.add_line(if message.contains(&host) {
            message.to_owned()
        } else {
            format!("host {host}: {message}")
        });
        values.push(answer["data"].take());
    }
    if let Some(last) = values.pop() {
        let value = if verb.hosts.len() == 1 {
            last
        } else {
            values.push(last);
            Value::Array(values)
        };
        // What went wrong goes before nobody reading of it.
        result = result.and(session.show(&Shown { value, page }));
    }
    result
}

/// How much of how much; the second may be unlimited.
fn of<T: Display>(used: T, most: Option<T>) -> String {
    let most = most.map_or_else(|| "-".to_owned(), |most| most.to_string());
    format!("{used}/{most}")
}

/// The same in words.
fn at_most<T: Display>(used: T, most: Option<T>, unit: &str) -> String {
    match most {
        Some(most) => format!("{used} of {most}{unit}"),
        None => format!("{used}{unit}, without a limit"),
    }
}

fn status(host: &Host) -> Cell {
    if host.forgotten_at.is_some() {
        return Cell::new(format!("{} (forgotten)", host.status), Style::Bad);
    }
    if host.cordoned {
        return Cell::new(format!("{} (cordoned)", host.status), Style::Busy);
    }
    Cell::status(&host.status)
}

fn table(hosts: &[Host], now: Timestamp) -> Page {
    let rows = hosts
        .iter()
        .map(|host| {
            let heartbeat = host.last_heartbeat.as_ref();
            vec![
                host.id.as_str().into(),
                status(host),
                of(host.devices, host.capacity.max_devices).into(),
                of(cores(host.allocated.cpu_cores), host.capacity.cpu_cores).into(),
                of(host.allocated.memory_mb, host.capacity.memory_mb).into(),
                Cell::or_dash(heartbeat.map(|heartbeat| format!("{:.0}%", heartbeat.cpu_percent))),
                Cell::or_dash(heartbeat.map(|heartbeat| format!("{} MB", heartbeat.disk_free_mb))),
                Cell::or_dash(host.last_seen_at.map(|at| age(now, at))),
                host.runtime.as_str().into(),
                host.software.as_str().into(),
            ]
        })
        .collect();
    let head =
        ["ID", "STATUS", "DEVICES", "CORES", "MEMORY MB", "LOAD", "DISK FREE", "HEARD", "RUNTIME", "AGENT"];
    Page::table(&head, rows, "no hosts; the first start of an agent registers its host")
}

fn fields(host: &Host, now: Timestamp) -> Page {
    let when = |at: Option<Timestamp>| Cell::or_dash(at.map(|at| format!("{at} ({} ago)", age(now, at))));
    let meaning = crate::story::words::host_status(&host.status);
    let mut fields = vec![
        ("id", Cell::from(host.id.as_str())),
        ("status", status(host)),
        ("that is", meaning.into()),
        ("heard", when(host.last_seen_at)),
        ("devices", at_most(host.devices, host.capacity.max_devices, "").into()),
        ("cores ordered", at_most(cores(host.allocated.cpu_cores), host.capacity.cpu_cores, "").into()),
        ("memory ordered", at_most(host.allocated.memory_mb, host.capacity.memory_mb, " MB").into()),
        ("machine", format!("{} cores, {} MB", host.machine_cpu_cores, host.machine_memory_mb).into()),
        ("address", host.address.as_str().into()),
        ("image", host.image.as_str().into()),
        ("runtime", format!("{} {}", host.runtime, host.engine_version).trim_end().into()),
        ("agent", host.software.as_str().into()),
    ];
    if let Some(beat) = &host.last_heartbeat {
        let text = format!(
            "{:.0}% processor, {} MB memory used, {} MB disk free, {} phones run, {} events wait",
            beat.cpu_percent,
            beat.memory_used_mb,
            beat.disk_free_mb,
            beat.phones_running,
            beat.outbox_pending
        );
        fields.push(("last word", text.into()));
    }
    if let Some(other) = &host.conflict_with {
        fields.push(("conflict with", Cell::new(format!("machine {other}"), Style::Bad)));
    }
    if host.forgotten_at.is_some() {
        fields.push(("forgotten", when(host.forgotten_at)));
    }
    let mut page = Page::default();
    page.add_fields(fields);
    if !host.strays.is_empty() {
        page.add_heading("Devices that only the host knows");
        let rows = host
            .strays
            .iter()
            .map(|stray| {
                vec![
                    stray.device_id.as_str().into(),
                    stray.phase.as_str().into(),
                    Cell::or_dash(stray.reason.as_ref()),
                ]
            })
            .collect();
        page.add_table(&["DEVICE", "PHASE", "REASON"], rows, "");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables() {
        let host: Host = serde_json::from_value(json!({
            "id": "host-1", "status": "ONLINE", "cordoned": true, "devices": 3, "runtime": "docker",
            "capacity": {"maxDevices": 10, "cpuCores": null, "memoryMB": 65536}, "address": "127.0.0.1",
            "allocated": {"cpuCores": 6.000_000_000_000_001, "memoryMB": 12288}, "software": "phonefleet-agent/0.1.0",
            "lastSeenAt": "2025-11-21T11:00:55Z", "strays": [{"deviceId": "0199", "phase": "parked"}],
            "lastHeartbeat": {"cpuPercent": 12.4, "memoryUsedMB": 1, "diskFreeMB": 5000, "phonesRunning": 3},
        }))
        .unwrap();
        let now = Timestamp(1_763_722_860_000);
        assert_eq!(
            table(std::slice::from_ref(&host), now).render(false),
            "ID      STATUS             DEVICES  CORES  MEMORY MB    LOAD  DISK FREE  HEARD  RUNTIME  AGENT\n\
             host-1  ONLINE (cordoned)  3/10     6/-    12288/65536  12%   5000 MB    5s     docker   phonefleet-agent/0.1.0\n"
        );
        let text = fields(&host, now).render(false);
        assert!(
            text.ends_with("Devices that only the host knows\nDEVICE  PHASE   REASON\n0199    parked  -\n"),
            "{text}"
        );
    }
}
