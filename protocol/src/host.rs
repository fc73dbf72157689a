//! What a host tells of itself: a report in its hello, heartbeats, presence.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How much a host takes on; `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capacity {
    /// Devices at most.
    pub max_devices: Option<u32>,
    /// Processors that orders may add up to.
    pub cpu_cores: Option<f64>,
    /// Memory in MiB that orders may add up to.
    #[serde(rename = "memoryMB")]
    pub memory_mb: Option<u64>,
}

/// A host's description, sent with every hello.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostReport {
    /// What it takes on.
    pub capacity: Capacity,
    /// Image used when an order names none.
    pub image: String,
    /// Images that orders may name; empty allows the default image only.
    pub allowed_images: Vec<String>,
    /// `docker`, `process` or `simulated`.
    pub runtime: String,
    /// The engine's version, as it tells.
    pub engine_version: String,
    /// Processors of the machine.
    pub machine_cpu_cores: u32,
    /// Memory of the machine in MiB.
    #[serde(rename = "machineMemoryMB")]
    pub machine_memory_mb: u64,
    /// Address at which leased ports are bound.
    pub address: String,
    /// How the videos of this host can be read.
    pub content: ContentAccess,
}

/// How a controller, or its users, get at the videos that a host keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContentAccess {
    /// The folder of the host's videos, for a controller on the same machine. It holds a file
    /// `.phonefleet-host` with the host's id, without which nobody reads there.
    pub directory: String,
    /// Where the agent serves its videos over HTTP; `None` when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The key that signs addresses below that URL, hexadecimal; drawn with the agent's
    /// database, and new with a new database only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Days for which the host keeps a video, from its end; `None`: it does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
}

/// A heartbeat on the telemetry topic, every 10 s. May be lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// When, by the host's clock.
    pub at: Timestamp,
    /// The machine that speaks.
    pub machine_id: crate::id::MachineId,
    /// The running agent: a random number drawn at its start.
    pub instance: String,
    /// Processor use of the machine, 0 to 100.
    pub cpu_percent: f64,
    /// Memory in use, MiB.
    #[serde(rename = "memoryUsedMB")]
    pub memory_used_mb: u64,
    /// Space left where the agent keeps its state and the phones' data, MiB.
    #[serde(rename = "diskFreeMB")]
    pub disk_free_mb: u64,
    /// Phones that run.
    pub phones_running: u32,
    /// Events written and not yet acknowledged.
    pub outbox_pending: u64,
    /// Recorder processes of this host that no row knew, since the agent began.
    #[serde(default)]
    pub orphan_recorders: u64,
    /// How far the running recordings have come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recordings: Vec<crate::recording::RecordingProgress>,
}

/// The retained presence message; the last will says `online: false`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Whether the agent says that it is there. A hint, never proof.
    pub online: bool,
    /// The running agent that says so.
    pub instance: String,
}
