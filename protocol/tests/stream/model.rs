//! The domain of these tests: a map of keys to versions. Each end owns one and tells the other
//! of it, by updates and, in a new epoch, by a snapshot.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What an end knows; a version is unique in a test run.
pub type State = BTreeMap<u8, u64>;

/// Keys in one `snapshot.devices` item: small, so that snapshots span frames.
const SNAPSHOT_CHUNK: usize = 2;

/// One item of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub enum Item {
    #[serde(rename = "snapshot.begin")]
    SnapshotBegin {},
    #[serde(rename = "snapshot.devices")]
    SnapshotDevices { devices: State },
    #[serde(rename = "snapshot.end")]
    SnapshotEnd {},
    /// One key; no version removes it.
    #[serde(rename = "update")]
    Update { key: u8, version: Option<u64> },
}

impl Item {
    pub fn encode(&self) -> Box<RawValue> {
        serde_json::value::to_raw_value(self).expect("plain data")
    }

    pub fn decode(raw: &RawValue) -> Self {
        serde_json::from_str(raw.get()).expect("only items of this model are in the logs")
    }
}

/// The items that tell all of `state`.
pub fn snapshot(state: &State) -> Vec<Item> {
    let entries: Vec<(u8, u64)> = state.iter().map(|(key, version)| (*key, *version)).collect();
    let chunks = entries
        .chunks(SNAPSHOT_CHUNK)
        .map(|chunk| Item::SnapshotDevices { devices: chunk.iter().copied().collect() });
    [Item::SnapshotBegin {}].into_iter().chain(chunks).chain([Item::SnapshotEnd {}]).collect()
}

/// What a receiver believes, built from applied items alone.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub state: State,
    /// Entries of a snapshot that has begun and not ended.
    incoming: Option<State>,
}

impl View {
    pub fn apply(&mut self, item: Item) {
        match item {
            Item::SnapshotBegin {} => self.incoming = Some(State::new()),
            Item::SnapshotDevices { devices } => {
                self.incoming.as_mut().expect("a snapshot begins with its first item").extend(devices);
            }
            Item::SnapshotEnd {} => {
                self.state = self.incoming.take().expect("a snapshot begins with its first item");
            }
            Item::Update { key, version } => set(&mut self.state, key, version),
        }
    }
}

/// Sets or removes a key.
pub fn set(state: &mut State, key: u8, version: Option<u64>) {
    match version {
        Some(version) => state.insert(key, version),
        None => state.remove(&key),
    };
}
