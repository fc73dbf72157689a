//! The real broker connection: rumqttc, made afresh for every connection.
//!
//! ```text
//!   Transport::publish ──▶ request queue (32) ─▶┐
//!                                               ├─ poll task: one rumqttc event loop per connection
//!   Incoming (256) ◀── Connected, Message … ◀───┘   error, hang, panic ─▶ Disconnected, wait, next one
//! ```
//!
//! rumqttc is not trusted to remember. After a reconnect with one and the same event loop
//! it drops accepted messages without a word, keeps a stashed packet id for ever
//! (rumqtt #1056) and takes over what its queue still held. Here nothing outlives a
//! connection, and the stream says again what was not acknowledged. PUBACK only frees
//! the in-flight window: brokers acknowledge what they then drop.
//!
//! Back-pressure: when the daemon does not read, [`Incoming`] fills, the event loop is not
//! polled, the socket fills, and the broker queues or drops for this client. Should that
//! last longer than the broker's patience with pings, it ends the connection, which is
//! made anew. Memory stays bounded all the time.
//!
//! Messages may come before [`Incoming::Connected`]: a broker delivers retained ones
//! before it acknowledges the last of the subscriptions.

mod address;
mod connection;
mod tls;

use crate::transport::{Delivery, Incoming, NotConnected, Outgoing, Transport};
use address::Address;
use async_trait::async_trait;
use connection::Connection;
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Events that may wait for the daemon.
const INCOMING: usize = 256;
/// First wait before the next connection; doubles up to [`BACK_OFF_MOST`].
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
/// Longest wait before the next connection.
const BACK_OFF_MOST: Duration = Duration::from_secs(30);
/// A connection that stood so long was a good one: the next wait is the first again. A
/// broker that accepts and throws out is not besieged.
const STOOD: Duration = Duration::from_secs(2);
/// The least that rumqttc accepts.
const KEEP_ALIVE_LEAST: Duration = Duration::from_secs(5);

/// How to reach a broker.
#[derive(Clone)]
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
    /// Filters to listen to; `Retained` means the same as `AtLeastOnce` here.
    pub subscriptions: Vec<(String, Delivery)>,
    /// What the broker says when this client is gone without a goodbye.
    pub last_will: Option<Outgoing>,
    /// Between two pings, 5 s at least, 10 s advised. A dead broker is found after two.
    pub keep_alive: Duration,
}

impl std::fmt::Debug for MqttOptions {
    /// Without the password: options end up in logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MqttOptions")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("client_id", &self.client_id)
            .field("subscriptions", &self.subscriptions)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}

/// Options that cannot work, and what to change.
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
    /// Too short.
    #[error("the keep-alive of {0:?} is too short; set {KEEP_ALIVE_LEAST:?} or more, and 65535 s at most")]
    KeepAlive(Duration),
    /// A user without password, or the other way round.
    #[error("the broker's user name and password belong together; set both, or neither")]
    HalfLogin,
    /// A certificate without key, or the other way round.
    #[error("the client's certificate and key belong together; set both files, or neither")]
    HalfIdentity,
    /// TLS files without TLS.
    #[error("certificate files are given, but {url:?} has no TLS; write mqtts://, or remove the files")]
    NoTls {
        /// What was given.
        url: String,
    },
    /// A file that cannot be read as PEM.
    #[error("{path} cannot be read as PEM: {why}", path = path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate or key that TLS refuses.
    #[error("{path} cannot be used for TLS: {source}", path = path.display())]
    Tls {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Nothing to verify the broker with.
    #[error("the system has no root certificates; install ca-certificates, or name a CA file")]
    NoRoots,
    /// A build without usable TLS.
    #[error("TLS cannot be set up: {source}")]
    Provider {
        /// What rustls says.
        source: rustls::Error,
    },
}

/// Connects, and again whenever the connection is gone, until the receiver is dropped; then
/// what was handed over before is sent, and the broker is told goodbye, so that the last
/// will stays unsaid. Runs in a task of the current tokio runtime.
///
/// # Errors
/// Options that can never work. That the broker cannot be reached is none: it is told as
/// [`Incoming::Disconnected`] at each attempt.
pub fn connect(options: MqttOptions) -> Result<(Arc<dyn Transport>, mpsc::Receiver<Incoming>), MqttError> {
    let address = Address::parse(&options.url)?;
    if options.keep_alive < KEEP_ALIVE_LEAST || options.keep_alive.as_secs() > u64::from(u16::MAX) {
        return Err(MqttError::KeepAlive(options.keep_alive));
    }
    if options.username.is_some() != options.password.is_some() {
        return Err(MqttError::HalfLogin);
    }
    if address.tls {
        tls::configuration(&options)?;
    } else if options.ca_file.is_some() || options.cert_file.is_some() || options.key_file.is_some() {
        return Err(MqttError::NoTls { url: options.url });
    }
    let (incoming, receiver) = mpsc::channel(INCOMING);
    let (current, client) = watch::channel(None);
    tokio::spawn(keep_connected(options, address, incoming, current));
    Ok((Arc::new(MqttTransport { client }), receiver))
}

/// One connection after another.
async fn keep_connected(
    options: MqttOptions,
    address: Address,
    incoming: mpsc::Sender<Incoming>,
    current: watch::Sender<Option<AsyncClient>>,
) {
    let mut back_off = BACK_OFF_FIRST;
    while !incoming.is_closed() {
        let began = Instant::now();
        let connection = Connection::new(&options, &address, incoming.clone(), current.clone());
        // A task of its own: a panic over what the broker sent ends the connection only.
        let why = match connection {
            Ok(connection) => tokio::spawn(connection.run())
                .await
                .unwrap_or_else(|panic| Some(format!("the MQTT client panicked: {panic}"))),
            Err(error) => Some(error.to_string()),
        };
        current.send_replace(None);
        // No reason: the receiver is gone, and the broker was told goodbye.
        let Some(why) = why else { return };
        if began.elapsed() >= STOOD {
            back_off = BACK_OFF_FIRST;
        }
        let wait = with_jitter(back_off);
        back_off = (back_off * 2).min(BACK_OFF_MOST);
        tracing::warn!(
            url = options.url,
            why,
            wait_ms = wait.as_millis() as u64,
            "no connection to the broker"
        );
        if incoming.send(Incoming::Disconnected { why }).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = incoming.closed() => return,
        }
    }
}

/// Between half and all of `wait`, so that a fleet does not return all at once. The
/// standard library keys its hash maps with fresh random numbers: enough for this.
fn with_jitter(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    wait / 2 + (wait / 2).mul_f64(random as f64 / u64::MAX as f64)
}

fn quality(delivery: Delivery) -> QoS {
    match delivery {
        Delivery::AtLeastOnce | Delivery::Retained => QoS::AtLeastOnce,
        Delivery::AtMostOnce => QoS::AtMostOnce,
    }
}

struct MqttTransport {
    /// That of the connection that stands.
    client: watch::Receiver<Option<AsyncClient>>,
}

#[async_trait]
impl Transport for MqttTransport {
    async fn publish(&self, message: Outgoing) -> Result<(), NotConnected> {
        let client = self.client.borrow().clone().ok_or(NotConnected)?;
        let Outgoing { topic, payload, delivery } = message;
        let retain = delivery == Delivery::Retained;
        // Waits for room in the queue, and fails when the connection ends meanwhile.
        client.publish(topic, quality(delivery), retain, payload).await.map_err(|_| NotConnected)
    }
}
