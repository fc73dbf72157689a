//! Recordings: what the controller asks of a host, and what the host knows of them.
//!
//! A recording is a desired object of its own, with the ladder `recording` → `stopped` →
//! `deleted`: it is never started again, so it needs no generation. What arrives after `notAfter` is not
//! begun at all; a host that was away for hours starts nothing late.

use crate::facts::Reason;
use crate::id::{DeviceId, RecordingId};
use crate::spec::FieldFault;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest recording. `screenrecord` refuses more than 180 s before Android 14 (AOSP
/// `screenrecord.cpp`); longer ones need segments.
pub const LONGEST: Duration = Duration::from_secs(180);
/// Bits a second that `screenrecord` takes (AOSP: 0.1 to 200 Mbit/s).
pub const BIT_RATES: std::ops::RangeInclusive<u32> = 100_000..=200_000_000;
/// Used when an order names no bit rate. The tool's own 20 Mbit/s are 9 GB an hour.
pub const DEFAULT_BIT_RATE: u32 = 4_000_000;

/// What a recording shall be. Only ever goes down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingWish {
    /// It runs until its time limit.
    Recording,
    /// It ends now, and what it has is made whole.
    Stopped,
    /// It ends, and nothing is kept of it.
    Deleted,
}

impl RecordingWish {
    /// The name on the wire and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        }
    }

    /// The wish of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Recording, Self::Stopped, Self::Deleted].into_iter().find(|wish| wish.name() == name)
    }
}

/// Width and height of a video in pixels: even, 16 to 7680.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VideoSize {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// How to record. Ranges are those that [`RecordingSpec::faults`] checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingSpec {
    /// Time limit in seconds, 1 to 180.
    pub max_duration_seconds: u32,
    /// Bits a second, 100,000 to 200,000,000.
    pub bit_rate: u32,
    /// Size of the video; `None` is that of the display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<VideoSize>,
}

impl Default for RecordingSpec {
    fn default() -> Self {
        Self { max_duration_seconds: 180, bit_rate: DEFAULT_BIT_RATE, size: None }
    }
}

impl RecordingSpec {
    /// Everything that is wrong with it, empty when it can be recorded.
    pub fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        if !(1..=LONGEST.as_secs()).contains(&u64::from(self.max_duration_seconds)) {
            faults.push(FieldFault::new(
                "/maxDurationSeconds",
                "maxDurationSeconds must be between 1 and 180; start another recording for more",
            ));
        }
        if !BIT_RATES.contains(&self.bit_rate) {
            faults.push(FieldFault::new("/bitRate", "bitRate must be between 100000 and 200000000"));
        }
        let side = |pixels: u32| (16..=7680).contains(&pixels) && pixels.is_multiple_of(2);
        if self.size.is_some_and(|size| !side(size.width) || !side(size.height)) {
            faults.push(FieldFault::new(
                "/size",
                "size must be WIDTHxHEIGHT, both even and between 16 and 7680 pixels",
            ));
        }
        faults
    }

    /// Bytes to expect at most: the bit rate for the whole time, and a quarter more, because
    /// an encoder's rate control overshoots.
    pub fn expected_bytes(&self) -> u64 {
        u64::from(self.bit_rate) * u64::from(self.max_duration_seconds) / 8 * 5 / 4
    }
}

/// The controller's word about one recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredRecording {
    /// Which recording.
    pub recording_id: RecordingId,
    /// Of which device.
    pub device_id: DeviceId,
    /// What it shall be.
    pub wish: RecordingWish,
    /// Not begun after this moment, by the host's clock.
    pub not_after: Timestamp,
    /// How to record.
    pub spec: RecordingSpec,
}

/// Where a recording stands on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingPhase {
    /// On the books; its process may or may not be there yet.
    Starting,
    /// Its process runs.
    Recording,
    /// Its process ends, and its file is fetched and checked.
    Stopping,
    /// The video is whole, and kept.
    Final,
    /// The bytes are kept, and are no whole video; the reason says why.
    Corrupt,
    /// There is no video; the reason says why.
    Failed,
}

impl RecordingPhase {
    /// The name on the wire and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Recording => "recording",
            Self::Stopping => "stopping",
            Self::Final => "final",
            Self::Corrupt => "corrupt",
            Self::Failed => "failed",
        }
    }

    /// The phase of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Starting, Self::Recording, Self::Stopping, Self::Final, Self::Corrupt, Self::Failed]
            .into_iter()
            .find(|phase| phase.name() == name)
    }

    /// Nothing more will happen to it.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Starting | Self::Recording | Self::Stopping => false,
            Self::Final | Self::Corrupt | Self::Failed => true,
        }
    }
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EndCause {
    /// Somebody asked for it.
    Stopped,
    /// Its time was over.
    TimeLimit,
    /// The recorder ended by itself, before its time.
    ProcessEnded,
    /// The phone was asked to stop, reboot, reset, or go.
    DeviceStopped,
    /// The phone died, or its container was killed.
    DeviceDied,
}

impl EndCause {
    /// The name on the wire and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::TimeLimit => "TIME_LIMIT",
            Self::ProcessEnded => "PROCESS_ENDED",
            Self::DeviceStopped => "DEVICE_STOPPED",
            Self::DeviceDied => "DEVICE_DIED",
        }
    }

    /// The cause of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Stopped, Self::TimeLimit, Self::ProcessEnded, Self::DeviceStopped, Self::DeviceDied]
            .into_iter()
            .find(|cause| cause.name() == name)
    }
}

/// One recording as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingFacts {
    /// Which recording.
    pub recording_id: RecordingId,
    /// Of which device.
    pub device_id: DeviceId,
    /// Where it stands.
    pub phase: RecordingPhase,
    /// When its process began, by the host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its process ended, or was found ended, by the host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_cause: Option<EndCause>,
    /// Length of the video in milliseconds, as its own header says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Size of the kept file in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// SHA-256 of the kept file, 64 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why it is CORRUPT or FAILED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// The size that a running recording has reached; travels with the heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingProgress {
    /// Which recording.
    pub recording_id: RecordingId,
    /// Bytes written so far.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_screenrecord_would_refuse_is_refused_by_name() {
        assert_eq!(RecordingSpec::default().faults(), vec![]);
        let size = Some(VideoSize { width: 721, height: 8000 });
        let bad = RecordingSpec { max_duration_seconds: 181, bit_rate: 99_999, size };
        let pointers: Vec<_> = bad.faults().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(pointers, ["/maxDurationSeconds", "/bitRate", "/size"]);
        assert_eq!(RecordingSpec { max_duration_seconds: 0, ..RecordingSpec::default() }.faults().len(), 1);
    }

    #[test]
    fn names_come_back() {
        for wish in ["recording", "stopped", "deleted"] {
            assert_eq!(RecordingWish::from_name(wish).map(RecordingWish::name), Some(wish));
        }
        for phase in ["starting", "recording", "stopping", "final", "corrupt", "failed"] {
            assert_eq!(RecordingPhase::from_name(phase).map(RecordingPhase::name), Some(phase));
        }
        for cause in ["STOPPED", "TIME_LIMIT", "PROCESS_ENDED", "DEVICE_STOPPED", "DEVICE_DIED"] {
            assert_eq!(EndCause::from_name(cause).map(EndCause::name), Some(cause));
            let text = format!("\"{cause}\"");
            assert_eq!(serde_json::from_str::<EndCause>(&text).unwrap().name(), cause);
        }
    }
}
