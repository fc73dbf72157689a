//! Port leases per second: the pool's bit, the lease row durable before the port is used,
//! and the release; beside a bitmap with a plain row in the same kind of writer.

use anyhow::{Context, Result, ensure};
use phonefleet_agent::port::{PortPool, PortSettings};
use phonefleet_agent::store::port_lease::{self, PortKind};
use phonefleet_agent::store::{self, AgentStore};
use phonefleet_benches::ceiling::port::{self as ceiling, FIRST, LEASED, PORTS};
use phonefleet_benches::disk::{flushes_per_second, scratch};
use phonefleet_benches::load::{Outcome, closed_loop, runtime};
use phonefleet_benches::report::{Report, rounds};
use phonefleet_protocol::id::{DeviceId, uuid_v7};
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use phonefleet_store::Mode;
use std::path::Path;
use std::time::Duration;

const CONCURRENT: [usize; 4] = [1, 8, 64, 512];
const RUN: Duration = Duration::from_millis(1000);

fn device(number: u64) -> DeviceId {
    DeviceId(uuid_v7(Timestamp(1_760_000_000_000), u128::from(number)))
}

async fn product(path: &Path, concurrent: usize) -> Result<Outcome> {
    let AgentStore { store, .. } = store::open(path, Mode::Threaded)?;
    let settings = PortSettings {
        adb: FIRST..=FIRST + PORTS - 1,
        webrtc: 21_000..=21_999,
        ephemeral: Some(32_768..=60_999),
    };
    let rows = store
        .write(|tx| {
            for port in 0..LEASED {
                port_lease::lease(tx, FIRST + port, PortKind::Adb, device(port.into()), 1, Timestamp(0))?;
            }
            port_lease::all(tx)
        })
        .await?;
    let pool = PortPool::new(settings, &rows);
    let agent = store.clone();
    let outcome = closed_loop(concurrent, RUN, move |caller| {
        let (store, pool) = (agent.clone(), pool.clone());
        async move {
            let (device, now) = (device(u64::from(LEASED) + caller as u64), SystemClock.now());
            let hold = pool.hold(PortKind::Adb, now).context("no port is free")?;
            let port = hold.port();
            store.write(move |tx| port_lease::lease(tx, port, PortKind::Adb, device, 1, now)).await?;
            hold.keep();
            let released = store.write(move |tx| port_lease::release(tx, device)).await?;
            ensure!(released == [port], "{device} had port {port}, and gave back {released:?}");
            pool.free(port);
            Ok(())
        }
    })
    .await?;
    let left = store.read(port_lease::all).await?.len();
    ensure!(left == usize::from(LEASED), "{left} leases are left, and should be {LEASED}");
    Ok(outcome)
}

fn main() -> Result<()> {
    let runtime = runtime()?;
    let scratch = scratch(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::default();
    for round in 0..rounds(4) {
        report.add("4 KiB + fdatasync /s", flushes_per_second(scratch.path(), Duration::from_millis(500))?);
        for concurrent in CONCURRENT {
            let file = |kind: &str| scratch.path().join(format!("{kind}-{round}-{concurrent}.db"));
            let ideal = runtime.block_on(ceiling::run(&file("ceiling"), concurrent, RUN))?;
            let product = runtime.block_on(product(&file("product"), concurrent))?;
            let name = |what: &str, of: &str| format!("{concurrent} concurrent, {what}: {of}");
            for (figure, ideal, product) in [
                ("leases/s", ideal.per_second, product.per_second),
                ("p50 ms", ideal.p50_ms, product.p50_ms),
                ("p99 ms", ideal.p99_ms, product.p99_ms),
            ] {
                report.add(&name("bitmap and row", figure), ideal);
                report.add_beside(&name("agent", figure), product, &name("bitmap and row", figure));
            }
        }
    }
    println!(
        "{}",
        report.table("port leases: leased and released, each durable; 5,000 of 10,000 ports are taken")
    );
    Ok(())
}
