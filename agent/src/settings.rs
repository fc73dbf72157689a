//! What the operator decides, as the parts of the agent take it: [`crate::config`] reads it from
//! the configuration, tests make it up.

use crate::port::PortSettings;
use crate::recording::RecordingSettings;
use crate::runtime::redroid::ContainerSettings;
use phonefleet_link::retention::Retention;
use phonefleet_protocol::id::MachineId;
use std::time::Duration;

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
    /// How long videos are kept, and how much room they leave.
    pub recording: RecordingSettings,
}
