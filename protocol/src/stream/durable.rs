//! What the stream asks of the database of its end: read the own log, apply the peer's, begin
//! anew, and say who is welcome.

use super::chain::Chain;
use super::message::{Epoch, Hello, LogHead, Position};
use serde_json::value::RawValue;

/// Why a log no longer fits what the other end has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkCause {
    /// The other end has more than the log: this database was restored.
    BeyondEnd,
    /// Other items under the same numbers: this database was restored or cloned.
    OtherHistory,
    /// The other end needs rows that are no longer kept.
    TooOld,
    /// The other end does not know this epoch and its first rows are gone.
    ReceiverForgot,
    /// The other end was restored, and only the newest wishes count.
    ReceiverWentBack,
    /// The other end has left this epoch for good.
    Refused,
}

/// What the daemon says to a peer's hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Items may flow.
    Welcome,
    /// No items flow until another hello; the text says why.
    Refused(String),
    /// Whoever speaks can never be the peer: it names another host or fleet, or speaks
    /// another protocol. A peer that is welcome stays so, or one such message, of anybody,
    /// would cut it off; otherwise it is refused.
    Stranger(String),
}

/// Reading of the own log; also outside of transactions, but then within one consistent
/// view of the database for each [`Endpoint::poll`](super::Endpoint::poll).
pub trait LogRead {
    /// What the database says when it fails.
    type Error;

    /// The log as it stands.
    fn head(&mut self) -> Result<LogHead, Self::Error>;

    /// The chain after item `number`, `None` when it is not kept. That of `oldest - 1` always is.
    fn chain_at(&mut self, number: u64) -> Result<Option<Chain>, Self::Error>;

    /// Items behind number `after`, in order, at most so many, and of at most so many bytes
    /// together (but one at least).
    fn page(&mut self, after: u64, items: usize, bytes: usize) -> Result<Vec<Box<RawValue>>, Self::Error>;
}

/// The database of one end, inside one transaction.
pub trait Durable: LogRead {
    /// How far the peer's log is applied.
    fn cursor(&mut self) -> Result<Option<Position>, Self::Error>;

    /// Whether the peer's `epoch` was left for good.
    fn is_retired(&mut self, epoch: Epoch) -> Result<bool, Self::Error>;

    /// Applies one item of the peer. An item that the domain refuses is put aside here;
    /// an error means that nothing of this transaction stands.
    fn apply(&mut self, epoch: Epoch, number: u64, item: &RawValue) -> Result<(), Self::Error>;

    /// Stores the cursor, and that `leaves` was left for good.
    fn set_cursor(&mut self, cursor: Position, leaves: Option<Epoch>) -> Result<(), Self::Error>;

    /// The peer has everything up to this number: only rows up to it may be freed. Lower than
    /// before when the peer was restored: what it is sent again must be kept again.
    fn acknowledged(&mut self, through: u64) -> Result<(), Self::Error>;

    /// Gives up the log's epoch and opens a new one that begins with a snapshot.
    fn fork(&mut self, cause: ForkCause) -> Result<LogHead, Self::Error>;

    /// The peer introduces itself: may items flow?
    fn admit(&mut self, hello: &Hello) -> Result<Admission, Self::Error>;
}
