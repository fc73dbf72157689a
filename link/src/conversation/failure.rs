//! What a conversation does when the database fails.

use super::{Conversation, Domain};
use phonefleet_store::{ReadError, Tx, WriteError, rusqlite};
use std::time::Duration;
use tokio::time::timeout;

/// First wait after the database failed; doubles up to [`BACK_OFF_MOST`].
pub(super) const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
/// Longest wait after the database failed.
const BACK_OFF_MOST: Duration = Duration::from_secs(5);

pub(super) type Failure = WriteError<rusqlite::Error>;

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
    #[error("the conversation with {peer} ends: a commit failed and its outcome is unknown: {why}")]
    Unknown {
        /// The peer.
        peer: String,
        /// What the store says.
        why: String,
    },
}

impl<N: Send + 'static, D: Domain<N>> Conversation<N, D> {
    /// After a failed write: nothing of it stands, so the endpoint is still right. Waits a
    /// little, or ends when the store has.
    pub(super) async fn stumble(&mut self, failure: Failure) -> Result<(), ConversationError> {
        let peer = || self.peer.to_string();
        match failure {
            WriteError::Closed => Err(ConversationError::Closed { peer: peer() }),
            WriteError::Unknown(why) => Err(ConversationError::Unknown { peer: peer(), why }),
            passing => {
                self.pause(&passing.to_string()).await;
                Ok(())
            }
        }
    }

    pub(super) async fn stumble_reading(&mut self, error: ReadError) -> Result<(), ConversationError> {
        self.pause(&error.to_string()).await;
        if matches!(error, ReadError::Closed) {
            // Closed, or the job panicked: the writer knows which.
            let probe = self.store.write(|_: &mut Tx<'_, N>| Ok(())).await;
            if let Err(failure) = probe {
                return self.stumble(failure).await;
            }
        }
        Ok(())
    }

    /// Waits before the database is asked again; less when nobody holds a handle any more.
    async fn pause(&mut self, why: &str) {
        tracing::warn!(
            peer = %self.peer,
            why,
            wait_ms = self.back_off.as_millis() as u64,
            "the database failed; the peer's messages are dropped until it works again"
        );
        self.shared.fail(why.to_owned());
        let wait = self.back_off;
        self.back_off = (wait * 2).min(BACK_OFF_MOST);
        // The next round looks at what changed; see `wait`.
        let ended = async { while self.connection.changed().await.is_ok() {} };
        let _ = timeout(wait, ended).await;
    }
}
