//! What the agent does with the controller's items: all of it in the transaction that
//! moves the cursor.

use crate::phone::desire;
use crate::recording;
use crate::store::meta::{self, FLEET};
use crate::store::recording::RecordingRow;
use crate::store::{self, Notice, Tx, device};
use phonefleet_link::domain::LogItem;
use phonefleet_link::{Applied, Domain};
use phonefleet_protocol::command::Command;
use phonefleet_protocol::event::Event;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::item::{Decoded, Item, ItemError};
use phonefleet_protocol::limits::ITEM_BYTES;
use phonefleet_protocol::stream::{Admission, Hello, Notice as StreamNotice};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite;
use phonefleet_store::stream_log::{EVENT_OUTBOX, StreamLog};
use serde::Serialize;
use serde_json::value::RawValue;

/// Room for the frame of an inventory item around what it names.
const INVENTORY_FRAME: usize = 256;

/// The agent's side of the conversation with its controller.
pub struct AgentDomain {
    host: HostId,
}

impl AgentDomain {
    /// The domain of one host.
    pub fn new(host: HostId) -> Self {
        Self { host }
    }
}

impl Domain<Notice> for AgentDomain {
    const LOG: StreamLog = EVENT_OUTBOX;

    fn apply(
        &self,
        tx: &mut Tx<'_>,
        _peer: &str,
        item: &RawValue,
        now: Timestamp,
    ) -> Result<Applied, rusqlite::Error> {
        let command = match Command::decode(item) {
            Ok(Decoded::Known(command)) => command,
            Ok(Decoded::Unknown { kind }) => return Ok(Applied::Unknown { kind }),
            Err(error) => {
                let kind = match &error {
                    ItemError::Malformed { kind, .. } => kind.clone(),
                    ItemError::TooLarge { .. } => String::new(),
                };
                return Ok(Applied::Refused { kind, reason: error.to_string() });
            }
        };
        let (kind, done) = match command {
            Command::Desire(desired) => ("device.desire", desire::accept(tx, &desired, now)?),
            Command::SnapshotBegin {} => ("snapshot.begin", Ok(desire::begin_snapshot(tx)?)),
            Command::SnapshotDevices { devices } => {
                let mut faults = Vec::new();
                for desired in &devices {
                    // One bad device must not keep the others from being named.
                    if let Err(fault) = desire::accept(tx, desired, now)? {
                        faults.push(format!("{}: {fault}", desired.device_id));
                    }
                }
                for fault in faults {
                    tracing::error!(fault, "the controller's list names a device that cannot be");
                }
                ("snapshot.devices", Ok(()))
            }
            Command::Record(desired) => ("recording.desire", recording::desire::accept(tx, &desired, now)?),
            Command::SnapshotRecordings { recordings } => {
                for desired in &recordings {
                    if let Err(fault) = recording::desire::accept(tx, desired, now)? {
                        tracing::error!(fault, "the controller's list names a recording that cannot be");
                    }
                }
                ("snapshot.recordings", Ok(()))
            }
            Command::SnapshotEnd {} => ("snapshot.end", desire::end_snapshot(tx, now)?),
        };
        Ok(match done {
            Ok(()) => Applied::Done,
            Err(reason) => Applied::Refused { kind: kind.to_owned(), reason },
        })
    }

    fn snapshot(
        &self,
        tx: &mut Tx<'_>,
        _peer: &str,
        _now: Timestamp,
    ) -> Result<Vec<LogItem>, rusqlite::Error> {
        let mut items = vec![self.item(&Event::InventoryBegin {})?];
        for devices in chunks(device::all(tx)?.iter().map(device::DeviceRow::facts)) {
            items.push(self.item(&Event::InventoryDevices { devices })?);
        }
        for recordings in chunks(store::recording::open(tx)?.iter().map(RecordingRow::facts)) {
            items.push(self.item(&Event::InventoryRecordings { recordings })?);
        }
        items.push(self.item(&Event::InventoryEnd {})?);
        // The epoch has just begun: these are its first items, numbered from 1.
        device::renumber_tombstones(tx, items.len() as u64)?;
        store::recording::renumber_untold(tx, items.len() as u64)?;
        tx.announce(Notice::OutboxGrew);
        Ok(items)
    }

    fn admit(
        &self,
        tx: &mut Tx<'_>,
        _peer: &str,
        hello: &Hello,
        _now: Timestamp,
    ) -> Result<Admission, rusqlite::Error> {
        let refused = |why: String| Ok(Admission::Stranger(why));
        let introduction = &hello.introduction;
        if introduction.host_id != self.host {
            return refused(format!(
                "this is host {}, not {}; two hosts seem to share a topic",
                self.host, introduction.host_id
            ));
        }
        let Some(fleet) = &introduction.fleet_id else {
            return refused("the controller does not tell which fleet it is; upgrade it".to_owned());
        };
        match meta::get(tx, FLEET)? {
            None => {
                meta::set(tx, FLEET, fleet.as_str())?;
                Ok(Admission::Welcome)
            }
            Some(pinned) if pinned == fleet.as_str() => Ok(Admission::Welcome),
            Some(pinned) => refused(format!(
                "host {} belongs to fleet {pinned}, this controller is fleet {fleet}; correct the broker's \
                 address, or give the host an empty state directory",
                self.host
            )),
        }
    }

    fn acknowledged(
        &self,
        tx: &mut Tx<'_>,
        _peer: &str,
        through: u64,
        _now: Timestamp,
    ) -> Result<(), rusqlite::Error> {
        device::drop_tombstones(tx, through)?;
        store::recording::told(tx, through)
    }

    fn notice(&self, peer: &str, notice: &StreamNotice) {
        match notice {
            StreamNotice::Connected(hello) => {
                tracing::info!(peer, software = hello.introduction.software, "connected");
            }
            StreamNotice::Refused(why) => tracing::error!(peer, why, "refused"),
            StreamNotice::Forked { cause, left } => {
                tracing::warn!(peer, ?cause, %left, "the own log forked; sending the inventory");
            }
            StreamNotice::PeerForked { epoch } => {
                tracing::info!(peer, %epoch, "the controller begins a new log");
            }
            StreamNotice::Acknowledged(through) => tracing::trace!(peer, through, "acknowledged"),
        }
    }
}

/// As many of them together as fit into an item.
fn chunks<T: Serialize>(all: impl Iterator<Item = T>) -> Vec<Vec<T>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut size = INVENTORY_FRAME;
    for facts in all {
        let bytes = serde_json::to_vec(&facts).map_or(ITEM_BYTES, |text| text.len() + 1);
        if size + bytes > ITEM_BYTES && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            size = INVENTORY_FRAME;
        }
        size += bytes;
        chunk.push(facts);
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

impl AgentDomain {
    fn item(&self, event: &Event) -> Result<LogItem, rusqlite::Error> {
        let item =
            event.encode().map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(LogItem {
            aggregate_type: "host",
            aggregate_id: self.host.to_string(),
            event_type: event.kind(),
            item,
        })
    }
}
