//! What a daemon holds of a running conversation.

use phonefleet_protocol::stream::message::Introduction;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// Messages that may wait for a conversation. A peer has 16 frames in flight at most, so
/// an honest one never fills it.
pub(super) const QUEUE_MESSAGES: usize = 64;

/// Whether there is a connection to the broker, and the how-manieth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    /// Raised at each [`ConversationHandle::connected`], so that no reconnect is missed,
    /// however short the time between.
    pub number: u64,
    pub up: bool,
}

/// What is seen of a conversation from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConversationStatus {
    /// The peer has introduced itself in this connection and is welcome.
    pub open: bool,
    /// Items of the own log that the peer is known to have committed.
    pub acknowledged: u64,
    /// Messages dropped because the queue was full; the stream repeated them.
    pub dropped: u64,
    /// Payloads that were no message of the protocol, or not to be believed.
    pub malformed: u64,
    /// Hellos of somebody who may not speak here, or not now.
    pub unwelcome: u64,
    /// Items that became dead letters.
    pub refused: u64,
    /// Items of kinds from the future, kept raw.
    pub unknown: u64,
    /// The newest failure, in words for the operator; stays after it has passed.
    pub last_error: Option<String>,
}

/// Written by the conversation, read by its handles.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub wake: Notify,
    pub grew: AtomicBool,
    pub introduction: Mutex<Option<Introduction>>,
    pub open: AtomicBool,
    pub acknowledged: AtomicU64,
    pub dropped: AtomicU64,
    pub malformed: AtomicU64,
    pub unwelcome: AtomicU64,
    pub refused: AtomicU64,
    pub unknown: AtomicU64,
    pub last_error: Mutex<Option<String>>,
}

impl Shared {
    pub fn fail(&self, why: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    pub fn take_introduction(&self) -> Option<Introduction> {
        self.introduction.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A cheap handle to a conversation. The conversation ends when the last one is dropped.
/// No method ever blocks.
#[derive(Clone, Debug)]
pub struct ConversationHandle {
    pub(super) messages: mpsc::Sender<Vec<u8>>,
    pub(super) connection: watch::Sender<Connection>,
    pub(super) shared: Arc<Shared>,
}

impl ConversationHandle {
    /// The broker connection stands, and is subscribed.
    pub fn connected(&self) {
        self.connection.send_modify(|state| {
            state.number += 1;
            state.up = true;
        });
    }

    /// The broker connection is gone.
    pub fn disconnected(&self) {
        self.connection.send_if_modified(|state| std::mem::replace(&mut state.up, false));
    }

    /// A message of the peer. With a full queue it is dropped and counted: to wait here
    /// would hold up every other peer behind one slow one, and nothing is lost, because
    /// what is not acknowledged is sent again.
    pub fn message(&self, payload: Vec<u8>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.messages.try_send(payload) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message on the peer's topic that is not to be believed, such as one that the broker
    /// had kept: counted like one that cannot be read.
    pub fn ignored(&self, why: &str) {
        self.shared.malformed.fetch_add(1, Ordering::Relaxed);
        self.shared.fail(format!("a message was ignored: {why}"));
    }

    /// Whether the conversation has ended, as by a panic; nothing that is said here is heard.
    pub fn has_ended(&self) -> bool {
        self.messages.is_closed()
    }

    /// The own log has new items, committed.
    pub fn log_grew(&self) {
        self.shared.grew.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }

    /// Replaces what the next hello says of this end.
    pub fn introduce(&self, introduction: Introduction) {
        *self.shared.introduction.lock().unwrap_or_else(PoisonError::into_inner) = Some(introduction);
        self.shared.wake.notify_one();
    }

    /// How it stands.
    pub fn status(&self) -> ConversationStatus {
        let shared = &self.shared;
        ConversationStatus {
            open: shared.open.load(Ordering::Relaxed),
            acknowledged: shared.acknowledged.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            malformed: shared.malformed.load(Ordering::Relaxed),
            unwelcome: shared.unwelcome.load(Ordering::Relaxed),
            refused: shared.refused.load(Ordering::Relaxed),
            unknown: shared.unknown.load(Ordering::Relaxed),
            last_error: shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
