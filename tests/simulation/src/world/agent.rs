//! One life of an agent on a simulated machine.

use super::daemon::{Gate, Life, follow_disk};
use super::network::Network;
use phonefleet_agent::agent::{Agent, Parts, PortSettings, Settings};
use phonefleet_agent::recording::RecordingSettings;
use phonefleet_agent::runtime::Privilege;
use phonefleet_agent::runtime::redroid::ContainerSettings;
use phonefleet_protocol::host::{Capacity, ContentAccess, Heartbeat, HostReport};
use phonefleet_protocol::id::{HostId, IdSource, MachineId};
use phonefleet_protocol::time::Clock;
use phonefleet_protocol::topic::Channel;
use phonefleet_store::Mode;
use phonefleet_tests::simulation::Machine;
use phonefleet_tests::simulation::adb::SimulatedAdb;
use phonefleet_tests::simulation::engine::SimulatedEngine;
use phonefleet_tests::simulation::kernel::SimulatedKernel;
use phonefleet_tests::simulation::recorder::{SimulatedRecorder, SimulatedVideos};
use phonefleet_tests::simulation::time::SeededIds;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Who the agent is.
#[derive(Clone)]
pub struct Identity {
    /// Its host.
    pub host: HostId,
    /// Its name at the broker.
    pub client: String,
    /// The machine that it is on.
    pub machine_id: MachineId,
    /// That machine.
    pub machine: Machine,
}

/// Runs an agent until it ends by itself, or is dropped.
pub async fn live(
    life: Life,
    identity: Identity,
    network: Network,
    ids: Arc<SeededIds>,
    witness: Arc<dyn Fn() + Send + Sync>,
) {
    let Identity { host, client, machine_id, machine } = identity;
    let crash = life.crash.clone();
    let gate = Gate { witness, crash: crash.clone() };
    let mode = Mode::Inline { gate: Some(Arc::new(gate)) };
    // The lock of the one that was killed is gone when its last task is.
    let Ok(store) = phonefleet_agent::store::open(&life.database, mode) else { return };
    let disk = follow_disk(store.store.clone(), life.full);
    let down = Channel::Down.of(&host);
    let (transport, incoming) = network.connect(&client, &[&down]);
    let instance = format!("{:016x}", ids.random());
    let clock: Arc<dyn Clock> = life.clock;
    let heartbeat = {
        let (clock, machine_id, instance) = (Arc::clone(&clock), machine_id.clone(), instance.clone());
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
    let settings = Settings {
        machine_id,
        instance,
        software: "phonefleet-agent/simulation".to_owned(),
        container: ContainerSettings {
            host,
            default_image: "phonefleet/phonesim:dev".to_owned(),
            privilege: Privilege::None,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        },
        allowed_images: vec!["phonefleet/missing:dev".to_owned()],
        ports: PortSettings { adb: 20000..=20019, webrtc: 21000..=21019, ephemeral: Some(32768..=60999) },
        boot_timeout: Duration::from_secs(30),
        answer_deadline: Duration::from_secs(60),
        retention: phonefleet_link::retention::Retention::default(),
        recording: RecordingSettings::default(),
    };
    let report = HostReport {
        capacity: Capacity { max_devices: Some(6), ..Capacity::default() },
        image: settings.container.default_image.clone(),
        allowed_images: settings.allowed_images.clone(),
        runtime: "simulated".to_owned(),
        engine_version: "simulated".to_owned(),
        machine_cpu_cores: 64,
        machine_memory_mb: 1 << 20,
        address: "127.0.0.1".to_owned(),
        content: ContentAccess::default(),
    };
    let parts = Parts {
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
    };
    let (agent, _handle) = Agent::new(settings, parts);
    tokio::select! {
        biased;
        _ = agent.run(std::future::pending()) => {}
        () = disk => {}
    }
}
