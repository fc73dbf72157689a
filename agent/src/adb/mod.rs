//! The Android Debug Bridge: a trait, its server under supervision, its client.
//!
//! | module | what lives there |
//! |---|---|
//! | [`server`] | the private `adb` server: started, watched, adopted or ended after a crash |
//! | [`ledger`] | notes the server's process in the database |
//! | [`client`] | speaks the server's socket protocol |
//! | [`boot_ladder`] | which rung of its boot a phone has reached |

pub mod boot_ladder;
pub mod client;
pub mod ledger;
pub mod server;

use async_trait::async_trait;
use std::net::SocketAddr;
use std::time::Duration;

/// Output of a command that provably ended on the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShellOutput {
    /// Standard output, lossily decoded, at most 64 KiB.
    pub stdout: String,
    /// Standard error, the same.
    pub stderr: String,
    /// Exit status from the shell protocol's exit packet.
    pub status: u8,
}

/// What went wrong with a device or the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdbError {
    /// The adb server does not answer; it is being restarted. Retry.
    #[error("the adb server is not available: {0}")]
    Server(String),
    /// The device cannot be reached, or went away in mid-command. Retry.
    #[error("the device is offline: {0}")]
    Offline(String),
    /// The device wants a key that it does not know.
    #[error("the device refuses this host's adb key")]
    Unauthorized,
    /// No answer within the deadline. What the command did is unknown.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Access to phones over ADB.
#[async_trait]
pub trait Adb: Send + Sync + 'static {
    /// Connects, and waits until the device is in the state `device`, for at most `deadline`.
    async fn connect(&self, address: SocketAddr, deadline: Duration) -> Result<(), AdbError>;

    /// Forgets a device; one that is unknown is fine.
    async fn disconnect(&self, address: SocketAddr) -> Result<(), AdbError>;

    /// Runs a shell command and waits for its exit packet: an end of the connection
    /// without one is [`AdbError::Offline`], whatever `adb` would have exited with.
    async fn shell(
        &self,
        address: SocketAddr,
        command: &str,
        deadline: Duration,
    ) -> Result<ShellOutput, AdbError>;

    /// Copies a file of the device into `file`, of which no more than `limit` bytes are
    /// taken. Returns how many; `None` when the device has no such file.
    async fn pull(
        &self,
        address: SocketAddr,
        path: &str,
        file: tokio::fs::File,
        limit: u64,
        deadline: Duration,
    ) -> Result<Option<u64>, AdbError>;
}
