//! Items that travel down, from the controller to one host.

use crate::desired::DesiredDevice;
use crate::item::Item;
use crate::recording::DesiredRecording;
use serde::{Deserialize, Serialize};

/// One item of the stream to a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub enum Command {
    /// What one device shall be.
    #[serde(rename = "device.desire")]
    Desire(DesiredDevice),
    /// What one recording shall be.
    #[serde(rename = "recording.desire")]
    Record(DesiredRecording),
    /// The whole list of desired devices begins; only in a new epoch.
    #[serde(rename = "snapshot.begin")]
    SnapshotBegin {},
    /// A part of the list.
    #[serde(rename = "snapshot.devices")]
    SnapshotDevices {
        /// Some of the host's desired devices.
        devices: Vec<DesiredDevice>,
    },
    /// The recordings that the controller takes for active, and those whose videos were
    /// deleted. One that it does not name goes on to its own end, or is kept for its time.
    #[serde(rename = "snapshot.recordings")]
    SnapshotRecordings {
        /// Some of them.
        recordings: Vec<DesiredRecording>,
    },
    /// The list is complete: what it did not name is no longer asked for, and parked.
    #[serde(rename = "snapshot.end")]
    SnapshotEnd {},
}

impl Item for Command {
    const KINDS: &'static [&'static str] = &[
        "device.desire",
        "recording.desire",
        "snapshot.begin",
        "snapshot.devices",
        "snapshot.recordings",
        "snapshot.end",
    ];
}
