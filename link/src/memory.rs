//! A broker inside the process, for tests and simulations on virtual time.

use crate::transport::{Incoming, Outgoing, Transport};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What becomes of a message at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Arrives once.
    Deliver,
    /// Is lost.
    Drop,
    /// Arrives twice.
    Twice,
    /// Arrives so much later, behind what was sent after it.
    Delay(Duration),
}

/// The broker; a cheap handle.
#[derive(Clone, Default)]
pub struct MemoryBroker {}

impl MemoryBroker {
    /// A broker that loses nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects a client. A filter may have `+` in place of a topic level.
    pub fn connect(
        &self,
        _client_id: &str,
        _subscriptions: &[&str],
        _last_will: Option<Outgoing>,
    ) -> (Arc<dyn Transport>, mpsc::Receiver<Incoming>) {
        unimplemented!()
    }

    /// Cuts a client off: it is told, and its last will is published.
    pub fn cut(&self, _client_id: &str) {}

    /// Lets a client that was cut off connect again.
    pub fn heal(&self, _client_id: &str) {}

    /// Decides the fate of every message from now on.
    pub fn set_fate(&self, _fate: impl FnMut(&Outgoing) -> Fate + Send + 'static) {}

    /// The broker is killed and starts again empty: retained and delayed messages are gone,
    /// every client reconnects.
    pub fn forget(&self) {}
}
