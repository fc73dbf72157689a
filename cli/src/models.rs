//! What this program reads out of the API's answers. Everything may be missing: a controller
//! of another version may know more or less, and what is printed as JSON is its own answer.

use phonefleet_protocol::time::Timestamp;
use serde::Deserialize;

/// A device.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user_id: String,
    /// Where it is.
    pub host_id: String,
    /// What it does.
    pub status: String,
    /// Container image; `None` is its host's.
    pub image: Option<String>,
    /// Processors.
    pub cpu_cores: Option<f64>,
    /// Memory, MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: Option<u64>,
    /// Storage that quota counts, MiB.
    #[serde(rename = "storageMB")]
    pub storage_mb: Option<u64>,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// Density.
    pub dpi: Option<u32>,
    /// Frames a second.
    pub fps: Option<u32>,
    /// How it draws.
    pub gpu_mode: Option<String>,
    /// Leased ports.
    pub ports: Option<Ports>,
    /// Where `adb connect` finds it.
    pub adb_address: Option<String>,
    /// Its container.
    pub container_id: Option<String>,
    /// How often its wish has changed.
    pub generation: Option<u64>,
    /// Its newest saga.
    pub saga_id: Option<String>,
    /// Why it is not what it should be.
    pub reason: Option<Reason>,
    /// Starts since its creation.
    pub starts: Option<u64>,
    /// Accepted.
    pub created_at: Option<Timestamp>,
    /// Last change.
    pub updated_at: Option<Timestamp>,
    /// Gone.
    pub deleted_at: Option<Timestamp>,
}

/// Ports of a device.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// ADB.
    pub adb: u16,
    /// Kept for a WebRTC streamer.
    pub webrtc: u16,
}

/// Why something is as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// For programs.
    pub code: String,
    /// For people.
    pub detail: String,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.detail.is_empty() {
            out.write_str(&self.code)
        } else {
            write!(out, "{}: {}", self.code, self.detail)
        }
    }
}

/// A saga.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Saga {
    /// Its id.
    #[serde(rename = "sagaId")]
    pub id: String,
    /// What it does, such as `DEVICE_CREATION`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it stands.
    pub status: String,
    /// Why it turned round.
    pub cause: Option<String>,
    /// The step that failed.
    pub failed_step: Option<String>,
    /// What it waits for.
    pub wait_reason: Option<String>,
    /// Its step, from 0.
    pub step_index: u32,
    /// Its step.
    pub current_step: String,
    /// Retries of its step.
    pub retry_count: u32,
    /// Its newest error.
    pub error_message: Option<String>,
    /// The device that it is about.
    pub device_id: Option<String>,
    /// Its pause ends.
    pub retry_at: Option<Timestamp>,
    /// Its deadline.
    pub timeout_at: Option<Timestamp>,
    /// Start.
    pub started_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// End.
    pub ended_at: Option<Timestamp>,
}

impl Saga {
    /// Whether nothing follows by itself any more.
    pub fn rests(&self) -> bool {
        self.ended_at.is_some() || !matches!(self.status.as_str(), "RUNNING" | "COMPENSATING")
    }
}

/// A line of a saga's story.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SagaEvent {
    /// Its number, from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub kind: String,
    /// At which step.
    pub step: String,
    /// Why, or with what.
    pub detail: Option<String>,
}

/// A host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Host {
    /// Its id.
    pub id: String,
    /// Whether it was heard lately.
    pub status: String,
    /// Takes no new devices.
    pub cordoned: bool,
    /// What it takes on.
    pub capacity: Capacity,
    /// Devices on it.
    pub devices: u64,
    /// What their orders add up to.
    pub allocated: Allocated,
    /// Its agent.
    pub software: String,
    /// How it runs phones.
    pub runtime: String,
    /// The engine's version.
    pub engine_version: String,
    /// Image of orders that name none.
    pub image: String,
    /// Processors of the machine.
    pub machine_cpu_cores: u32,
    /// Memory of the machine, MiB.
    #[serde(rename = "machineMemoryMB")]
    pub machine_memory_mb: u64,
    /// Where it binds ports.
    pub address: String,
    /// What it last said of itself.
    pub last_heartbeat: Option<Heartbeat>,
    /// When it was last heard.
    pub last_seen_at: Option<Timestamp>,
    /// The machine of a second agent with its id.
    pub conflict_with: Option<String>,
    /// When it was given up.
    pub forgotten_at: Option<Timestamp>,
    /// Devices that only it knows.
    pub strays: Vec<Stray>,
}

/// What a host takes on; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capacity {
    /// Devices.
    pub max_devices: Option<u64>,
    /// Processors.
    pub cpu_cores: Option<f64>,
    /// Memory, MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: Option<u64>,
}

/// What orders add up to.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Allocated {
    /// Processors.
    pub cpu_cores: f64,
    /// Memory, MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
}

/// What a host said of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Heartbeat {
    /// Processor use, 0 to 100.
    pub cpu_percent: f64,
    /// Memory in use, MiB.
    #[serde(rename = "memoryUsedMB")]
    pub memory_used_mb: u64,
    /// Disk left, MiB.
    #[serde(rename = "diskFreeMB")]
    pub disk_free_mb: u64,
    /// Phones that run.
    pub phones_running: u64,
    /// Events that wait for the controller.
    pub outbox_pending: u64,
    /// Recorder processes that no row knew.
    pub orphan_recorders: u64,
}

/// A device that only its host knows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stray {
    /// Its id.
    pub device_id: String,
    /// Where it stands there.
    pub phase: String,
    /// Why.
    pub reason: Option<Reason>,
}

/// A recording.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recording {
    /// Its id.
    #[serde(alias = "recordingId")]
    pub id: String,
    /// Of which device.
    pub device_id: String,
    /// Where it stands.
    pub status: String,
    /// Where it is kept.
    pub host_id: String,
    /// Whose it is.
    pub user_id: String,
    /// When its recorder began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub end_cause: Option<String>,
    /// Length of the video, ms.
    pub duration_ms: Option<u64>,
    /// Size, also while it grows.
    pub bytes: Option<u64>,
    /// SHA-256 of the video, hexadecimal.
    pub sha256: Option<String>,
    /// Why it is not whole.
    pub reason: Option<Reason>,
    /// Its video was deleted.
    pub deleted: bool,
    /// Seconds since its start.
    pub age_seconds: Option<f64>,
}

impl Recording {
    /// Whether nothing follows any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "FINAL" | "CORRUPT" | "FAILED")
    }
}
