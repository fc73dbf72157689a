//! One of everything, with every field given, and with as few as can be.

use phonefleet_protocol::desired::{DesiredDevice, QuestionId, Wish};
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::{DeviceFacts, Phase, Ports, Reason};
use phonefleet_protocol::host::{Capacity, ContentAccess, HostReport};
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::{
    DesiredRecording, EndCause, RecordingFacts, RecordingPhase, RecordingSpec, RecordingWish, VideoSize,
};
use phonefleet_protocol::spec::{DeviceSpec, GpuMode};
use phonefleet_protocol::time::Timestamp;

pub const AT: Timestamp = Timestamp(1_767_225_600_123);

pub const QUESTION: QuestionId = QuestionId(0xfedc_ba98_7654_3210);

pub fn device() -> DeviceId {
    "018f3b2a-0000-7000-8000-000000000001".parse().unwrap()
}

pub fn recording() -> RecordingId {
    "018f3b2a-0000-7000-8000-0000000000aa".parse().unwrap()
}

pub fn reason() -> Reason {
    Reason::new("BOOT_FAILED", "its init ended with 129: \"no\" \u{e9}")
}

pub fn spec() -> DeviceSpec {
    DeviceSpec {
        image: Some("redroid/redroid:14.0.0-latest".to_owned()),
        cpu_cores: 1.5,
        memory_mb: 2048,
        storage_mb: Some(8192),
        width: 720,
        height: 1280,
        dpi: 320,
        fps: 30,
        gpu_mode: GpuMode::Guest,
        boot_args: vec!["androidboot.x=y".to_owned()],
    }
}

pub fn desired(full: bool) -> DesiredDevice {
    DesiredDevice {
        device_id: device(),
        generation: 7,
        attempt: 2,
        question: full.then_some(QUESTION),
        wish: if full { Wish::Running } else { Wish::Absent },
        spec: full.then(spec),
        boot_count: if full { 3 } else { 0 },
        data_epoch: if full { 4 } else { 0 },
    }
}

pub fn desired_recording(full: bool) -> DesiredRecording {
    let size = full.then_some(VideoSize { width: 720, height: 1280 });
    DesiredRecording {
        recording_id: recording(),
        device_id: device(),
        wish: if full { RecordingWish::Recording } else { RecordingWish::Stopped },
        not_after: AT,
        spec: RecordingSpec { size, ..RecordingSpec::default() },
    }
}

pub fn facts(full: bool) -> DeviceFacts {
    DeviceFacts {
        device_id: device(),
        generation: 7,
        attempt: 2,
        question: full.then_some(QUESTION),
        phase: if full { Phase::Error } else { Phase::Absent },
        ports: full.then_some(Ports { adb: 20_001, webrtc: 21_001 }),
        container_id: full.then(|| "0123456789abcdef".to_owned()),
        reason: full.then(reason),
        starts: if full { 5 } else { 0 },
        boot_count: if full { 3 } else { 0 },
        data_epoch: if full { 4 } else { 0 },
    }
}

pub fn recording_facts(full: bool) -> RecordingFacts {
    RecordingFacts {
        recording_id: recording(),
        device_id: device(),
        phase: if full { RecordingPhase::Corrupt } else { RecordingPhase::Starting },
        started_at: full.then_some(AT),
        ended_at: full.then_some(Timestamp(AT.0 + 5000)),
        end_cause: full.then_some(EndCause::TimeLimit),
        duration_ms: full.then_some(4999),
        bytes: full.then_some(123_456),
        sha256: full.then(|| "ab".repeat(32)),
        reason: full.then(reason),
    }
}

pub fn outcomes() -> [(&'static str, Outcome); 3] {
    [
        ("reached", Outcome::Reached),
        ("failed", Outcome::Failed { reason: reason(), retryable: true }),
        ("outdated", Outcome::Outdated),
    ]
}

pub fn report() -> HostReport {
    HostReport {
        capacity: Capacity { max_devices: Some(10), cpu_cores: Some(4.5), memory_mb: Some(8192) },
        image: "redroid/redroid:14.0.0-latest".to_owned(),
        allowed_images: vec!["other/image:1".to_owned()],
        runtime: "docker".to_owned(),
        engine_version: "29.1".to_owned(),
        machine_cpu_cores: 8,
        machine_memory_mb: 16_384,
        address: "192.0.2.1".to_owned(),
        content: ContentAccess {
            directory: "/var/lib/phonefleet/recordings".to_owned(),
            url: Some("http://192.0.2.1:30011".to_owned()),
            key: Some("0f".repeat(32)),
            keep_days: Some(7),
        },
    }
}
