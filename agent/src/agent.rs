//! The agent as a service: its parts, wired.

use crate::adb::Adb;
use crate::host::Kernel;
use crate::port::PortSettings;
use crate::runtime::Engine;
use crate::runtime::redroid::ContainerSettings;
use crate::store::AgentStore;
use phonefleet_link::retention::Retention;
use phonefleet_link::transport::{Incoming, Transport};
use phonefleet_protocol::host::{Heartbeat, HostReport};
use phonefleet_protocol::id::{IdSource, MachineId};
use phonefleet_protocol::time::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What tells two machines with one host id apart.
    pub machine_id: MachineId,
    /// This run of the agent: a random text drawn at its start; in presence and heartbeats.
    pub instance: String,
    /// Program and version, for hellos.
    pub software: String,
    /// Host id, default image, privilege and bind address of every phone.
    pub container: ContainerSettings,
    /// Images that orders may name beside the default one.
    pub allowed_images: Vec<String>,
    /// Where ports are leased from.
    pub ports: PortSettings,
    /// From the start of a container to a completed boot. Default 120 s.
    pub boot_timeout: Duration,
    /// How long a missing engine, a full disk or the like may hold an answer up.
    pub answer_deadline: Duration,
    /// How long acknowledged events are kept.
    pub retention: Retention,
}

/// Everything that is replaceable, each real or simulated.
pub struct Parts {
    /// The database: [`crate::store::open`].
    pub store: AgentStore,
    /// The container engine.
    pub engine: Arc<dyn Engine>,
    /// Access to phones.
    pub adb: Arc<dyn Adb>,
    /// The machine.
    pub kernel: Arc<dyn Kernel>,
    /// The sending half of the broker connection.
    pub transport: Arc<dyn Transport>,
    /// What comes from the broker; subscribed to the host's `down` topic.
    pub incoming: mpsc::Receiver<Incoming>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub ids: Arc<dyn IdSource>,
    /// The host's description in the first hello; [`AgentHandle::set_report`] replaces it.
    pub report: HostReport,
    /// Processor, memory and disk for a heartbeat. `phones_running` and `outbox_pending`
    /// are filled in by the agent.
    pub heartbeat: Arc<dyn Fn() -> Heartbeat + Send + Sync>,
}

/// Why the agent ended by itself. Whoever runs it starts it again.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The database cannot be used any more.
    #[error("the agent's database: {0}")]
    Store(String),
}

/// The agent as a service.
pub struct Agent {
    settings: Settings,
    parts: Parts,
}

/// A cheap handle to a running agent.
#[derive(Clone)]
pub struct AgentHandle {}

impl Agent {
    /// Wires the parts; nothing happens before [`Self::run`].
    pub fn new(settings: Settings, parts: Parts) -> (Self, AgentHandle) {
        (Self { settings, parts }, AgentHandle {})
    }

    /// Runs until `shutdown` resolves, or the database fails. Dropping the future at any
    /// moment is the same as a crash: nothing is lost.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), AgentError> {
        let _ = (&self.settings, &self.parts.report);
        shutdown.await;
        Ok(())
    }
}
