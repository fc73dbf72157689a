//! The agent's kernel trait over a simulated machine.

use super::CrashPoint;
use super::machine::Machine;
use async_trait::async_trait;
use phonefleet_agent::host::{HostError, Kernel};
use phonefleet_protocol::id::DeviceId;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One agent's access to the machine's ports and disk.
#[derive(Clone, Debug)]
pub struct SimulatedKernel {
    machine: Machine,
    crash: CrashPoint,
}

impl SimulatedKernel {
    /// Access for an agent that dies at `crash`.
    pub fn new(machine: Machine, crash: CrashPoint) -> Self {
        Self { machine, crash }
    }
}

#[async_trait]
impl Kernel for SimulatedKernel {
    fn port_is_free(&self, _: IpAddr, port: u16) -> bool {
        let state = self.machine.lock();
        !state.strangers.contains(&port) && !state.bound_ports().contains(&port)
    }

    async fn prepare_data(&self, device: DeviceId, data_epoch: u32) -> Result<PathBuf, HostError> {
        self.machine.lock().data.insert((device, data_epoch));
        self.crash.after_effect().await;
        Ok(PathBuf::from(format!("/simulated/{device}/data-{data_epoch}")))
    }

    async fn remove_data(&self, device: DeviceId, keep_from: Option<u32>) -> Result<(), HostError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.machine
            .lock()
            .data
            .retain(|(owner, epoch)| *owner != device || keep_from.is_some_and(|from| *epoch >= from));
        self.crash.after_effect().await;
        Ok(())
    }

    async fn devices_with_data(&self) -> Result<Vec<DeviceId>, HostError> {
        let devices: BTreeSet<DeviceId> =
            self.machine.lock().data.iter().map(|(device, _)| *device).collect();
        Ok(devices.into_iter().collect())
    }
}
