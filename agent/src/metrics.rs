//! Numbers for Prometheus, read when they are asked for: nothing here counts by itself.
//! Those of recordings are in [`recordings`]; histograms and causes about phones are counted
//! where they happen, in [`crate::phone::tally`].

pub mod recordings;

use crate::host::resources::Resources;
use crate::orphan::Kind;
use crate::phone::tally::Tally;
use crate::status::{Part, Status};
use phonefleet_protocol::facts::Phase;
use phonefleet_protocol::time::{Clock, SystemClock};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use recordings::RecordingNumbers;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

/// What a scraper is told of the format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "phonefleet_agent";
const MIB: i64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

type Number = Gauge<i64>;
type Fraction = Gauge<f64, AtomicU64>;

/// Every number of this agent.
pub struct Metrics {
    registry: Registry,
    resources: Arc<Resources>,
    /// One answer at a time: each is filled in and written as one.
    filling: Mutex<()>,
    part_ready: Family<PartLabel, Number>,
    part_since: Family<PartLabel, Fraction>,
    devices: Family<PhaseLabel, Number>,
    reasons: Family<CodeLabel, Number>,
    starts: Number,
    outbox_pending: Number,
    outbox_oldest: Fraction,
    ports_leased: Number,
    ports_quarantined: Number,
    orphans: Family<KindLabel, Number>,
    orphans_removed: Family<KindLabel, Number>,
    databases_set_aside: Number,
    link_open: Number,
    refused: Number,
    ignored: Number,
    recordings: RecordingNumbers,
    cpu: Fraction,
    memory_used: Number,
    memory: Number,
    disk_free: Number,
}

impl Metrics {
    /// Numbers of a machine and of the program that runs on it.
    pub fn new(resources: Arc<Resources>, version: &'static str) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            resources,
            filling: Mutex::default(),
            part_ready: Family::default(),
            part_since: Family::default(),
            devices: Family::default(),
            reasons: Family::default(),
            starts: Number::default(),
            outbox_pending: Number::default(),
            outbox_oldest: Fraction::default(),
            ports_leased: Number::default(),
            ports_quarantined: Number::default(),
            orphans: Family::default(),
            orphans_removed: Family::default(),
            databases_set_aside: Number::default(),
            link_open: Number::default(),
            refused: Number::default(),
            ignored: Number::default(),
            recordings: RecordingNumbers::default(),
            cpu: Fraction::default(),
            memory_used: Number::default(),
            memory: Number::default(),
            disk_free: Number::default(),
        };
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("build", "This program", Info::new([("version", version)]));
        registry.register("part_ready", "Whether a part it depends on is there", metrics.part_ready.clone());
        registry.register_with_unit(
            "part_changed_timestamp",
            "When a part came or went",
            Unit::Seconds,
            metrics.part_since.clone(),
        );
        registry.register("devices", "Devices, by phase", metrics.devices.clone());
        registry.register(
            "devices_with_reason",
            "Devices that are not what was asked for or wait, by reason",
            metrics.reasons.clone(),
        );
        registry.register("device_starts", "Starts of the devices that exist", metrics.starts.clone());
        registry.register(
            "outbox_pending",
            "Events that the controller has not acknowledged",
            metrics.outbox_pending.clone(),
        );
        registry.register_with_unit(
            "outbox_oldest_age",
            "Age of the oldest of them",
            Unit::Seconds,
            metrics.outbox_oldest.clone(),
        );
        registry.register("ports_leased", "Ports of devices", metrics.ports_leased.clone());
        registry.register(
            "ports_quarantined",
            "Ports that something else holds",
            metrics.ports_quarantined.clone(),
        );
        registry.register("orphans", "What belongs to no device, as seen last", metrics.orphans.clone());
        registry.register(
            "orphans_removed",
            "Orphans that were removed since the agent began",
            metrics.orphans_removed.clone(),
        );
        registry.register(
            "databases_set_aside",
            "Times that this host's database was damaged and a new one began",
            metrics.databases_set_aside.clone(),
        );
        registry.register("link_open", "Whether the controller listens", metrics.link_open.clone());
        registry.register("commands_refused", "Commands that became dead letters", metrics.refused.clone());
        metrics.recordings.register(&mut registry);
        registry.register(
            "messages_ignored",
            "Messages from the broker that could not be read or believed, since the agent's start",
            metrics.ignored.clone(),
        );
        registry.register("host_cpu_percent", "Processor use, 0 to 100", metrics.cpu.clone());
        let bytes = |registry: &mut Registry, name: &str, help: &str, gauge: &Number| {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        };
        bytes(&mut registry, "host_memory_used", "Memory in use", &metrics.memory_used);
        bytes(&mut registry, "host_memory", "Memory of the machine", &metrics.memory);
        bytes(&mut registry, "host_disk_free", "Space left for state and data", &metrics.disk_free);
        metrics.registry = registry;
        metrics
    }

    /// The numbers of this moment, as a scraper reads them.
    pub fn text(&self, status: &Status, phones: &Tally) -> String {
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        for part in Part::ALL {
            let label = PartLabel { part: part.name() };
            if let Some(state) = status.parts.get(&part) {
                self.part_ready.get_or_create(&label).set(i64::from(state.ready));
                self.part_since.get_or_create(&label).set(state.since.0 as f64 / 1000.0);
            }
        }
        self.fill_devices(status);
        for kind in Kind::ALL {
            let label = KindLabel { kind: kind.name() };
            self.orphans.get_or_create(&label).set(status.orphans.found(kind) as i64);
            let removed = status.orphans.removed.get(&kind).copied().unwrap_or(0);
            self.orphans_removed.get_or_create(&label).set(signed(removed));
        }
        let link = status.link.clone().unwrap_or_default();
        self.databases_set_aside.set(i64::from(status.databases_set_aside));
        self.link_open.set(i64::from(link.open));
        self.refused.set(signed(link.refused));
        self.ignored.set(signed(link.malformed));
        let sample = self.resources.sample();
        self.cpu.set(sample.cpu_percent);
        self.memory_used.set(signed(sample.memory_used_mb).saturating_mul(MIB));
        self.memory.set(signed(self.resources.memory_mb()).saturating_mul(MIB));
        self.disk_free.set(signed(sample.disk_free_mb).saturating_mul(MIB));
        let mut text = String::new();
        let mut counted = Registry::with_prefix(PREFIX);
        phones.register(&mut counted);
        let written = text::encode_registry(&mut text, &self.registry)
            .and_then(|()| text::encode_registry(&mut text, &counted))
            .and_then(|()| text::encode_eof(&mut text));
        if let Err(error) = written {
            // A String takes everything.
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }

    fn fill_devices(&self, status: &Status) {
        // A database that cannot be read is told by its part. What was seen last stays: zeros
        // would end the very alarms that are due then.
        let Some(snapshot) = &status.snapshot else { return };
        for phase in PHASES {
            let count = snapshot.devices.iter().filter(|device| device.phase == phase).count();
            self.devices.get_or_create(&PhaseLabel { phase: phase.name() }).set(count as i64);
        }
        // Codes are few and from this program, but nothing says which: begin anew.
        self.reasons.clear();
        for device in &snapshot.devices {
            if let Some(reason) = status.waiting.get(&device.device_id).or(device.reason.as_ref()) {
                self.reasons.get_or_create(&CodeLabel { code: reason.code.clone() }).inc();
            }
        }
        self.starts.set(signed(snapshot.devices.iter().map(|device| device.starts).sum()));
        self.outbox_pending.set(signed(snapshot.outbox_pending));
        let age = snapshot.outbox_oldest.map(|oldest| SystemClock.now().since(oldest).as_secs_f64());
        self.outbox_oldest.set(age.unwrap_or(0.0));
        self.ports_leased.set(signed(snapshot.ports_leased));
        self.ports_quarantined.set(signed(snapshot.ports_quarantined));
        self.recordings.fill(snapshot);
    }
}

const PHASES: [Phase; 8] = [
    Phase::Absent,
    Phase::Reserved,
    Phase::Stopped,
    Phase::Starting,
    Phase::Running,
    Phase::Stopping,
    Phase::Error,
    Phase::Parked,
];

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
