//! What a broker connection is, seen from a daemon.

use async_trait::async_trait;

/// How hard the broker should try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 1.
    AtLeastOnce,
    /// QoS 1, and kept for later subscribers.
    Retained,
    /// QoS 0.
    AtMostOnce,
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// How hard.
    pub delivery: Delivery,
}

/// What comes from a broker connection, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Connected, and subscribed to everything that was asked for.
    Connected,
    /// The connection is gone, or an attempt to connect failed; another follows by itself.
    Disconnected {
        /// Why, for the log.
        why: String,
    },
    /// A message arrived.
    Message {
        /// On which topic.
        topic: String,
        /// With which content; from outside, never trusted.
        payload: Vec<u8>,
        /// The broker kept it for whoever comes: it may be of any age, and of anybody.
        retained: bool,
    },
}

/// There is no connection. What was to be said is said again after the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not connected to the broker")]
pub struct NotConnected;

/// The sending half of a broker connection. That `publish` returned says nothing about
/// whether the message arrived, or ever will.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Hands a message to the connection; waits while its send queue is full.
    async fn publish(&self, message: Outgoing) -> Result<(), NotConnected>;
}
