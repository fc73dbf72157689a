//! Numbers for Prometheus.
//!
//! Counters and histograms follow the notices of commits, so that nothing is counted that
//! does not stand. Gauges are read from the database when they are asked for. Those of sagas
//! and recordings are in files of their own.

mod recordings;
mod sagas;

use crate::fleet::presence::HostStatus;
use crate::fleet::router::Refusals;
use crate::saga::REGISTRY;
use crate::store::device::Status;
use crate::store::{Notice, recording};
use axum::http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use recordings::RecordingNumbers;
use sagas::SagaNumbers;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Bounds of call durations, seconds: the aim is 0.01 for an order.
const CALL_SECONDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

type Number = Gauge<i64>;

/// What is read from the database for one answer.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Living devices by status.
    pub devices: Vec<(String, u64)>,
    /// Unfinished sagas by type and status.
    pub sagas: Vec<(String, String, u64)>,
    /// Commands that hosts have not acknowledged.
    pub commands_pending: u64,
    /// Age of the oldest of them.
    pub oldest_command: Duration,
    /// Items of hosts that were refused.
    pub dead_letters: u64,
    /// Items of hosts from the future.
    pub unknown_items: u64,
    /// Logs of hosts that began anew.
    pub logs_begun_anew: u64,
    /// Whether there is a connection to the broker.
    pub link_up: bool,
    /// Messages from the broker that changed nothing.
    pub refusals: Refusals,
    /// Hosts by status; see [`Self::count_host`].
    pub hosts: BTreeMap<&'static str, u64>,
    /// Numbers over all recordings.
    pub recordings: recording::Summary,
}

impl Snapshot {
    /// Counts one more host of this status.
    pub fn count_host(&mut self, status: HostStatus) {
        *self.hosts.entry(host_status(status)).or_default() += 1;
    }
}

const HOST_STATUSES: [HostStatus; 4] =
    [HostStatus::Online, HostStatus::Unreachable, HostStatus::Lost, HostStatus::Conflict];

fn host_status(status: HostStatus) -> &'static str {
    match status {
        HostStatus::Online => "ONLINE",
        HostStatus::Unreachable => "UNREACHABLE",
        HostStatus::Lost => "LOST",
        HostStatus::Conflict => "CONFLICT",
    }
}

/// Every number of this daemon.
pub struct Metrics {
    registry: Registry,
    sagas: BTreeMap<&'static str, SagaNumbers>,
    devices: Family<StatusLabel, Number>,
    hosts: Family<StatusLabel, Number>,
    commands_pending: Number,
    oldest_command: Gauge<f64, AtomicU64>,
    dead_letters: Number,
    unknown_items: Number,
    logs_begun_anew: Number,
    messages_ignored: Number,
    messages_dropped: Number,
    hellos_refused: Number,
    link_up: Number,
    recordings: RecordingNumbers,
    calls: Family<CallLabel, Counter>,
    call_time: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let sagas = REGISTRY
            .0
            .iter()
            .map(|definition| {
                let steps: Vec<_> = definition.steps.iter().map(|step| step.name).collect();
                (definition.saga_type, SagaNumbers::new(&mut registry, definition.saga_type, &steps))
            })
            .collect();
        let recordings = RecordingNumbers::new(&mut registry);
        let own = registry.sub_registry_with_prefix("phonefleet_controller");
        let metrics = Self {
            registry: Registry::default(),
            sagas,
            devices: Family::default(),
            hosts: Family::default(),
            commands_pending: Gauge::default(),
            oldest_command: Gauge::default(),
            dead_letters: Gauge::default(),
            unknown_items: Gauge::default(),
            logs_begun_anew: Gauge::default(),
            messages_ignored: Gauge::default(),
            messages_dropped: Gauge::default(),
            hellos_refused: Gauge::default(),
            link_up: Gauge::default(),
            recordings,
            calls: Family::default(),
            call_time: Histogram::new(CALL_SECONDS),
        };
        let version = VersionLabel { version: env!("CARGO_PKG_VERSION") };
        own.register("build", "This program", Info::new(version));
        own.register("devices", "Devices that exist, by status", metrics.devices.clone());
        own.register("hosts", "Registered hosts, by status", metrics.hosts.clone());
        own.register(
            "commands_pending",
            "Commands that hosts have not acknowledged",
            metrics.commands_pending.clone(),
        );
        own.register_with_unit(
            "oldest_command_age",
            "Age of the oldest such command",
            Unit::Seconds,
            metrics.oldest_command.clone(),
        );
        own.register("dead_letters", "Refused items of hosts that are kept", metrics.dead_letters.clone());
        own.register(
            "unknown_items",
            "Items of hosts of kinds from the future that are kept",
            metrics.unknown_items.clone(),
        );
        own.register(
            "logs_begun_anew",
            "Logs of hosts that were lost or restored and began anew with the host's inventory",
            metrics.logs_begun_anew.clone(),
        );
        own.register(
            "messages_ignored",
            "Messages from the broker that were nothing for this controller, since its start",
            metrics.messages_ignored.clone(),
        );
        own.register(
            "messages_dropped",
            "Messages of hosts that came faster than they could be taken in, since the start",
            metrics.messages_dropped.clone(),
        );
        own.register(
            "hellos_refused",
            "Hellos of agents that may not speak, or not now, since the start",
            metrics.hellos_refused.clone(),
        );
        own.register("link_up", "Whether there is a connection to the broker", metrics.link_up.clone());
        own.register("http_requests", "Calls of the API", metrics.calls.clone());
        own.register_with_unit(
            "http_request_duration",
            "Time from a call's head to its answer",
            Unit::Seconds,
            metrics.call_time.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts what a commit announced.
    pub fn on_notice(&self, notice: &Notice) {
        match notice {
            Notice::SagaEnded(end) => {
                if let Some(numbers) = self.sagas.get(end.saga_type.as_str()) {
                    numbers.ended(end);
                }
            }
            Notice::SagaStep { saga_type, step, compensated } => {
                if let Some(numbers) = self.sagas.get(saga_type) {
                    numbers.again(step, *compensated);
                }
            }
            Notice::RecordingEnded(end) => self.recordings.ended(end),
            Notice::Commands(_)
            | Notice::SagaRunnable(_)
            | Notice::SagaDue(_)
            | Notice::EventApplied { .. } => {}
        }
    }

    /// Counts a call. `route` is the pattern of the path, never the path itself.
    pub fn called(&self, method: &Method, route: String, status: StatusCode, took: Duration) {
        let known = [Method::GET, Method::POST, Method::PUT, Method::DELETE].contains(method);
        let method = if known { method.as_str() } else { "OTHER" };
        self.calls
            .get_or_create(&CallLabel { method: method.to_owned(), route, status: status.as_u16() })
            .inc();
        self.call_time.observe(took.as_secs_f64());
    }

    /// Everything as OpenMetrics text.
    pub fn render(&self, snapshot: &Snapshot) -> Result<String, std::fmt::Error> {
        for status in Status::ALL.iter().filter(|status| **status != Status::Deleted) {
            let count = snapshot.devices.iter().find(|(name, _)| name == status.name());
            set(&self.devices, status.name(), count.map_or(0, |(_, count)| *count));
        }
        for status in HOST_STATUSES.map(host_status) {
            set(&self.hosts, status, snapshot.hosts.get(status).copied().unwrap_or(0));
        }
        for (saga_type, numbers) in &self.sagas {
            numbers.fill(saga_type, snapshot);
        }
        self.commands_pending.set(snapshot.commands_pending as i64);
        self.oldest_command.set(snapshot.oldest_command.as_secs_f64());
        self.dead_letters.set(snapshot.dead_letters as i64);
        self.unknown_items.set(snapshot.unknown_items as i64);
        self.logs_begun_anew.set(snapshot.logs_begun_anew as i64);
        self.messages_ignored.set(snapshot.refusals.ignored as i64);
        self.messages_dropped.set(snapshot.refusals.dropped as i64);
        self.hellos_refused.set(snapshot.refusals.unwelcome as i64);
        self.recordings.fill(&snapshot.recordings);
        self.link_up.set(i64::from(snapshot.link_up));
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn set(family: &Family<StatusLabel, Number>, status: &str, count: u64) {
    family.get_or_create(&StatusLabel { status: status.to_owned() }).set(count as i64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{RecordingEnd, SagaEnd};

    #[test]
    fn notices_become_numbers() {
        let metrics = Metrics::default();
        let end = SagaEnd { saga_type: "DEVICE_CREATION".into(), result: "timeout", duration_ms: 1500 };
        metrics.on_notice(&Notice::SagaEnded(Box::new(end)));
        metrics.on_notice(&Notice::SagaStep {
            saga_type: "DEVICE_CREATION",
            step: "START_DEVICE",
            compensated: false,
        });
        let mut snapshot =
            Snapshot { devices: vec![("RUNNING".into(), 3)], link_up: true, ..Snapshot::default() };
        snapshot.sagas = vec![
            ("DEVICE_CREATION".into(), "RUNNING".into(), 2),
            ("DEVICE_CREATION".into(), "COMPENSATING".into(), 1),
            ("DEVICE_CREATION".into(), "NEEDS_ATTENTION".into(), 4),
        ];
        snapshot.count_host(HostStatus::Lost);
        snapshot.recordings.active = 2;
        let end = RecordingEnd { status: "FINAL", cause: "STOPPED", duration_ms: Some(2_000) };
        metrics.on_notice(&Notice::RecordingEnded(end));
        let text = metrics.render(&snapshot).unwrap();
        for line in [
            "saga_device_creation_total{status=\"timeout\"} 1",
            "saga_device_creation_total{status=\"completed\"} 0",
            "saga_device_creation_duration_seconds_sum 1.5",
            "saga_device_creation_retries_total{step=\"START_DEVICE\"} 1",
            "saga_device_creation_compensate_total{step=\"ALLOCATE_PORTS\"} 0",
            "saga_device_creation_in_progress 3",
            "saga_device_creation_needs_attention 4",
            "saga_device_deletion_total{status=\"completed\"} 0",
            "phonefleet_controller_devices{status=\"RUNNING\"} 3",
            "phonefleet_controller_hosts{status=\"LOST\"} 1",
            "phonefleet_controller_link_up 1",
            "recordings_active 2",
            "recordings_orphans 0",
            "recordings_ended_total{status=\"FINAL\",cause=\"STOPPED\"} 1",
            "recordings_duration_seconds_sum 2.0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
