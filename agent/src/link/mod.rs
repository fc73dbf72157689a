//! The agent's side of the link: what it does with commands, and what it says of itself.
//!
//! | module | what lives there |
//! |---|---|
//! | [`domain`] | commands become rows, the inventory, who is welcome |
//! | [`presence`] | presence and heartbeats |
//!
//! [`route`] passes on what comes from the broker.

pub mod domain;
pub mod presence;

use crate::status::{Board, Part};
use phonefleet_link::ConversationHandle;
use phonefleet_link::transport::Incoming;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::topic::Channel;
use tokio::sync::{mpsc, watch};

/// Passes on what comes from the broker until its connection is given up for good.
/// `connected` counts connections, and is odd while there is one.
pub async fn route(
    host: &HostId,
    mut incoming: mpsc::Receiver<Incoming>,
    conversation: ConversationHandle,
    connected: watch::Sender<u64>,
    board: Board,
) {
    let down = Channel::Down.of(host);
    while let Some(message) = incoming.recv().await {
        match message {
            Incoming::Connected => {
                conversation.connected();
                connected.send_modify(|number| *number += 1 + *number % 2);
                board.ready(Part::Broker, "");
            }
            Incoming::Disconnected { why } => {
                conversation.disconnected();
                connected.send_modify(|number| *number += *number % 2);
                board.missing(Part::Broker, why);
            }
            Incoming::Message { topic, retained: true, .. } => {
                conversation
                    .ignored("the broker kept it for whoever comes; nobody of this fleet asks for that");
                tracing::warn!(topic, "ignored a retained message; clear it at the broker");
            }
            Incoming::Message { topic, payload, .. } if topic == down => conversation.message(payload),
            Incoming::Message { topic, .. } => tracing::debug!(topic, "a message that nobody asked for"),
        }
    }
}
