//! An agent on a simulated machine: what it is told, and what stands between it and the world.

use super::adb::SimulatedAdb;
use super::crash::CrashPoint;
use super::engine::SimulatedEngine;
use super::kernel::SimulatedKernel;
use super::machine::Machine;
use super::recorder::{SimulatedRecorder, SimulatedVideos};
use phonefleet_agent::agent::Parts;
use phonefleet_agent::port::PortSettings;
use phonefleet_agent::recording::RecordingSettings;
use phonefleet_agent::runtime::Privilege;
use phonefleet_agent::runtime::redroid::ContainerSettings;
use phonefleet_agent::settings::Settings;
use phonefleet_agent::store::AgentStore;
use phonefleet_link::retention::Retention;
use phonefleet_link::transport::{Incoming, Transport};
use phonefleet_protocol::host::{Capacity, ContentAccess, Heartbeat, HostReport};
use phonefleet_protocol::id::{HostId, IdSource, MachineId};
use phonefleet_protocol::time::Clock;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// An image that orders may name and that no engine has.
pub const MISSING_IMAGE: &str = "phonefleet/missing:dev";

/// What the operator of a simulated host decides: one range of ADB ports, the rest as usual.
pub fn settings(
    host: HostId,
    machine_id: MachineId,
    adb: RangeInclusive<u16>,
    ids: &dyn IdSource,
) -> Settings {
    let first = 21_000.max(adb.end() + 1);
    let webrtc = first..=first + (adb.end() - adb.start());
    Settings {
        machine_id,
        instance: format!("{:016x}", ids.random()),
        software: "phonefleet-agent/test".to_owned(),
        container: ContainerSettings {
            host,
            default_image: "phonefleet/phonesim:dev".to_owned(),
            privilege: Privilege::None,
            bind: Ipv4Addr::LOCALHOST.into(),
        },
        allowed_images: vec![MISSING_IMAGE.to_owned()],
        ports: PortSettings { adb, webrtc, ephemeral: Some(32_768..=60_999) },
        boot_timeout: Duration::from_secs(30),
        answer_deadline: Duration::from_secs(60),
        retention: Retention::default(),
        recording: RecordingSettings::default(),
    }
}

/// The report of a host with such settings, on a machine that is never full.
pub fn report(settings: &Settings, capacity: Capacity) -> HostReport {
    HostReport {
        capacity,
        image: settings.container.default_image.clone(),
        allowed_images: settings.allowed_images.clone(),
        runtime: "simulated".to_owned(),
        engine_version: "simulated".to_owned(),
        machine_cpu_cores: 64,
        machine_memory_mb: 1 << 20,
        address: "127.0.0.1".to_owned(),
        content: ContentAccess::default(),
    }
}

/// What one life of an agent is made of, beside its settings.
pub struct Surroundings {
    /// Its database.
    pub store: AgentStore,
    /// The machine that it is on.
    pub machine: Machine,
    /// What kills it.
    pub crash: CrashPoint,
    /// To and from the broker.
    pub transport: Arc<dyn Transport>,
    /// See [`Parts::incoming`].
    pub incoming: mpsc::Receiver<Incoming>,
    /// Its wall clock.
    pub clock: Arc<dyn Clock>,
    /// Its random numbers.
    pub ids: Arc<dyn IdSource>,
}

/// The parts of an agent, over a simulated machine that has nothing else to do.
pub fn parts(settings: &Settings, report: HostReport, around: Surroundings) -> Parts {
    let Surroundings { store, machine, crash, transport, incoming, clock, ids } = around;
    let (machine_id, instance) = (settings.machine_id.clone(), settings.instance.clone());
    let heartbeat = {
        let clock = Arc::clone(&clock);
        move || Heartbeat {
            at: clock.now(),
            machine_id: machine_id.clone(),
            instance: instance.clone(),
            cpu_percent: 0.0,
            memory_used_mb: 0,
            disk_free_mb: 0,
            phones_running: 0,
            outbox_pending: 0,
            orphan_recorders: 0,
            recordings: Vec::new(),
        }
    };
    Parts {
        store,
        engine: Arc::new(SimulatedEngine::new(machine.clone(), crash.clone())),
        adb: Arc::new(SimulatedAdb::new(machine.clone())),
        recorder: Arc::new(SimulatedRecorder::new(machine.clone(), crash.clone())),
        videos: Arc::new(SimulatedVideos::new(machine.clone(), crash.clone())),
        kernel: Arc::new(SimulatedKernel::new(machine, crash)),
        transport,
        incoming,
        clock,
        ids,
        report,
        heartbeat: Arc::new(heartbeat),
    }
}
