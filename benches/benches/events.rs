//! Events per second from the agent's commit to the controller's: real stores, real
//! conversations and the in-memory link, beside the ideal outbox in the same round; and how
//! long one takes at 1,000 per second.
//!
//! Two controllers: one whose applying is as little as the ceiling's, which is the price of
//! store and stream; and the real one, in which each event changes a device's status.

#[path = "events/fleet.rs"]
mod fleet;
#[path = "events/upsert.rs"]
mod upsert;

use anyhow::{Context, Result, ensure};
use phonefleet_benches::ceiling::outbox::{self, CHANGE_DEVICE, DEVICES, Flow, SENDER_DEVICES, Source};
use phonefleet_benches::conversation::{self, converse};
use phonefleet_benches::disk::{flushes_per_second, scratch};
use phonefleet_benches::latency::{Latencies, at_rate};
use phonefleet_benches::load::runtime;
use phonefleet_benches::processor;
use phonefleet_benches::report::{Report, rounds};
use phonefleet_link::domain::LogItem;
use phonefleet_link::{Applied, ConversationHandle, Domain, MemoryBroker};
use phonefleet_protocol::event::Event;
use phonefleet_protocol::facts::{DeviceFacts, Phase, Ports};
use phonefleet_protocol::id::{DeviceId, FleetId, HostId, uuid_v7};
use phonefleet_protocol::item::Item;
use phonefleet_protocol::stream::message::Introduction;
use phonefleet_protocol::stream::{Admission, Hello, Notice};
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use phonefleet_protocol::topic::Channel;
use phonefleet_store::migration::Schema;
use phonefleet_store::stream_log::{EVENT_OUTBOX, Labels, StreamLog};
use phonefleet_store::{Migration, Mode, Options, Store, Tx, rusqlite};
use serde_json::value::RawValue;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Of the ceiling, for the controller that does as little.
const TARGET: f64 = 0.8;
/// Callers on the agent that wait for their commits.
const PRODUCERS: [u64; 2] = [256, 2048];
const CEILING_EVENTS: u64 = 100_000;
const UPSERT_EVENTS: u64 = 80_000;
const FLEET_EVENTS: u64 = 30_000;
const RATE: u64 = 1000;
const RATE_EVENTS: u64 = 1000;

static AGENT: [Migration; 2] = [
    Migration { number: 1, name: "0001_stream", sql: include_str!("../../migrations/agent/0001_stream.sql") },
    Migration { number: 2, name: "0002_bench", sql: SENDER_DEVICES },
];

/// The host that speaks: its name is the log's on the controller, and here on both ends.
const HOST: &str = "host-17";

pub(crate) fn host() -> HostId {
    HOST.parse().expect("a host id")
}

/// What both ends say of themselves.
pub(crate) fn introduction() -> Introduction {
    let fleet = FleetId::try_from("fleet-17".to_owned()).expect("a fleet id");
    Introduction { fleet_id: Some(fleet), ..conversation::introduction(host()) }
}

/// The device of an event.
pub(crate) fn device(index: u64) -> DeviceId {
    DeviceId(uuid_v7(Timestamp(1_760_000_000_000), u128::from(index % DEVICES)))
}

/// A phone that died and was started again: what an agent reports by itself.
fn events() -> Result<Arc<[Box<RawValue>]>> {
    (0..2 * DEVICES)
        .map(|index| {
            let phase = if index < DEVICES { Phase::Starting } else { Phase::Running };
            let port = 20_000 + (index % DEVICES) as u16;
            let facts = DeviceFacts {
                device_id: device(index),
                generation: 3,
                attempt: 1,
                question: None,
                phase,
                ports: Some(Ports { adb: port, webrtc: port + 1000 }),
                container_id: Some("8f0d2a5c6b1e".to_owned()),
                reason: None,
                starts: index / DEVICES,
                boot_count: 0,
                data_epoch: 0,
            };
            Ok(Event::Changed { facts, at: Timestamp(1_760_000_000_000 + index as i64) }.encode()?)
        })
        .collect()
}

/// The agent's side: it only speaks.
struct Speaker;

impl Domain<()> for Speaker {
    const LOG: StreamLog = EVENT_OUTBOX;

    fn apply(&self, _: &mut Tx<'_, ()>, _: &str, _: &RawValue, _: Timestamp) -> rusqlite::Result<Applied> {
        Ok(Applied::Done)
    }

    fn snapshot(&self, _: &mut Tx<'_, ()>, _: &str, _: Timestamp) -> rusqlite::Result<Vec<LogItem>> {
        Ok(Vec::new())
    }

    fn admit(&self, _: &mut Tx<'_, ()>, _: &str, _: &Hello, _: Timestamp) -> rusqlite::Result<Admission> {
        Ok(Admission::Welcome)
    }

    fn acknowledged(&self, _: &mut Tx<'_, ()>, _: &str, _: u64, _: Timestamp) -> rusqlite::Result<()> {
        Ok(())
    }

    fn notice(&self, _: &str, _: &Notice) {}
}

/// What a controller tells of its commits.
pub(crate) struct Arrivals {
    latencies: Option<Arc<Latencies>>,
    events: u64,
    through: AtomicU64,
    all: Notify,
}

impl Arrivals {
    /// Everything up to event `through` is committed.
    pub(crate) fn committed(&self, through: u64) {
        let before = self.through.swap(through, Ordering::Relaxed);
        if let Some(latencies) = &self.latencies {
            latencies.arrived(before + 1..=through);
        }
        if through >= self.events {
            self.all.notify_one();
        }
    }
}

/// Which controller stands at the other end.
#[derive(Clone, Copy)]
enum Receiver {
    Upsert,
    Fleet,
}

struct Case<'a> {
    receiver: Receiver,
    events: u64,
    /// Callers that wait for their commits, or events per second.
    producers: Result<u64, u64>,
    items: &'a Arc<[Box<RawValue>]>,
}

/// Events per second from end to end, on databases of that name.
async fn product(directory: &Path, name: &str, case: Case<'_>, latencies: &Arc<Latencies>) -> Result<f64> {
    let arrivals = Arc::new(Arrivals {
        latencies: case.producers.is_err().then(|| Arc::clone(latencies)),
        events: case.events,
        through: AtomicU64::new(0),
        all: Notify::new(),
    });
    let handle: Arc<OnceLock<ConversationHandle>> = Arc::default();
    let speaks = Arc::clone(&handle);
    let options = Options {
        path: directory.join(format!("{name}-agent.db")),
        schema: Schema { component: "agent", migrations: &AGENT },
        mode: Mode::Threaded,
    };
    let agent = Store::open(&options, move |_: Vec<()>| {
        if let Some(handle) = speaks.get() {
            handle.log_grew();
        }
    })?;
    let (broker, mut tasks) = (MemoryBroker::new(), JoinSet::new());
    let controller = directory.join(format!("{name}-controller.db"));
    let controller = match case.receiver {
        Receiver::Upsert => upsert::start(&controller, &mut tasks, &broker, &arrivals)?,
        Receiver::Fleet => fleet::start(&controller, &mut tasks, &broker, &arrivals).await?,
    };
    let speaker =
        converse(&mut tasks, &broker, &agent, Speaker, introduction(), (Channel::Down, Channel::Up));
    let status = speaker.clone();
    let _ = handle.set(speaker);
    while !status.status().open {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let began = Instant::now();
    match case.producers {
        Ok(producers) => {
            let next = Arc::new(AtomicU64::new(0));
            let mut busy = JoinSet::new();
            for _ in 0..producers {
                let (store, items, next) = (agent.clone(), Arc::clone(case.items), Arc::clone(&next));
                let latencies = Arc::clone(latencies);
                busy.spawn(async move {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= case.events {
                            return anyhow::Ok(());
                        }
                        append(&store, &items, index, None, &latencies).await?;
                    }
                });
            }
            while let Some(ended) = busy.join_next().await {
                ended??;
            }
        }
        Err(rate) => {
            let (store, items, latencies) = (agent.clone(), Arc::clone(case.items), Arc::clone(latencies));
            let runtime = Handle::current();
            let pace = move || {
                at_rate(case.events, rate, |index, due| {
                    let (store, items) = (store.clone(), Arc::clone(&items));
                    let latencies = Arc::clone(&latencies);
                    runtime.spawn(async move {
                        if let Err(error) = append(&store, &items, index, Some(due), &latencies).await {
                            eprintln!("event {index} was not written: {error}");
                        }
                    });
                });
            };
            tokio::task::spawn_blocking(pace).await?;
        }
    }
    tokio::time::timeout(Duration::from_secs(30), arrivals.all.notified()).await.with_context(|| {
        format!("events stopped arriving: {:?} {:?}", status.status(), controller.status())
    })?;
    let rate = case.events as f64 / began.elapsed().as_secs_f64();
    let told = controller.status();
    ensure!((told.refused, told.unknown, told.malformed) == (0, 0, 0), "{told:?}");
    tasks.shutdown().await;
    Ok(rate)
}

/// What an agent commits when a phone changes: its row, and the event.
async fn append(
    store: &Store<()>,
    items: &Arc<[Box<RawValue>]>,
    index: u64,
    due: Option<Instant>,
    latencies: &Arc<Latencies>,
) -> Result<()> {
    let (items, latencies) = (Arc::clone(items), Arc::clone(latencies));
    let now = SystemClock.now();
    store
        .write(move |tx| {
            let item = &items[index as usize % items.len()];
            tx.prepare_cached(CHANGE_DEVICE)?.execute([(index * 7919 % DEVICES) as i64])?;
            let labels = Labels {
                aggregate_type: "device",
                aggregate_id: "018f4a10-0000-7000-8000-000000000001",
                event_type: "device.changed",
            };
            let number = EVENT_OUTBOX.append(tx, HOST, labels, item, now)?;
            if let Some(due) = due {
                latencies.due(number, due);
            }
            tx.announce(());
            Ok::<_, rusqlite::Error>(())
        })
        .await
        .map_err(Into::into)
}

/// What `work` on so many events returns, and what each took of a processor, µs.
fn costing<T>(events: u64, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let before = processor::seconds()?;
    let result = work()?;
    Ok((result, (processor::seconds()? - before) * 1e6 / events as f64))
}

fn main() -> Result<()> {
    let runtime = runtime()?;
    let scratch = scratch(env!("CARGO_TARGET_TMPDIR"))?;
    let items = events()?;
    let texts: Arc<[String]> = items.iter().map(|item| item.get().to_owned()).collect();
    let mut report = Report::default();
    let (ideal, ideal_p50, ideal_p99) =
        ("ideal outbox: events/s", "ideal outbox: p50 ms", "ideal outbox: p99 ms");
    let ceiling = |name: &str, events, source, latencies: &Arc<Latencies>| {
        let _runtime = runtime.enter();
        outbox::run(scratch.path(), name, &Flow { events, source, texts: Arc::clone(&texts) }, latencies)
    };
    for round in 0..rounds(3) {
        report.add("4 KiB + fdatasync /s", flushes_per_second(scratch.path(), Duration::from_millis(500))?);
        let mut number = 0;
        let mut name = || {
            number += 1;
            format!("{round}-{number}")
        };
        let none = Arc::new(Latencies::new(0));
        let (flood, ideal_us) =
            costing(CEILING_EVENTS, || ceiling(&name(), CEILING_EVENTS, Source::Flood, &none))?;
        report.add(ideal, flood);
        report.add("ideal outbox: µs of processor an event", ideal_us);
        for producers in PRODUCERS {
            let (rate, us) = costing(CEILING_EVENTS, || {
                ceiling(&name(), CEILING_EVENTS, Source::Callers(producers), &none)
            })?;
            let label = format!("ideal outbox that answers {producers} writers");
            report.add_beside(&format!("{label}: events/s"), rate, ideal);
            report.add(&format!("{label}: µs of processor an event"), us);
        }
        for (receiver, label, events) in [
            (Receiver::Upsert, "upsert controller", UPSERT_EVENTS),
            (Receiver::Fleet, "real controller", FLEET_EVENTS),
        ] {
            if std::env::var("ONLY").is_ok_and(|only| !label.starts_with(&only)) {
                continue;
            }
            for producers in PRODUCERS {
                let case = Case { receiver, events, producers: Ok(producers), items: &items };
                let (rate, us) =
                    costing(events, || runtime.block_on(product(scratch.path(), &name(), case, &none)))?;
                report.add_beside(&format!("{label}, {producers} writers: events/s"), rate, ideal);
                report.add_beside(
                    &format!("{label}, {producers} writers: µs of processor an event"),
                    us,
                    &format!("ideal outbox that answers {producers} writers: µs of processor an event"),
                );
            }
        }

        let latencies = Arc::new(Latencies::new(RATE_EVENTS));
        ceiling(&name(), RATE_EVENTS, Source::Rate(RATE), &latencies)?;
        let (p50, p99) = latencies.p50_p99_ms();
        report.add(&format!("at {RATE}/s, {ideal_p50}"), p50);
        report.add(&format!("at {RATE}/s, {ideal_p99}"), p99);
        for (receiver, label) in
            [(Receiver::Upsert, "upsert controller"), (Receiver::Fleet, "real controller")]
        {
            let latencies = Arc::new(Latencies::new(RATE_EVENTS));
            let case = Case { receiver, events: RATE_EVENTS, producers: Err(RATE), items: &items };
            runtime.block_on(product(scratch.path(), &name(), case, &latencies))?;
            let (p50, p99) = latencies.p50_p99_ms();
            report.add_beside(
                &format!("at {RATE}/s, {label}: p50 ms"),
                p50,
                &format!("at {RATE}/s, {ideal_p50}"),
            );
            report.add_beside(
                &format!("at {RATE}/s, {label}: p99 ms"),
                p99,
                &format!("at {RATE}/s, {ideal_p99}"),
            );
        }
    }
    println!("{}", report.table("events from the agent's commit to the controller's"));
    println!("{}", report.verdict("upsert controller, 2048 writers: events/s", TARGET));
    Ok(())
}
