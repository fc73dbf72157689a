//! Items that travel up, from one host to the controller.

use crate::facts::{DeviceFacts, Reason};
use crate::item::Item;
use crate::recording::RecordingFacts;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How a (generation, attempt) ended. Each is answered once, and the same answer
/// is repeated when it is asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Outcome {
    /// The device is what it should be.
    Reached,
    /// It could not be done.
    Failed {
        /// Why.
        reason: Reason,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The host already knows a newer generation: the one in the facts.
    Outdated,
}

/// One item of the stream from a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub enum Event {
    /// The answer to one (generation, attempt).
    #[serde(rename = "device.answer", rename_all = "camelCase")]
    Answer {
        /// The generation that is answered.
        generation: u64,
        /// The attempt that is answered.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// The device as it now is.
        facts: DeviceFacts,
        /// When, by the host's clock.
        at: Timestamp,
    },
    /// A device changed without being asked: it died, was started again, gave up,
    /// or was found and parked.
    #[serde(rename = "device.changed", rename_all = "camelCase")]
    Changed {
        /// The device as it now is.
        facts: DeviceFacts,
        /// When, by the host's clock.
        at: Timestamp,
    },
    /// A recording has come to another phase, or was asked for again.
    #[serde(rename = "recording.changed", rename_all = "camelCase")]
    RecordingChanged {
        /// The recording as it now is.
        facts: RecordingFacts,
        /// When, by the host's clock.
        at: Timestamp,
    },
    /// The host's whole inventory begins; only in a new epoch.
    #[serde(rename = "inventory.begin")]
    InventoryBegin {},
    /// A part of the inventory.
    #[serde(rename = "inventory.devices")]
    InventoryDevices {
        /// Some of the host's devices.
        devices: Vec<DeviceFacts>,
    },
    /// Another part of the inventory: recordings that run, or whose end is not acknowledged.
    #[serde(rename = "inventory.recordings")]
    InventoryRecordings {
        /// Some of the host's recordings.
        recordings: Vec<RecordingFacts>,
    },
    /// The inventory is complete: what it did not name is not on the host.
    #[serde(rename = "inventory.end")]
    InventoryEnd {},
}

impl Event {
    /// The kind as it stands on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "device.answer",
            Self::Changed { .. } => "device.changed",
            Self::RecordingChanged { .. } => "recording.changed",
            Self::InventoryBegin {} => "inventory.begin",
            Self::InventoryDevices { .. } => "inventory.devices",
            Self::InventoryRecordings { .. } => "inventory.recordings",
            Self::InventoryEnd {} => "inventory.end",
        }
    }
}

impl Item for Event {
    const KINDS: &'static [&'static str] = &[
        "device.answer",
        "device.changed",
        "recording.changed",
        "inventory.begin",
        "inventory.devices",
        "inventory.recordings",
        "inventory.end",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Phase;
    use crate::id::DeviceId;
    use crate::item::{Decoded, ItemError};

    #[test]
    fn items_come_back_and_strangers_are_told_apart() {
        let event = Event::Answer {
            generation: 3,
            attempt: 1,
            outcome: Outcome::Failed { reason: Reason::new("BOOT_TIMEOUT", "no boot"), retryable: false },
            facts: DeviceFacts {
                device_id: DeviceId(uuid::Uuid::nil()),
                generation: 3,
                attempt: 1,
                question: None,
                phase: Phase::Error,
                ports: None,
                container_id: None,
                reason: None,
                starts: 0,
                boot_count: 2,
                data_epoch: 1,
            },
            at: Timestamp(0),
        };
        let raw = event.encode().unwrap();
        assert!(raw.get().starts_with(&format!("{{\"kind\":\"{}\"", event.kind())), "{raw}");
        assert_eq!(Event::decode(&raw).unwrap(), Decoded::Known(event));

        let future =
            serde_json::from_str::<Box<serde_json::value::RawValue>>(r#"{"kind":"moon.landed","x":1}"#);
        assert_eq!(Event::decode(&future.unwrap()).unwrap(), Decoded::Unknown { kind: "moon.landed".into() });

        for bad in [r#"{"kind":"device.answer","data":{"generation":-1}}"#, "[]", "null", "{}"] {
            let raw = serde_json::from_str::<Box<serde_json::value::RawValue>>(bad).unwrap();
            assert!(matches!(Event::decode(&raw), Err(ItemError::Malformed { .. })), "{bad}");
        }
    }
}
