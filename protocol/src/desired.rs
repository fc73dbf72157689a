//! Desired objects: never "do X" but "device D, generation G, attempt A, shall be …".

use crate::id::DeviceId;
use crate::spec::DeviceSpec;
use serde::{Deserialize, Serialize};

/// What a device shall be. The order is the ladder that the agent climbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// Nothing is left on the host.
    Absent,
    /// The ports are leased; there is no container and no data.
    Reserved,
    /// A container exists and does not run.
    Stopped,
    /// The phone runs and has completed its boot.
    Running,
}

impl Wish {
    /// The name on the wire and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Reserved => "reserved",
            Self::Stopped => "stopped",
            Self::Running => "running",
        }
    }

    /// The wish of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Absent, Self::Reserved, Self::Stopped, Self::Running]
            .into_iter()
            .find(|wish| wish.name() == name)
    }
}

/// The controller's word about one device. A higher generation replaces a lower
/// one; within a generation a higher attempt asks for a fresh try and answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredDevice {
    /// Which device.
    pub device_id: DeviceId,
    /// Raised by every change of mind; never reused.
    pub generation: u64,
    /// Raised to try the same generation again after a retryable failure.
    pub attempt: u32,
    /// What the device shall be.
    pub wish: Wish,
    /// Everything needed to build it; an absent device needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<DeviceSpec>,
    /// Raised to reboot.
    #[serde(default)]
    pub boot_count: u32,
    /// Raised to reset: the data of an older epoch is removed.
    #[serde(default)]
    pub data_epoch: u32,
}
