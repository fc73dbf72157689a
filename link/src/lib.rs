//! The link between a daemon and its peers: a broker, and one conversation a peer.
//!
//! ```text
//!   broker ──Incoming──▶ daemon's router ──▶ Conversation (one for each peer)
//!      ▲                                        │ one write job: stream items + cursor + effects
//!      └── Transport::publish ◀── frames ◀──────┘ after the commit
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`transport`] | what a broker connection is: a trait, so that simulations replace it |
//! | [`mqtt`] | the real one: rumqttc, made afresh for every connection, never trusted |
//! | [`domain`] | what a daemon does with items: apply, snapshot, admit |
//! | [`conversation`] | drives the sans-IO stream of one peer over the store |
//! | [`retention`] | deletes acknowledged rows |
//! | [`memory`] | a broker inside the process, for tests and simulations |

pub mod conversation;
pub mod domain;
pub mod memory;
pub mod mqtt;
pub mod retention;
pub mod transport;

pub use conversation::{
    Conversation, ConversationError, ConversationHandle, ConversationOptions, ConversationStatus,
};
pub use domain::{Applied, Domain};
pub use memory::MemoryBroker;
pub use transport::{Delivery, Incoming, NotConnected, Outgoing, Transport};
