//! What a daemon does with the items of its peers. Synchronous, inside a transaction.

use phonefleet_protocol::stream::{Admission, Epoch, Hello, Notice};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::Tx;
use phonefleet_store::rusqlite;
use phonefleet_store::stream_log::{Labels, StreamLog};
use serde_json::value::RawValue;

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Its effects are part of the transaction.
    Done,
    /// The domain refuses it: effects are undone, the item becomes a dead letter.
    Refused {
        /// The item's kind, if it could be read.
        kind: String,
        /// Why, for the operator.
        reason: String,
    },
    /// A kind from the future: kept raw, applied again after an upgrade.
    Unknown {
        /// The kind.
        kind: String,
    },
}

/// One item for the daemon's own log, with what it is found by.
#[derive(Clone, Debug)]
pub struct LogItem {
    /// Kind of thing that it is about.
    pub aggregate_type: &'static str,
    /// Which one.
    pub aggregate_id: String,
    /// Its kind.
    pub event_type: &'static str,
    /// Its JSON text.
    pub item: Box<RawValue>,
}

impl LogItem {
    /// The labels to store it under.
    pub fn labels(&self) -> Labels<'_> {
        Labels {
            aggregate_type: self.aggregate_type,
            aggregate_id: &self.aggregate_id,
            event_type: self.event_type,
        }
    }
}

/// A daemon's side of every conversation. `N` is what it announces after commits.
///
/// `peer` names the other end and, at the same time, the own log for it: the host id on
/// the controller, a constant on the agent. A failing database (full, busy, broken) means
/// that nothing of the transaction stands, and that the item comes again. An error about
/// the item's data (a broken constraint, a value of the wrong type), and a panic, would
/// come again with it for ever: they refuse the item.
pub trait Domain<N>: Send + Sync + 'static {
    /// The table of the own logs.
    const LOG: StreamLog;

    /// Applies one item of `peer`. Runs in a part of its own, undone on refusal.
    fn apply(
        &self,
        tx: &mut Tx<'_, N>,
        peer: &str,
        item: &RawValue,
        now: Timestamp,
    ) -> Result<Applied, rusqlite::Error>;

    /// Everything that a new epoch of the own log must begin with, in items within the
    /// size limit. Called in the transaction that has just opened the epoch.
    fn snapshot(
        &self,
        tx: &mut Tx<'_, N>,
        peer: &str,
        now: Timestamp,
    ) -> Result<Vec<LogItem>, rusqlite::Error>;

    /// An item has taken effect in this transaction. Only the simulation asks for it, see
    /// [`WATCHED`](phonefleet_protocol::mutant::WATCHED).
    fn applied(&self, _tx: &mut Tx<'_, N>, _peer: &str, _epoch: Epoch, _number: u64) {}

    /// Whether the peer that introduces itself is welcome; registers it if so.
    fn admit(
        &self,
        tx: &mut Tx<'_, N>,
        peer: &str,
        hello: &Hello,
        now: Timestamp,
    ) -> Result<Admission, rusqlite::Error>;

    /// The peer has committed everything of the own log up to `through`.
    fn acknowledged(
        &self,
        tx: &mut Tx<'_, N>,
        peer: &str,
        through: u64,
        now: Timestamp,
    ) -> Result<(), rusqlite::Error>;

    /// Something happened in a conversation, after its commit: log it, count it. Of many
    /// refusals only one each ten seconds is told.
    fn notice(&self, peer: &str, notice: &Notice);
}
