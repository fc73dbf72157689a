//! Numbers about recordings.

use super::{Fraction, Number, signed};
use crate::status::Snapshot;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActivePhase {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    phase: String,
    cause: String,
}

type Count = Counter<u64>;
type Sum = Counter<f64, AtomicU64>;

/// What is told of recordings.
#[derive(Clone, Default)]
pub struct RecordingNumbers {
    active: Family<ActivePhase, Number>,
    bytes_active: Number,
    longest: Fraction,
    started: Count,
    ended: Family<EndLabel, Count>,
    orphans: Count,
    bytes: Count,
    finalised: Count,
    finalise: Sum,
    video: Sum,
}

impl RecordingNumbers {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("recordings_active", "Recordings that are not over, by phase", self.active.clone());
        registry.register_with_unit(
            "recordings_active",
            "Size that they have reached",
            Unit::Bytes,
            self.bytes_active.clone(),
        );
        registry.register_with_unit(
            "recordings_oldest_age",
            "Age of the oldest recording that is not over",
            Unit::Seconds,
            self.longest.clone(),
        );
        registry.register("recordings_started", "Recorders that began", self.started.clone());
        registry.register(
            "recordings_ended",
            "Recordings that ended, by phase and cause",
            self.ended.clone(),
        );
        registry.register(
            "recordings_orphans",
            "Recorders that no row knew, and that were ended",
            self.orphans.clone(),
        );
        registry.register_with_unit(
            "recordings_collected",
            "Videos that were collected",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register(
            "recordings_finalised",
            "Recorders whose files were looked at",
            self.finalised.clone(),
        );
        registry.register_with_unit(
            "recordings_finalise",
            "From the end of recorders to the end of their recordings, added up",
            Unit::Seconds,
            self.finalise.clone(),
        );
        registry.register_with_unit(
            "recordings_video",
            "Length of the whole videos, added up",
            Unit::Seconds,
            self.video.clone(),
        );
    }

    pub(super) fn fill(&self, snapshot: &Snapshot) {
        for phase in ["starting", "recording", "stopping"] {
            let count = snapshot.recordings.iter().filter(|facts| facts.phase.name() == phase).count();
            self.active.get_or_create(&ActivePhase { phase }).set(count as i64);
        }
        self.bytes_active.set(signed(snapshot.recordings.iter().filter_map(|facts| facts.bytes).sum()));
        let oldest = snapshot.recordings.iter().filter_map(|facts| facts.started_at).min();
        let now = phonefleet_protocol::time::Clock::now(&phonefleet_protocol::time::SystemClock);
        self.longest.set(oldest.map_or(0.0, |started| now.since(started).as_secs_f64()));
        let counts = &snapshot.recording_counts;
        // Counted elsewhere, from the start of the agent on, and only ever upwards.
        let set = |counter: &Count, value: u64| counter.inner().store(value, Ordering::Relaxed);
        set(&self.started, counts.started);
        set(&self.orphans, counts.orphans);
        set(&self.bytes, counts.bytes);
        set(&self.finalised, counts.finalised);
        for ends in &counts.ended {
            let label = EndLabel { phase: ends.phase.clone(), cause: ends.cause.clone() };
            set(&self.ended.get_or_create(&label), ends.count);
        }
        self.finalise.inner().store(counts.finalise_seconds.to_bits(), Ordering::Relaxed);
        self.video.inner().store(counts.video_seconds.to_bits(), Ordering::Relaxed);
    }
}
