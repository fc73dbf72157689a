//! Numbers about recordings.

use super::Number;
use crate::store::RecordingEnd;
use crate::store::recording::Summary;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// Bounds of video lengths, seconds: up to the longest recording.
const RECORDING_SECONDS: [f64; 9] = [1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 170.0, 180.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    status: &'static str,
    cause: &'static str,
}

/// The numbers of recordings.
pub(super) struct RecordingNumbers {
    active: Number,
    orphans: Number,
    ended: Family<EndLabel, Counter>,
    duration: Histogram,
}

impl RecordingNumbers {
    /// The numbers, registered.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let numbers = Self {
            active: Gauge::default(),
            orphans: Gauge::default(),
            ended: Family::default(),
            duration: Histogram::new(RECORDING_SECONDS),
        };
        // Every usual series is there from the start, so that rates see the first event.
        for (status, cause) in [("FINAL", "STOPPED"), ("FINAL", "TIME_LIMIT"), ("FAILED", "NONE")] {
            _ = numbers.ended.get_or_create_owned(&EndLabel { status, cause });
        }
        registry.register("recordings_active", "Recordings that have not ended", numbers.active.clone());
        registry.register(
            "recordings_orphans",
            "Recorder processes that hosts found without a row and ended, since their agents began",
            numbers.orphans.clone(),
        );
        registry.register("recordings_ended", "Recordings that ended, by how and why", numbers.ended.clone());
        registry.register_with_unit(
            "recordings_duration",
            "Length of whole videos",
            Unit::Seconds,
            numbers.duration.clone(),
        );
        numbers
    }

    /// One more has ended.
    pub(super) fn ended(&self, end: &RecordingEnd) {
        self.ended.get_or_create(&EndLabel { status: end.status, cause: end.cause }).inc();
        if let Some(millis) = end.duration_ms {
            self.duration.observe(Duration::from_millis(millis).as_secs_f64());
        }
    }
    /// Sets what is read from the database.
    pub(super) fn fill(&self, summary: &Summary) {
        self.active.set(summary.active as i64);
        self.orphans.set(summary.orphans as i64);
    }
}
