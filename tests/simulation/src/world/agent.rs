//! One life of an agent on a simulated machine.

use super::daemon::{Gate, Life, follow_disk};
use super::network::Network;
use crate::watch::Watch;
use phonefleet_agent::agent::Agent;
use phonefleet_protocol::host::Capacity;
use phonefleet_protocol::id::{HostId, MachineId};
use phonefleet_protocol::topic::Channel;
use phonefleet_store::Mode;
use phonefleet_tests::simulation::Machine;
use phonefleet_tests::simulation::agent::{self, Surroundings};
use phonefleet_tests::simulation::time::SeededIds;
use std::sync::Arc;

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
    watch: Arc<Watch>,
) {
    let Identity { host, client, machine_id, machine } = identity;
    let crash = life.crash.clone();
    let gate = Gate::new(witness, crash.clone(), watch);
    let mode = Mode::Inline { gate: Some(Arc::new(gate)) };
    // The lock of the one that was killed is gone when its last task is.
    let Ok(store) = phonefleet_agent::store::open(&life.database, mode) else { return };
    let disk = follow_disk(store.store.clone(), life.full);
    let down = Channel::Down.of(&host);
    let (transport, incoming) = network.connect(&client, &[&down]);
    let settings = agent::settings(host, machine_id, 20_000..=20_019, &*ids);
    let report = agent::report(&settings, Capacity { max_devices: Some(6), ..Capacity::default() });
    let surroundings = Surroundings { store, machine, crash, transport, incoming, clock: life.clock, ids };
    let parts = agent::parts(&settings, report, surroundings);
    let (agent, _handle) = Agent::new(settings, parts);
    tokio::select! {
        biased;
        _ = agent.run(std::future::pending()) => {}
        () = disk => {}
    }
}
