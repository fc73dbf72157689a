//! Five-step sagas per second through the real engine, runner and store, each step's
//! completion durable before the next begins; beside the ideal executor on the same disk.

use anyhow::{Result, anyhow, ensure};
use phonefleet_benches::ceiling;
use phonefleet_benches::disk::{flushes_per_second, scratch};
use phonefleet_benches::load::{Outcome, closed_loop, runtime};
use phonefleet_benches::report::{Report, rounds};
use phonefleet_controller::saga::runner::Wake;
use phonefleet_controller::saga::{
    Definition, Engine, OnFailure, Registry, RetryPolicy, Runner, Step, StepContext, StepOutcome, new_saga_id,
};
use phonefleet_controller::store::{self, Notice};
use phonefleet_protocol::id::{HostId, SystemIds};
use phonefleet_protocol::time::{Clock, SystemClock};
use phonefleet_store::{Mode, rusqlite};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

const CONCURRENT: &str = "1,8,64,512";
const RUN: Duration = Duration::from_millis(1200);
/// Of the ceiling, at 64 concurrent sagas.
const TARGET: f64 = 0.5;

const fn step(name: &'static str) -> Step {
    Step { name, execute: done, compensate: Some(done) }
}

static FIVE_STEPS: Definition = Definition {
    saga_type: "FIVE_STEPS",
    version: 1,
    timeout: Some(Duration::from_secs(1800)),
    steps: &[step("FIRST"), step("SECOND"), step("THIRD"), step("FOURTH"), step("FIFTH")],
    on_failure: OnFailure::TurnRound,
    at_end: tell,
};
const ENGINE: Engine = Engine {
    registry: Registry(&[&FIVE_STEPS]),
    retry: RetryPolicy {
        retries: 3,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(60),
    },
};

#[allow(clippy::unnecessary_wraps, reason = "the signature of a step")]
fn done(_context: &mut StepContext<'_, '_>) -> store::Result<StepOutcome> {
    Ok(StepOutcome::Done)
}

/// Tells the caller that waits, after the commit. Its number is the saga's state; a notice
/// with a name in it carries it out of the writer.
#[allow(clippy::unnecessary_wraps, reason = "the signature of a saga's end")]
fn tell(context: &mut StepContext<'_, '_>) -> store::Result<()> {
    if let Ok(caller) = HostId::try_from(context.saga.state.clone()) {
        context.tx.announce(Notice::Commands(caller));
    }
    Ok(())
}

async fn product(path: &Path, concurrent: usize) -> Result<Outcome> {
    let (wakes, wake) = mpsc::unbounded_channel();
    let waiting: Arc<[Notify]> = (0..concurrent).map(|_| Notify::new()).collect();
    let callers = Arc::clone(&waiting);
    let on_commit = move |notices: Vec<Notice>| {
        for notice in notices {
            match notice {
                // The runner ends before the last commit does.
                Notice::SagaRunnable(saga) => _ = wakes.send(Wake::Runnable(saga)),
                Notice::SagaDue(at) => _ = wakes.send(Wake::Due(at)),
                Notice::Commands(caller) => {
                    if let Some(caller) =
                        caller.as_str().parse().ok().and_then(|index: usize| callers.get(index))
                    {
                        caller.notify_one();
                    }
                }
                Notice::SagaEnded(_)
                | Notice::SagaStep { .. }
                | Notice::RecordingEnded(_)
                | Notice::EventApplied { .. } => {}
            }
        }
    };
    let store = store::open(path, Mode::Threaded, Arc::new(on_commit))?;
    let runner = tokio::spawn(Runner::new(store.clone(), ENGINE, Arc::new(SystemClock), wake).run());
    let orders = store.clone();
    let outcome = closed_loop(concurrent, RUN, move |caller| {
        let (store, waiting) = (orders.clone(), Arc::clone(&waiting));
        async move {
            let now = SystemClock.now();
            let (id, state) = (new_saga_id(&SystemIds, now), caller.to_string());
            store
                .write(move |tx| Engine::start(tx, &FIVE_STEPS, id.clone(), None, state.clone(), now))
                .await?;
            waiting.get(caller).ok_or_else(|| anyhow!("a caller without a place"))?.notified().await;
            Ok(())
        }
    })
    .await?;
    runner.abort();
    let rows: (u64, u64) = store
        .read(|connection| {
            let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            let completed =
                count("SELECT count(*) FROM saga_state WHERE status = 'COMPLETED' AND step_index = 4")?;
            Ok::<_, rusqlite::Error>((completed as u64, count("SELECT count(*) FROM saga_event")? as u64))
        })
        .await?;
    ensure!(rows.0 == outcome.done, "{} sagas were told to be done, {} are", outcome.done, rows.0);
    ensure!(rows.1 >= 6 * rows.0, "{} sagas have {} lines of history", rows.0, rows.1);
    Ok(outcome)
}

fn main() -> Result<()> {
    let runtime = runtime()?;
    let scratch = scratch(env!("CARGO_TARGET_TMPDIR"))?;
    let concurrent = std::env::var("CONCURRENT").unwrap_or_else(|_| CONCURRENT.to_owned());
    let concurrent: Vec<usize> = concurrent.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let mut report = Report::default();
    for round in 0..rounds(4) {
        report.add("4 KiB + fdatasync /s", flushes_per_second(scratch.path(), Duration::from_millis(500))?);
        for &concurrent in &concurrent {
            let file = |kind: &str| scratch.path().join(format!("{kind}-{round}-{concurrent}.db"));
            let ceiling = runtime.block_on(ceiling::saga::run(&file("ceiling"), concurrent, RUN))?;
            let product = runtime.block_on(product(&file("product"), concurrent))?;
            let name = |what: &str, of: &str| format!("{concurrent} concurrent, {what}: {of}");
            let (ideal, engine) = ("ideal executor", "engine");
            for (figure, ceiling, product) in [
                ("sagas/s", ceiling.per_second, product.per_second),
                ("p50 ms", ceiling.p50_ms, product.p50_ms),
                ("p99 ms", ceiling.p99_ms, product.p99_ms),
            ] {
                report.add(&name(ideal, figure), ceiling);
                report.add_beside(&name(engine, figure), product, &name(ideal, figure));
            }
        }
    }
    println!("{}", report.table("five-step sagas, every step durable before the next"));
    println!("{}", report.verdict("64 concurrent, engine: sagas/s", TARGET));
    Ok(())
}
