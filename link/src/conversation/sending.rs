//! From the database to the peer: what may be sent now.

use super::{Conversation, ConversationError, Domain};
use crate::transport::{Delivery, Outgoing};
use phonefleet_protocol::stream::message::MessageError;
use phonefleet_store::rusqlite;
use phonefleet_store::stream_log::LogReader;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Frames of one read job: half a megabyte in memory at most.
const READ_FRAMES: usize = 4;
/// When a transport that refused a message while it was said to stand is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl<N: Send + 'static, D: Domain<N>> Conversation<N, D> {
    /// Sends all that may be sent.
    pub(super) async fn drain(&mut self) -> Result<(), ConversationError> {
        while self.linked {
            let (mut endpoint, peer) = (self.endpoint.clone(), Arc::clone(&self.peer));
            let elapsed = self.origin.elapsed();
            let job = move |connection: &rusqlite::Connection| {
                let mut log = LogReader { connection, table: D::LOG, log: &peer };
                let mut payloads = Vec::new();
                while payloads.len() < READ_FRAMES {
                    let Some(message) = endpoint.poll(elapsed, &mut log)? else { break };
                    payloads.push(message.encode().map_err(unwritable)?);
                }
                Ok((endpoint, payloads))
            };
            let payloads = match self.store.read(job).await {
                Ok((endpoint, payloads)) => {
                    self.endpoint = endpoint;
                    payloads
                }
                Err(error) => return self.stumble_reading(error).await,
            };
            let last = payloads.len() < READ_FRAMES;
            for payload in payloads {
                if !self.publish(payload).await {
                    return Ok(());
                }
            }
            if last {
                break;
            }
        }
        Ok(())
    }

    /// Hands one message to the transport. `false`: stop, the connection is another one,
    /// or none, or nobody holds a handle; what was not sent is sent again.
    async fn publish(&mut self, payload: Vec<u8>) -> bool {
        let topic = self.options.send_topic.clone();
        let message = Outgoing { topic, payload, delivery: Delivery::AtLeastOnce };
        tokio::select! {
            biased;
            _ = self.connection.changed() => false,
            sent = self.transport.publish(message) => {
                if sent.is_err() {
                    // Mostly ahead of the news that it is gone. Should that never come, the
                    // connection is tried as a new one.
                    self.unlink();
                    self.retry_at = Some(Instant::now() + RETRY_AFTER);
                }
                sent.is_ok()
            }
        }
    }
}

fn unwritable(error: MessageError) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}
