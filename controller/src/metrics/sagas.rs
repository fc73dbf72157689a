//! Numbers about sagas: a set for each type, `saga_<type>…`.

use super::{Number, Snapshot, StatusLabel};
use crate::store::SagaEnd;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// How sagas end.
const RESULTS: [&str; 4] = ["completed", "failed", "timeout", "cancelled"];
/// Bounds of saga durations, seconds: from a stop on an idle host to the longest deadline.
const SAGA_SECONDS: [f64; 16] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1200.0, 3600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: String,
}

/// The numbers of one type of saga.
pub(super) struct SagaNumbers {
    ended: Family<StatusLabel, Counter>,
    duration: Histogram,
    retries: Family<StepLabel, Counter>,
    compensations: Family<StepLabel, Counter>,
    in_progress: Number,
    attention: Number,
}

impl SagaNumbers {
    /// Numbers of this type, registered; with a series for each of its steps.
    pub(super) fn new(registry: &mut Registry, saga_type: &str, steps: &[&str]) -> Self {
        let numbers = Self {
            ended: Family::default(),
            duration: Histogram::new(SAGA_SECONDS),
            retries: Family::default(),
            compensations: Family::default(),
            in_progress: Gauge::default(),
            attention: Gauge::default(),
        };
        // Every series is there from the start, so that rates see the first event.
        for status in RESULTS {
            _ = numbers.ended.get_or_create_owned(&StatusLabel { status: status.to_owned() });
        }
        for step in steps {
            let label = StepLabel { step: (*step).to_owned() };
            _ = numbers.retries.get_or_create_owned(&label);
            _ = numbers.compensations.get_or_create_owned(&label);
        }
        let name = format!("saga_{}", saga_type.to_ascii_lowercase());
        registry.register(name.as_str(), "Sagas that ended, by how", numbers.ended.clone());
        registry.register_with_unit(
            format!("{name}_duration"),
            "Time from start to end",
            Unit::Seconds,
            numbers.duration.clone(),
        );
        registry.register(format!("{name}_retries"), "Retries, by step", numbers.retries.clone());
        registry.register(
            format!("{name}_compensate"),
            "Steps that were undone",
            numbers.compensations.clone(),
        );
        registry.register(
            format!("{name}_in_progress"),
            "Sagas that go forward or back",
            numbers.in_progress.clone(),
        );
        registry.register(
            format!("{name}_needs_attention"),
            "Sagas that wait for an operator",
            numbers.attention.clone(),
        );
        numbers
    }
    /// One more has ended.
    pub(super) fn ended(&self, end: &SagaEnd) {
        self.ended.get_or_create(&StatusLabel { status: end.result.to_owned() }).inc();
        self.duration.observe(Duration::from_millis(end.duration_ms).as_secs_f64());
    }

    /// A step was compensated, or else is tried again.
    pub(super) fn again(&self, step: &str, compensated: bool) {
        let family = if compensated { &self.compensations } else { &self.retries };
        family.get_or_create(&StepLabel { step: step.to_owned() }).inc();
    }

    /// Sets what is read from the database.
    pub(super) fn fill(&self, saga_type: &str, snapshot: &Snapshot) {
        let count = |attention: bool| {
            let rows = snapshot
                .sagas
                .iter()
                .filter(|(name, status, _)| name == saga_type && (status == "NEEDS_ATTENTION") == attention);
            rows.map(|(_, _, count)| *count as i64).sum()
        };
        self.in_progress.set(count(false));
        self.attention.set(count(true));
    }
}
