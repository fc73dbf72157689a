//! What single pieces of work cost on a processor, within one transaction: where the time
//! goes that lies between the daemons and their ceilings. Microseconds, best of the rounds.

use anyhow::{Result, ensure};
use phonefleet_benches::ceiling::outbox::{self, OUTBOX, RECEIVER_TABLES};
use phonefleet_benches::disk::scratch;
use phonefleet_benches::load::runtime;
use phonefleet_benches::report::rounds;
use phonefleet_controller::saga::{
    Definition, Engine, OnFailure, Registry, RetryPolicy, Step, StepContext, StepOutcome, new_saga_id,
};
use phonefleet_controller::store::saga::{self as sagas, SagaEvent};
use phonefleet_controller::store::{self, Tx};
use phonefleet_protocol::id::SystemIds;
use phonefleet_protocol::stream::message::{Frame, LogHead};
use phonefleet_protocol::stream::{Chain, Epoch, Message};
use phonefleet_protocol::time::{Clock, SystemClock};
use phonefleet_store::stream_log::{COMMAND_OUTBOX, Labels};
use phonefleet_store::{Mode, rusqlite};
use serde_json::value::RawValue;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Few enough that SQLite's page cache holds what they touch, as it does at work.
const TIMES: u32 = 2048;
/// Items of a frame, and of a page.
const ITEMS: u32 = 256;
const LOG: &str = "host-17";

const STEP: Step = Step { name: "STEP", execute: done, compensate: Some(done) };
static STEPS: Definition = Definition {
    saga_type: "STEPS",
    version: 1,
    timeout: Some(std::time::Duration::from_secs(1800)),
    steps: &[STEP, STEP, STEP, STEP, STEP],
    on_failure: OnFailure::TurnRound,
    at_end,
};

static REGISTRY: [&Definition; 1] = [&STEPS];

#[allow(clippy::unnecessary_wraps, reason = "the signature of a step")]
fn done(_context: &mut StepContext<'_, '_>) -> store::Result<StepOutcome> {
    Ok(StepOutcome::Done)
}

#[allow(clippy::unnecessary_wraps, reason = "the signature of a saga's end")]
fn at_end(_context: &mut StepContext<'_, '_>) -> store::Result<()> {
    Ok(())
}

type Costs = Vec<(&'static str, f64)>;

/// Microseconds of one call, of so many.
fn each(times: u32, mut work: impl FnMut(u32) -> store::Result<()>) -> store::Result<f64> {
    let began = Instant::now();
    (0..times).try_for_each(&mut work)?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(times))
}

fn of_sagas(tx: &mut Tx<'_>) -> store::Result<Costs> {
    let engine = Engine { registry: Registry(&REGISTRY), retry: RetryPolicy::default() };
    let now = SystemClock.now();
    let ids: Vec<_> = (0..TIMES).map(|_| new_saga_id(&SystemIds, now)).collect();
    let id = |index: u32| &ids[index as usize];
    let mut costs = Vec::new();
    let start =
        each(TIMES, |index| Engine::start(tx, &STEPS, id(index).clone(), None, "{}".to_owned(), now))?;
    costs.push(("saga: start (row, line of history)", start));
    let step = each(TIMES, |index| engine.advance(tx, id(index), now).map(|_| ()))?;
    costs.push(("saga: one step, whole", step));
    costs.push((
        "saga:   of which reading its row",
        each(TIMES, |index| sagas::find(tx, id(index)).map(|_| ()))?,
    ));
    let rows = ids.iter().map(|id| sagas::find(tx, id)).collect::<store::Result<Vec<_>>>()?;
    let row = |index: u32| rows[index as usize].as_ref().ok_or(rusqlite::Error::QueryReturnedNoRows);
    costs.push((
        "saga:   of which writing it back",
        each(TIMES, |index| sagas::update_step(tx, row(index)?))?,
    ));
    let mut line =
        SagaEvent { seq: 100, at: now, kind: "done".to_owned(), step: "STEP".to_owned(), detail: None };
    let history = each(TIMES, |index| {
        line.seq += 1;
        sagas::insert_event(tx, id(index), &line)
    })?;
    costs.push(("saga:   of which its line of history", history));
    costs.push((
        "saga: writing back all columns, with indexes",
        each(TIMES, |index| sagas::update(tx, row(index)?))?,
    ));
    Ok(costs)
}

fn item() -> store::Result<Box<RawValue>> {
    let text = r#"{"kind":"device.changed","data":{"facts":{"deviceId":"018f4a10-0000-7000-8000-000000000001","generation":3,"attempt":1,"phase":"running","ports":{"adb":20000,"webrtc":21000},"containerId":"8f0d2a5c6b1e","reason":null,"starts":1},"at":"2025-10-09T08:53:20.000Z"}}"#;
    RawValue::from_string(text.to_owned())
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn of_stream(tx: &mut Tx<'_>) -> store::Result<Costs> {
    let (log, item, now) = (COMMAND_OUTBOX, item()?, SystemClock.now());
    log.open(tx, LOG, Epoch(7), now)?;
    let labels =
        Labels { aggregate_type: "device", aggregate_id: "018f4a10-0000-7000", event_type: "device.changed" };
    let mut costs = Vec::new();
    costs.push((
        "stream: append an item",
        each(TIMES, |_| log.append(tx, LOG, labels, &item, now).map(|_| ()))?,
    ));
    costs.push(("stream:   of which the log's head", each(TIMES, |_| log.head(tx, LOG).map(|_| ()))?));
    costs.push(("stream: a savepoint for one item", each(TIMES, |_| tx.part(|_| Ok(())))?));
    let pages = TIMES / ITEMS;
    let page = each(pages, |index| {
        log.page(tx, LOG, u64::from(index * ITEMS), ITEMS as usize, 1 << 20).map(|_| ())
    })?;
    costs.push(("stream: read an item back in a page", page / f64::from(ITEMS)));
    Ok(costs)
}

fn of_frames() -> Result<Costs> {
    let head = LogHead::empty(Epoch(7));
    let items = (0..ITEMS).map(|_| item()).collect::<store::Result<Vec<_>>>()?;
    let frame = Frame {
        epoch: head.epoch,
        first: 1,
        chain: head.chain,
        items,
        ack: None,
        resend: false,
        refused: None,
    };
    let message = Message::Frame(frame.clone());
    let payload = message.encode()?;
    let frames = TIMES / ITEMS;
    let per_item = |whole: f64| whole / f64::from(ITEMS);
    let encode = each(frames, |_| {
        drop(message.encode());
        Ok(())
    })?;
    let decode = each(frames, |_| {
        drop(Message::decode(&payload));
        Ok(())
    })?;
    let mut chain = Chain::genesis(head.epoch);
    let hash = each(frames, |_| {
        chain = frame.items.iter().fold(chain, |chain, item| chain.then(item.get()));
        Ok(())
    })?;
    ensure!(chain != head.chain, "the chain stands still");
    Ok(vec![
        ("stream: encode an item of a frame", per_item(encode)),
        ("stream: decode it", per_item(decode)),
        ("stream: hash it", per_item(hash)),
    ])
}

/// The same for the ceiling, where it can be compared.
fn of_ceiling(path: &Path) -> Result<Costs> {
    let connection = rusqlite::Connection::open(path)?;
    connection.execute_batch(&format!("{OUTBOX}{RECEIVER_TABLES}BEGIN"))?;
    let item = item()?;
    let append = each(TIMES, |index| outbox::append(&connection, u64::from(index), item.get()))?;
    let apply = each(TIMES, |index| outbox::apply(&connection, u64::from(index), item.get()))?;
    Ok(vec![("ideal outbox: append an event", append), ("ideal outbox: apply an event", apply)])
}

async fn measure(path: &Path) -> Result<Costs> {
    let store = store::open(path, Mode::Threaded, Arc::new(|_| {}))?;
    let mut costs = store.write(of_sagas).await?;
    costs.extend(store.write(of_stream).await?);
    costs.extend(of_frames()?);
    costs.extend(of_ceiling(&path.with_extension("ceiling"))?);
    Ok(costs)
}

fn main() -> Result<()> {
    let runtime = runtime()?;
    let scratch = scratch(env!("CARGO_TARGET_TMPDIR"))?;
    let mut best: Costs = Vec::new();
    for round in 0..rounds(15) {
        let costs = runtime.block_on(measure(&scratch.path().join(format!("{round}.db"))))?;
        for (name, cost) in costs {
            match best.iter_mut().find(|(known, _)| *known == name) {
                Some((_, least)) => *least = least.min(cost),
                None => best.push((name, cost)),
            }
        }
    }
    ensure!(!best.is_empty(), "nothing was measured");
    println!("\nmicroseconds on a processor, within one transaction");
    for (name, cost) in best {
        println!("{name:<62} {cost:>8.2}");
    }
    Ok(())
}
