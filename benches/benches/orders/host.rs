//! A host that is at once what it is told to be.

use anyhow::Result;
use phonefleet_benches::conversation::{self, converse};
use phonefleet_link::domain::LogItem;
use phonefleet_link::{Applied, ConversationHandle, Domain, MemoryBroker};
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::{DesiredDevice, Wish};
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::facts::{DeviceFacts, Phase, Ports};
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::item::{Decoded, Item};
use phonefleet_protocol::stream::{Admission, Hello, Notice};
use phonefleet_protocol::time::Timestamp;
use phonefleet_protocol::topic::Channel;
use phonefleet_store::migration::Schema;
use phonefleet_store::stream_log::{EVENT_OUTBOX, Labels, StreamLog};
use phonefleet_store::{Migration, Mode, Options, Store, Tx, rusqlite};
use serde_json::value::RawValue;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::task::JoinSet;

static SCHEMA: [Migration; 1] = [Migration {
    number: 1,
    name: "0001_stream",
    sql: include_str!("../../../migrations/agent/0001_stream.sql"),
}];

struct Obedient;

fn answer(desired: &DesiredDevice, now: Timestamp) -> Event {
    let (phase, is_there) = match desired.wish {
        Wish::Absent => (Phase::Absent, false),
        Wish::Reserved => (Phase::Reserved, true),
        Wish::Stopped => (Phase::Stopped, true),
        Wish::Running => (Phase::Running, true),
    };
    let container = matches!(desired.wish, Wish::Stopped | Wish::Running);
    Event::Answer {
        generation: desired.generation,
        attempt: desired.attempt,
        outcome: Outcome::Reached,
        facts: DeviceFacts {
            device_id: desired.device_id,
            generation: desired.generation,
            attempt: desired.attempt,
            question: desired.question,
            phase,
            ports: is_there.then_some(Ports { adb: 20_000, webrtc: 21_000 }),
            // As long as an engine's.
            container_id: container.then(|| "8f0d2a5c6b1e4937".repeat(4)),
            reason: None,
            starts: u64::from(desired.wish == Wish::Running),
            boot_count: desired.boot_count,
            data_epoch: desired.data_epoch,
        },
        at: now,
    }
}

impl Domain<()> for Obedient {
    const LOG: StreamLog = EVENT_OUTBOX;

    fn apply(
        &self,
        tx: &mut Tx<'_, ()>,
        peer: &str,
        item: &RawValue,
        now: Timestamp,
    ) -> rusqlite::Result<Applied> {
        // Snapshots are of devices that are what they shall be.
        if let Ok(Decoded::Known(Command::Desire(desired))) = Command::decode(item) {
            let id = desired.device_id.to_string();
            let labels = Labels { aggregate_type: "device", aggregate_id: &id, event_type: "device.answer" };
            let event = answer(&desired, now)
                .encode()
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            EVENT_OUTBOX.append(tx, peer, labels, &event, now)?;
            tx.announce(());
        }
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

/// Starts it; it runs until the tasks are dropped. Its commits do not wait for the disk,
/// which in a fleet is another machine's.
pub fn start(
    directory: &Path,
    host: HostId,
    tasks: &mut JoinSet<()>,
    broker: &MemoryBroker,
) -> Result<ConversationHandle> {
    let handle: Arc<OnceLock<ConversationHandle>> = Arc::default();
    let speaks = Arc::clone(&handle);
    let options = Options {
        path: directory.join(format!("{host}.db")),
        schema: Schema { component: "agent", migrations: &SCHEMA },
        mode: Mode::Inline { gate: None },
    };
    let store = Store::open(&options, move |_: Vec<()>| {
        if let Some(handle) = speaks.get() {
            handle.log_grew();
        }
    })?;
    let introduction = conversation::introduction(host);
    let conversation = converse(tasks, broker, &store, Obedient, introduction, (Channel::Down, Channel::Up));
    Ok(handle.get_or_init(|| conversation).clone())
}
