//! The actor of one peer (body follows).

mod handle;

use crate::domain::Domain;
use crate::transport::Transport;
pub use handle::{ConversationHandle, ConversationStatus};
use handle::{QUEUE_MESSAGES, Shared};
use phonefleet_protocol::id::IdSource;
use phonefleet_protocol::stream::message::Introduction;
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::time::Clock;
use phonefleet_store::{Store, WriteError};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Who talks with whom.
#[derive(Clone, Debug)]
pub struct ConversationOptions {
    /// The peer: the own log's name, and the inbox's.
    pub peer: String,
    /// The topic that the peer listens to.
    pub send_topic: String,
    /// What hellos say of this end.
    pub introduction: Introduction,
    /// How the own log answers a peer that was restored.
    pub regression: Regression,
}

/// Why a conversation ended before its handles did. The daemon must start again.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The store is closed.
    #[error("the conversation with {peer} ends: the database is closed")]
    Closed {
        /// The peer.
        peer: String,
    },
    /// A commit failed; nobody knows whether it stands.
    #[error("the conversation with {peer} ends: {why}")]
    Unknown {
        /// The peer.
        peer: String,
        /// What the store says.
        why: String,
    },
}

/// The actor of one peer.
pub struct Conversation<N, D> {
    options: ConversationOptions,
    store: Store<N>,
    domain: Arc<D>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
}

impl<N: Send + 'static, D: Domain<N>> Conversation<N, D> {
    /// A conversation that does nothing before [`Self::run`].
    pub fn new(
        options: ConversationOptions,
        store: Store<N>,
        domain: Arc<D>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> (Self, ConversationHandle) {
        let (messages, _queue) = mpsc::channel(QUEUE_MESSAGES);
        let (connection, _) = watch::channel(handle::Connection::default());
        let shared = Arc::new(Shared::default());
        let handle = ConversationHandle { messages, connection, shared };
        (Self { options, store, domain, transport, clock, ids }, handle)
    }

    /// Runs until every handle is dropped, or the store is closed.
    pub async fn run(self) -> Result<(), ConversationError> {
        let _ = (&self.options, &self.store, &self.domain, &self.transport, &self.clock, &self.ids);
        std::future::pending::<()>().await;
        Ok(())
    }
}

/// Applies kept items whose kinds this program knows by now, oldest first. Called once
/// at start, before any conversation runs. Returns how many there were.
pub async fn reapply_known<N: Send + 'static, D: Domain<N>>(
    _store: &Store<N>,
    _domain: &Arc<D>,
    _clock: &Arc<dyn Clock>,
    _kinds: &'static [&'static str],
) -> Result<u64, WriteError<phonefleet_store::rusqlite::Error>> {
    Ok(0)
}
