//! What the host knows of a device: its phase, ports, container, and why.

use crate::desired::QuestionId;
use crate::id::DeviceId;
use serde::{Deserialize, Serialize};

/// The two ports of a device on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Published ADB port.
    pub adb: u16,
    /// Port kept for a WebRTC streamer.
    pub webrtc: u16,
}

/// Where a device stands on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing is left of it.
    Absent,
    /// Its ports are leased.
    Reserved,
    /// It has a container that does not run.
    Stopped,
    /// Its container runs; it has not completed its boot.
    Starting,
    /// It has completed its boot and answers.
    Running,
    /// It is being stopped.
    Stopping,
    /// The agent gave up; the reason says why. Container and ports are kept.
    Error,
    /// The host has it and no controller asked for it: kept, and left alone.
    Parked,
}

impl Phase {
    /// The name on the wire and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Reserved => "reserved",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Error => "error",
            Self::Parked => "parked",
        }
    }

    /// The phase of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Absent,
            Self::Reserved,
            Self::Stopped,
            Self::Starting,
            Self::Running,
            Self::Stopping,
            Self::Error,
            Self::Parked,
        ]
        .into_iter()
        .find(|phase| phase.name() == name)
    }
}

/// Why something failed: a stable code for programs, a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Upper-case words such as `BOOT_TIMEOUT`; never changes its meaning.
    pub code: String,
    /// One sentence with the facts, at most [`crate::limits::TEXT_CHARACTERS`].
    pub detail: String,
}

impl Reason {
    /// A reason; the detail is cut to the limit.
    pub fn new(code: &str, detail: impl AsRef<str>) -> Self {
        Self { code: code.to_owned(), detail: crate::limits::shorten(detail.as_ref()) }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.code, self.detail)
    }
}

/// One device as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceFacts {
    /// Which device.
    pub device_id: DeviceId,
    /// The newest generation that the host knows of.
    pub generation: u64,
    /// The attempt of that generation.
    pub attempt: u32,
    /// Which asking of them. In an answer other than `outdated` it is the one that is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<QuestionId>,
    /// Where it stands.
    pub phase: Phase,
    /// Leased ports, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    /// The engine's id of the container, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Why it is where it is, when that is not what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How often the phone was started since it was created.
    #[serde(default)]
    pub starts: u64,
    /// The newest [`crate::desired::DesiredDevice::boot_count`] that the host knows of.
    #[serde(default)]
    pub boot_count: u32,
    /// The newest [`crate::desired::DesiredDevice::data_epoch`] that the host knows of.
    #[serde(default)]
    pub data_epoch: u32,
}
