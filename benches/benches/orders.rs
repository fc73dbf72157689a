//! How long `POST /devices` takes: the whole controller behind HTTP on loopback, with hosts
//! that carry out everything at once, so that each order's saga runs beside the next
//! orders; beside a plain row in the same kind of writer. And what a completed creation
//! leaves in the database.

#[path = "orders/fleet.rs"]
mod fleet;
#[path = "orders/host.rs"]
mod host;

use anyhow::{Context, Result, bail};
use fleet::{Fleet, USERS};
use phonefleet_benches::ceiling;
use phonefleet_benches::disk::{flushes_per_second, scratch};
use phonefleet_benches::http::Client;
use phonefleet_benches::load::{Outcome, closed_loop, runtime};
use phonefleet_benches::report::{Report, rounds};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// Clients at a time, each with a connection of its own.
const CLIENTS: [usize; 2] = [1, 64];
/// Devices that are there before.
const DEVICES: [u64; 2] = [0, 10_000];
const RUN: Duration = Duration::from_secs(2);
/// What 99 of 100 answers must not exceed, ms.
const TARGET_MS: f64 = 10.0;
/// What the row of a completed creation may take with its indexes, in bytes.
const TARGET_BYTES: f64 = 1024.0;

/// Orders devices for so long, on a runtime of its own.
fn order(address: SocketAddr, clients: usize) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connections = Vec::with_capacity(clients);
        for _ in 0..clients {
            connections.push(Mutex::new(Client::connect(address).await?));
        }
        let (connections, next) = (Arc::new(connections), Arc::new(AtomicU64::new(0)));
        closed_loop(clients, RUN, move |caller| {
            let (connections, next) = (Arc::clone(&connections), Arc::clone(&next));
            async move {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let body = format!(
                    r#"{{"name":"ordered-{number}","userId":"user-{}","providerType":"REDROID"}}"#,
                    number % USERS
                );
                let mut client =
                    connections.get(caller).context("a caller without a connection")?.lock().await;
                match client.post("/devices", &format!("order-{number}"), &body).await? {
                    (202, _) => Ok(()),
                    (status, answer) => bail!("order {number} was answered {status}: {answer}"),
                }
            }
        })
        .await
    })
}

fn main() -> Result<()> {
    let runtime = runtime()?;
    let scratch = scratch(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::default();
    for round in 0..rounds(3) {
        report.add("4 KiB + fdatasync /s", flushes_per_second(scratch.path(), Duration::from_millis(500))?);
        for clients in CLIENTS {
            let name = |what: &str, of: &str| format!("{clients} at a time, {what}: {of}");
            let row = "a plain row";
            let plain = runtime.block_on(ceiling::row::run(
                &scratch.path().join(format!("row-{round}-{clients}.db")),
                clients,
                RUN,
            ))?;
            for (figure, value) in
                [("/s", plain.per_second), ("p50 ms", plain.p50_ms), ("p99 ms", plain.p99_ms)]
            {
                report.add(&name(row, figure), value);
            }
            for devices in DEVICES {
                let path = scratch.path().join(format!("{round}-{clients}-{devices}"));
                std::fs::create_dir(&path)?;
                let fleet = runtime.block_on(Fleet::start(&path, devices))?;
                let outcome = order(fleet.address, clients)?;
                let size = runtime.block_on(fleet.completed(outcome.done))?;
                drop(fleet);
                std::fs::remove_dir_all(&path)?;
                let what = format!("orders, {devices} devices");
                for (figure, value) in
                    [("/s", outcome.per_second), ("p50 ms", outcome.p50_ms), ("p99 ms", outcome.p99_ms)]
                {
                    report.add_beside(&name(&what, figure), value, &name(row, figure));
                }
                // Of a new database: what is in it is of creations only.
                if devices == 0 && clients > 1 {
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
            report.verdict_at_most(&format!("{clients} at a time, orders, 0 devices: p99 ms"), TARGET_MS)
        );
    }
    println!("{}", report.verdict_at_most("creation: saga's row and indexes, bytes", TARGET_BYTES));
    Ok(())
}
