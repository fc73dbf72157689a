//! The container engine: a trait, and who implements it.
//!
//! | module | what lives there |
//! |---|---|
//! | `docker` | the real engine, through its API |
//! | `process` | phones as processes, without an engine |
//! | `redroid` | builds the container spec of a phone from its device spec |
//!
//! The reconciler knows this trait only; a simulated engine stands behind it in the fleet
//! in memory. Every list and every removal is bounded to containers that carry the own
//! host's label; of others, only the ports that they publish are seen.

pub mod docker;
pub mod process;
pub mod redroid;

use async_trait::async_trait;
use phonefleet_protocol::id::{DeviceId, HostId};
use phonefleet_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Label that names the host a container belongs to.
pub const LABEL_HOST: &str = "phonefleet.host";
/// Label that names the device.
pub const LABEL_DEVICE: &str = "phonefleet.device";
/// Label with the generation that the container was created for.
pub const LABEL_GENERATION: &str = "phonefleet.generation";
/// Label with the hash of what the container was built from.
pub const LABEL_SPEC_HASH: &str = "phonefleet.spec-hash";

/// What went wrong at the engine, by what the caller may do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine does not answer, answered 5xx of its own, or a deadline passed. Whether
    /// the work was done is unknown: look, then retry.
    #[error("the container engine is not available: {0}")]
    Unavailable(String),
    /// The image is not on this host. Retrying is useless until somebody brings it.
    #[error("image {0} is not on this host; pull or build it, or correct `[runtime] image`")]
    ImageMissing(String),
    /// The name is taken by a container: adopt it, or park it.
    #[error("a container named {0} exists already")]
    NameTaken(String),
    /// A published port is held by something else: quarantine it and lease another.
    #[error("port {port} is held by something else: {detail}")]
    PortTaken {
        /// The port, 0 when the engine did not say which.
        port: u16,
        /// The engine's words.
        detail: String,
    },
    /// The engine refuses to do this with this spec; the same again will fail again.
    #[error("the container engine refused: {0}")]
    Refused(String),
    /// There is no such container.
    #[error("container {0} does not exist")]
    NotFound(String),
}

/// Everything needed to create one phone's container. Built by `redroid`.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    /// Container name and hostname; from the device id alone.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// Arguments of `/init`.
    pub command: Vec<String>,
    /// Labels, among them the four of this module.
    pub labels: BTreeMap<String, String>,
    /// Memory limit in bytes; swap gets the same, so that none is used.
    pub memory_bytes: u64,
    /// Processor limit in billionths of a core.
    pub nano_cpus: u64,
    /// Threads and processes at most.
    pub pids_limit: i64,
    /// `/dev/shm` in bytes.
    pub shm_bytes: u64,
    /// Open files, soft and hard.
    pub open_files: (u64, u64),
    /// Where the ADB port is published.
    pub bind: IpAddr,
    /// Published port of the container's 5555/tcp.
    pub adb_port: u16,
    /// Host directory that becomes `/data`.
    pub data_dir: PathBuf,
    /// How much power the container gets.
    pub privilege: Privilege,
}

/// How much power a container gets (`[runtime] privilege`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// What Redroid needs.
    #[default]
    Privileged,
    /// All capabilities but SYS_BOOT, no seccomp or AppArmor profile.
    Reduced,
    /// The engine's defaults: for stand-ins.
    None,
}

/// Whether a container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Created and never started, or refused to start.
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Exited {
        /// Its exit code: 129 reboot or init fatal, 130 power-off, 137 killed.
        code: i64,
        /// Killed for using more memory than its limit.
        out_of_memory: bool,
    },
    /// Being removed, dead, or anything else that is neither running nor startable.
    Dead,
}

/// A container as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs.
    pub state: ContainerState,
}

impl Container {
    /// The device that the label names.
    pub fn device(&self) -> Option<DeviceId> {
        self.labels.get(LABEL_DEVICE)?.parse().ok()
    }

    /// The generation that the label names.
    pub fn generation(&self) -> Option<u64> {
        self.labels.get(LABEL_GENERATION)?.parse().ok()
    }
}

/// A port that a container, whoever's, publishes on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    /// The port.
    pub port: u16,
    /// The container's name.
    pub container: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl PublishedPort {
    /// The device that the container's label names.
    pub fn device(&self) -> Option<DeviceId> {
        self.labels.get(LABEL_DEVICE)?.parse().ok()
    }
}

/// Something happened to a container of this host. Only a hint to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// A container with this host's label and a device label changed.
    Container(DeviceId),
    /// Events may have been missed: look at everything.
    Resync,
}

/// What the engine tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Version text.
    pub version: String,
    /// Processors it can give; 0 when unknown.
    pub cpus: u32,
    /// Memory it can give, in bytes; 0 when unknown.
    pub memory_bytes: u64,
}

/// A container engine. Every call has a deadline of its own inside; none hangs for ever.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Asks the engine who it is; also the test whether it answers.
    async fn info(&self) -> Result<EngineInfo, EngineError>;

    /// Creates a container and returns its id.
    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError>;

    /// Starts a container; one that runs already is fine.
    async fn start(&self, id: &str) -> Result<(), EngineError>;

    /// Kills a container's init; one that does not run is fine.
    async fn kill(&self, id: &str) -> Result<(), EngineError>;

    /// Removes a container, running or not; one that is gone is fine.
    async fn remove(&self, id: &str) -> Result<(), EngineError>;

    /// The container of that id or name.
    async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError>;

    /// Every container that carries the host's label, in any state.
    async fn list(&self, host: &HostId) -> Result<Vec<Container>, EngineError>;

    /// Ports that running containers publish, also those of strangers; nothing else of
    /// theirs is looked at. An engine that cannot tell has none.
    async fn published(&self) -> Result<Vec<PublishedPort>, EngineError> {
        Ok(Vec::new())
    }

    /// Events of the host's containers from `since` on. Ends when the engine goes away;
    /// the caller then lists everything and watches again.
    async fn watch(
        &self,
        host: &HostId,
        since: Timestamp,
    ) -> Result<mpsc::Receiver<EngineEvent>, EngineError>;
}
