//! A controller without a mind: says what the test says, and keeps what it hears.

use phonefleet_link::domain::LogItem;
use phonefleet_link::transport::Incoming;
use phonefleet_link::{Applied, Conversation, ConversationHandle, ConversationOptions, Domain, MemoryBroker};
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::DesiredDevice;
use phonefleet_protocol::event::Event;
use phonefleet_protocol::id::{DeviceId, HostId, IdSource, RecordingId};
use phonefleet_protocol::item::{Decoded, Item};
use phonefleet_protocol::recording::DesiredRecording;
use phonefleet_protocol::stream::message::{Introduction, PROTOCOL};
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::stream::{Admission, Hello, Notice};
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_protocol::topic::Channel;
use phonefleet_store::migration::Schema;
use phonefleet_store::stream_log::{COMMAND_OUTBOX, Labels, StreamLog};
use phonefleet_store::{Migration, Mode, Options, Store, Tx, rusqlite};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

const SCHEMA: Schema = Schema {
    component: "scripted",
    migrations: &[Migration {
        number: 1,
        name: "0001_stream.sql",
        sql: include_str!("../../../migrations/controller/0001_stream.sql"),
    }],
};

#[derive(Default)]
struct Heard {
    events: Mutex<Vec<Event>>,
    wishes: Mutex<BTreeMap<DeviceId, DesiredDevice>>,
    recordings: Mutex<BTreeMap<RecordingId, DesiredRecording>>,
}

struct Script {
    heard: Arc<Heard>,
}

impl Domain<()> for Script {
    const LOG: StreamLog = COMMAND_OUTBOX;

    fn apply(
        &self,
        _: &mut Tx<'_, ()>,
        _: &str,
        item: &RawValue,
        _: Timestamp,
    ) -> Result<Applied, rusqlite::Error> {
        let Ok(Decoded::Known(event)) = Event::decode(item) else { panic!("a strange event: {item}") };
        self.heard.events.lock().unwrap().push(event);
        Ok(Applied::Done)
    }

    fn snapshot(&self, _: &mut Tx<'_, ()>, _: &str, _: Timestamp) -> Result<Vec<LogItem>, rusqlite::Error> {
        let devices = self.heard.wishes.lock().unwrap().values().cloned().collect();
        let recordings = self.heard.recordings.lock().unwrap().values().cloned().collect();
        let commands = [
            Command::SnapshotBegin {},
            Command::SnapshotDevices { devices },
            Command::SnapshotRecordings { recordings },
            Command::SnapshotEnd {},
        ];
        Ok(commands
            .iter()
            .map(|command| LogItem {
                aggregate_type: "host",
                aggregate_id: String::new(),
                event_type: "snapshot",
                item: command.encode().unwrap(),
            })
            .collect())
    }

    fn admit(
        &self,
        _: &mut Tx<'_, ()>,
        _: &str,
        _: &Hello,
        _: Timestamp,
    ) -> Result<Admission, rusqlite::Error> {
        Ok(Admission::Welcome)
    }

    fn acknowledged(&self, _: &mut Tx<'_, ()>, _: &str, _: u64, _: Timestamp) -> Result<(), rusqlite::Error> {
        Ok(())
    }

    fn notice(&self, _: &str, _: &Notice) {}
}

pub struct Controller {
    store: Store<()>,
    host: HostId,
    heard: Arc<Heard>,
    handle: ConversationHandle,
    _rooms: JoinSet<()>,
}

impl Controller {
    /// A controller of fleet `fleet` with a database of its own.
    pub fn start(
        directory: &Path,
        fleet: &str,
        host: &HostId,
        broker: &MemoryBroker,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        let path = directory.join(format!("{fleet}-{:x}.db", ids.random()));
        let store = Store::open(&Options { path, schema: SCHEMA, mode: Mode::Inline { gate: None } }, |_| {});
        let store = store.unwrap();
        let heard = Arc::new(Heard::default());
        let (transport, mut incoming) = broker.connect(fleet, &[&Channel::Up.of_all()], None);
        let introduction = Introduction {
            protocol: PROTOCOL,
            capabilities: vec![],
            software: "scripted".into(),
            host_id: host.clone(),
            machine_id: None,
            fleet_id: Some(fleet.parse().unwrap()),
            report: None,
        };
        let options = ConversationOptions {
            peer: host.to_string(),
            send_topic: Channel::Down.of(host),
            introduction,
            regression: Regression::Snapshot,
        };
        let script = Arc::new(Script { heard: Arc::clone(&heard) });
        let (conversation, handle) = Conversation::new(options, store.clone(), script, transport, clock, ids);
        let mut rooms = JoinSet::new();
        rooms.spawn(async move { conversation.run().await.unwrap() });
        let routed = handle.clone();
        rooms.spawn(async move {
            while let Some(message) = incoming.recv().await {
                match message {
                    Incoming::Connected => routed.connected(),
                    Incoming::Disconnected { .. } => routed.disconnected(),
                    Incoming::Message { payload, .. } => routed.message(payload),
                }
            }
        });
        Self { store, host: host.clone(), heard, handle, _rooms: rooms }
    }

    /// Sends a word about a device.
    pub async fn desire(&self, desired: &DesiredDevice) {
        self.heard.wishes.lock().unwrap().insert(desired.device_id, desired.clone());
        self.send(&Command::Desire(desired.clone())).await;
    }

    /// Sends a word about a recording.
    pub async fn record(&self, desired: &DesiredRecording) {
        self.heard.recordings.lock().unwrap().insert(desired.recording_id, desired.clone());
        self.send(&Command::Record(desired.clone())).await;
    }

    pub async fn send(&self, command: &Command) {
        let (item, host) = (command.encode().unwrap(), self.host.clone());
        let labels = Labels { aggregate_type: "device", aggregate_id: "", event_type: "command" };
        let write =
            move |tx: &mut Tx<'_, ()>| COMMAND_OUTBOX.append(tx, host.as_str(), labels, &item, Timestamp(0));
        while self.store.write(write.clone()).await.is_err() {
            // Its conversation has not begun the log yet.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        self.handle.log_grew();
    }

    pub fn events(&self) -> Vec<Event> {
        self.heard.events.lock().unwrap().clone()
    }
}
