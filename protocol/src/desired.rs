//! Desired objects: never "do X" but "device D, generation G, attempt A, shall be …".

use crate::id::DeviceId;
use crate::spec::DeviceSpec;
use crate::stream::chain::{from_hexadecimal, hexadecimal};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

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

/// Tells one asking of a (generation, attempt) from another of the same numbers. A controller
/// that comes back from a backup counts on from where the backup stood, and so uses numbers
/// again that its host may have answered already, to another wish. JSON: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionId(pub u64);

impl QuestionId {
    /// The id of a question that `told` is said of nowhere else: who asks, when, and what for.
    pub fn of(told: &str) -> Self {
        Self(xxh3_64(told.as_bytes()))
    }

    /// Whether a host that says `heard` was asked `asked`, as far as both can say: an agent
    /// of before there were ids says none, and is believed.
    pub fn is_that(heard: Option<Self>, asked: Option<Self>) -> bool {
        heard.is_none() || heard == asked
    }
}

impl Serialize for QuestionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hexadecimal(self.0))
    }
}

impl<'de> Deserialize<'de> for QuestionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_hexadecimal(deserializer).map(Self)
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
    /// Which asking of this generation and attempt it is; its answer says so too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<QuestionId>,
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
