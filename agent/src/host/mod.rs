//! The machine: its kernel's ports, its disk, its resources.
//!
//! | module | what lives there |
//! |---|---|
//! | [`kernel`] | the real ports and data directories |
//! | [`process`] | processes known by number and start time |
//! | [`resources`] | processors, memory, disk, for reports and heartbeats |

pub mod kernel;
pub mod process;
pub(crate) mod removal;
pub mod resources;

use async_trait::async_trait;
use phonefleet_protocol::id::DeviceId;
use std::net::IpAddr;
use std::path::PathBuf;

/// The disk or the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {detail}")]
pub struct HostError {
    /// What was tried, with the path or port.
    pub what: String,
    /// What the system said.
    pub detail: String,
}

/// What the agent asks of the machine beside containers.
#[async_trait]
pub trait Kernel: Send + Sync + 'static {
    /// Whether a port can be bound now.
    fn port_is_free(&self, bind: IpAddr, port: u16) -> bool;

    /// Makes the data directory of one data epoch, with the marker that proves whose it
    /// is, and returns it. An existing one with the right marker is kept; one whose
    /// marker names another device is an error.
    async fn prepare_data(&self, device: DeviceId, data_epoch: u32) -> Result<PathBuf, HostError>;

    /// Removes the data of a device: of every epoch below `keep_from`, or all with `None`.
    /// Returns when nothing of it is left.
    async fn remove_data(&self, device: DeviceId, keep_from: Option<u32>) -> Result<(), HostError>;

    /// Devices that have data on this host.
    async fn devices_with_data(&self) -> Result<Vec<DeviceId>, HostError>;
}
