//! How long `POST /devices` takes: the whole controller behind HTTP on loopback, with hosts
//! that carry out everything at once, so that each order's saga runs beside the next
//! orders; beside a plain row in the same kind of writer. And what a completed creation
//! leaves in the database.

#[path = "orders/fleet.rs"]
mod fleet;
#[path = "orders/host.rs"]
mod host;

use anyhow::{Context, Result, bail};
use fleet::{Before, Fleet, USERS};
use phonefleet_benches::ceiling;
use phonefleet_benches::disk::{flushes_per_second, scratch};
use phonefleet_benches::http::Client;
use phonefleet_benches::load::{Outcome, closed_loop, runtime};
use phonefleet_benches::report::{Report, rounds};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// How clients come, each on a connection that it keeps.
#[derive(Clone, Copy)]
enum Clients {
    /// So many, each of which orders again as soon as it has its answer.
    Busy(usize),
    /// So many, which together order so often a second, whether or not answers are late.
    Paced(usize, u64),
}

const CLIENTS: [Clients; 4] =
    [Clients::Busy(1), Clients::Paced(64, 200), Clients::Busy(8), Clients::Busy(64)];
const BEFORE: [Before; 2] = [Before { devices: 0, history: 0 }, Before { devices: 10_000, history: 50_000 }];
const RUN: Duration = Duration::from_secs(2);
/// What 99 of 100 answers must not exceed, ms.
const TARGET_MS: f64 = 10.0;
/// What the row of a completed creation may take with its indexes, in bytes.
const TARGET_BYTES: f64 = 1024.0;

impl Clients {
    const fn connections(self) -> usize {
        match self {
            Self::Busy(connections) | Self::Paced(connections, _) => connections,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Busy(clients) => format!("{clients} busy"),
            Self::Paced(clients, rate) => format!("{clients} at {rate}/s"),
        }
    }
}

/// Orders device `number`.
async fn order(client: &mut Client, number: u64) -> Result<()> {
    let body = format!(
        r#"{{"name":"ordered-{number}","userId":"user-{}","providerType":"REDROID"}}"#,
        number % USERS
    );
    match client.post("/devices", &format!("order-{number}"), &body).await? {
        (202, _) => Ok(()),
        (status, answer) => bail!("order {number} was answered {status}: {answer}"),
    }
}

async fn busy(connections: Vec<Client>) -> Result<Outcome> {
    let callers = connections.len();
    let connections: Arc<[_]> = connections.into_iter().map(Mutex::new).collect();
    let next = Arc::new(AtomicU64::new(0));
    closed_loop(callers, RUN, move |caller| {
        let (connections, next) = (Arc::clone(&connections), Arc::clone(&next));
        async move {
            let mut client = connections.get(caller).context("a caller without a connection")?.lock().await;
            order(&mut client, next.fetch_add(1, Ordering::Relaxed)).await
        }
    })
    .await
}

/// Times count from the moment at which each order was due.
async fn paced(connections: Vec<Client>, rate: u64) -> Result<Outcome> {
    let (clients, orders) = (connections.len() as u64, rate * RUN.as_secs());
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (first, mut client) in (0..).zip(connections) {
        running.spawn(async move {
            let mut took_ms = Vec::new();
            for number in (first..orders).step_by(clients as usize) {
                let due = began + Duration::from_micros(number * 1_000_000 / rate);
                sleep_until(due.into()).await;
                order(&mut client, number).await?;
                took_ms.push(due.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(took_ms)
        });
    }
    let mut all_ms = Vec::new();
    while let Some(ended) = running.join_next().await {
        all_ms.extend(ended??);
    }
    Ok(Outcome::new(&all_ms, began.elapsed()))
}

/// Orders devices for so long, on a runtime of its own.
fn orders(address: SocketAddr, clients: Clients) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..clients.connections() {
            connections.push(Client::connect(address).await?);
        }
        match clients {
            Clients::Busy(_) => busy(connections).await,
            Clients::Paced(_, rate) => paced(connections, rate).await,
        }
    })
}

fn figures(outcome: &Outcome) -> [(&'static str, f64); 3] {
    [("/s", outcome.per_second), ("p50 ms", outcome.p50_ms), ("p99 ms", outcome.p99_ms)]
}

fn main() -> Result<()> {
    let runtime = runtime()?;
    let scratch = scratch(env!("CARGO_TARGET_TMPDIR"))?;
    let (mut report, mut number) = (Report::default(), 0);
    for round in 0..rounds(3) {
        report.add("4 KiB + fdatasync /s", flushes_per_second(scratch.path(), Duration::from_millis(500))?);
        for clients in CLIENTS {
            let name = |what: &str, of: &str| format!("{}, {what}: {of}", clients.name());
            let row = "a plain row";
            if let Clients::Busy(callers) = clients {
                let path = scratch.path().join(format!("row-{round}-{callers}.db"));
                let plain = runtime.block_on(ceiling::row::run(&path, callers, RUN))?;
                for (figure, value) in figures(&plain) {
                    report.add(&name(row, figure), value);
                }
            }
            for before in BEFORE {
                number += 1;
                let path = scratch.path().join(format!("fleet-{number}"));
                std::fs::create_dir(&path)?;
                let fleet = runtime.block_on(Fleet::start(&path, before))?;
                let outcome = orders(fleet.address, clients)?;
                let size = runtime.block_on(fleet.completed(outcome.done))?;
                drop(fleet);
                std::fs::remove_dir_all(&path)?;
                let what = format!("orders, {} devices", before.devices);
                for (figure, value) in figures(&outcome) {
                    match clients {
                        Clients::Busy(_) => {
                            report.add_beside(&name(&what, figure), value, &name(row, figure));
                        }
                        Clients::Paced(..) => report.add(&name(&what, figure), value),
                    }
                }
                // Of a new database: what is in it is of creations only.
                if before.devices == 0 && matches!(clients, Clients::Busy(64)) {
                    report.add("creation: saga's row and indexes, bytes", size.row);
                    report.add("creation: saga's story, bytes", size.story);
                    report.add("creation: both, with free space of pages, bytes", size.on_disk);
                }
            }
        }
    }
    println!("{}", report.table("orders of new devices over HTTP, each durable before its answer"));
    for clients in CLIENTS {
        println!(
            "{}",
            report.verdict_at_most(&format!("{}, orders, 0 devices: p99 ms", clients.name()), TARGET_MS)
        );
    }
    println!("{}", report.verdict_at_most("creation: saga's row and indexes, bytes", TARGET_BYTES));
    Ok(())
}
