//! The real broker connection (body follows).

use crate::transport::{Delivery, Incoming, Outgoing, Transport};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How to reach a broker.
#[derive(Clone, Debug)]
pub struct MqttOptions {
    /// `mqtt://host:port`, or `mqtts://host:port` for TLS. Default ports 1883 and 8883.
    pub url: String,
    /// User name, if the broker asks for one.
    pub username: Option<String>,
    /// Password, with the user name.
    pub password: Option<String>,
    /// PEM certificates to trust instead of the system's; only with `mqtts`.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate chain of this client; together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM private key of this client.
    pub key_file: Option<PathBuf>,
    /// Must differ between the clients of a broker: a second one throws the first out.
    pub client_id: String,
    /// Filters to listen to.
    pub subscriptions: Vec<(String, Delivery)>,
    /// What the broker says when this client is gone without a goodbye.
    pub last_will: Option<Outgoing>,
    /// Between two pings; at least 5 s. A dead broker is found after two of them.
    pub keep_alive: Duration,
}

/// Options that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// Not an address of a broker.
    #[error("{url:?} is not a broker's address: {why}; write mqtt://host:1883 or mqtts://host:8883")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// Connects, and again whenever the connection is gone, until the receiver is dropped.
pub fn connect(options: MqttOptions) -> Result<(Arc<dyn Transport>, mpsc::Receiver<Incoming>), MqttError> {
    Err(MqttError::Url { url: options.url, why: "not yet" })
}
