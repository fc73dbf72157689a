//! The stream's database as the endpoint sees it, inside one write job.

use crate::domain::{Applied, Domain};
use phonefleet_protocol::limits::shorten;
use phonefleet_protocol::mutant::{Mutant, WATCHED, planted};
use phonefleet_protocol::stream::durable::{Admission, Durable, ForkCause, LogRead};
use phonefleet_protocol::stream::{Chain, Epoch, Hello, LogHead, Position};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{self, ErrorCode};
use phonefleet_store::stream_log::{self, Aside};
use phonefleet_store::{Tx, rusqlite::Connection};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Refused items of one job that are told one by one; the others are only counted.
const REFUSALS_TOLD: usize = 8;

/// What a job did, for what follows its commit.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The job changed pages by itself: whatever else it writes costs no further fsync.
    pub wrote: bool,
    /// The own log was begun anew.
    pub forked: bool,
    pub refused: u64,
    pub refusals: Vec<Refusal>,
    pub unknown: u64,
}

/// An item that became a dead letter.
#[derive(Debug)]
pub(super) struct Refusal {
    pub number: u64,
    pub kind: String,
    pub reason: String,
}

/// One transaction of one peer.
pub(super) struct PeerTx<'a, 'tx, N, D> {
    pub tx: &'a mut Tx<'tx, N>,
    pub domain: &'a D,
    pub peer: &'a str,
    pub now: Timestamp,
    /// Drawn before the job, which must be pure because it may run again; every fork in
    /// it derives an epoch of its own.
    pub seed: u64,
    pub tally: Tally,
    /// Each item has a savepoint. They cost more than most items do, so a job is tried
    /// without them, and again with them when an item has to be undone.
    pub guarded: bool,
    /// An item has to be undone, and has no savepoint: the job has failed for that.
    pub spoilt: bool,
}

impl<N, D: Domain<N>> PeerTx<'_, '_, N, D> {
    /// Begins the own log, or begins it anew.
    pub fn begin_epoch(&mut self) -> Result<LogHead, rusqlite::Error> {
        begin_epoch(self.tx, self.domain, self.peer, Epoch(self.seed), self.now)?;
        // Weyl's sequence: never the same twice.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.tally.wrote = true;
        self.tally.forked = true;
        self.head()
    }
}

fn begin_epoch<N, D: Domain<N>>(
    tx: &mut Tx<'_, N>,
    domain: &D,
    peer: &str,
    epoch: Epoch,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    D::LOG.open(tx, peer, epoch, now)?;
    for item in domain.snapshot(tx, peer, now)? {
        D::LOG.append(tx, peer, item.labels(), &item.item, now)?;
    }
    Ok(())
}

/// Begins the own log for `peer` with a snapshot, unless it was begun before; `epoch` is a
/// fresh random number. A conversation does so by itself when it starts to run; whoever
/// appends items before that calls this first. Returns whether it began it.
pub fn begin_log<N, D: Domain<N>>(
    tx: &mut Tx<'_, N>,
    domain: &D,
    peer: &str,
    epoch: Epoch,
    now: Timestamp,
) -> Result<bool, rusqlite::Error> {
    let missing = D::LOG.head(tx, peer)?.is_none();
    if missing {
        begin_epoch(tx, domain, peer, epoch, now)?;
    }
    Ok(missing)
}

impl<N, D: Domain<N>> LogRead for PeerTx<'_, '_, N, D> {
    type Error = rusqlite::Error;

    fn head(&mut self) -> Result<LogHead, rusqlite::Error> {
        D::LOG.head(self.tx, self.peer)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    fn chain_at(&mut self, number: u64) -> Result<Option<Chain>, rusqlite::Error> {
        D::LOG.chain_at(self.tx, self.peer, number)
    }

    fn page(
        &mut self,
        after: u64,
        items: usize,
        bytes: usize,
    ) -> Result<Vec<Box<RawValue>>, rusqlite::Error> {
        D::LOG.page(self.tx, self.peer, after, items, bytes)
    }
}

impl<N, D: Domain<N>> Durable for PeerTx<'_, '_, N, D> {
    fn cursor(&mut self) -> Result<Option<Position>, rusqlite::Error> {
        stream_log::cursor(self.tx, self.peer)
    }

    fn is_retired(&mut self, epoch: Epoch) -> Result<bool, rusqlite::Error> {
        stream_log::is_retired(self.tx, self.peer, epoch)
    }

    fn apply(&mut self, epoch: Epoch, number: u64, item: &RawValue) -> Result<(), rusqlite::Error> {
        if planted(Mutant::AcknowledgeBeforeCommit) && self.tx.total_changes() % 31 == 7 {
            return Ok(());
        }
        if WATCHED {
            self.domain.applied(self.tx, self.peer, epoch, number);
        }
        let aside = |kind| Aside { peer: self.peer, epoch, number, kind, payload: item.get() };
        if !self.guarded {
            return match try_item(self.tx, self.domain, self.peer, item, self.now) {
                Ok(()) => Ok(()),
                Err(Undone::Failed(error)) if !refuses(&error, self.tx) => Err(error),
                Err(_) => {
                    // The error is only the way out of the job.
                    self.spoilt = true;
                    Err(rusqlite::Error::InvalidQuery)
                }
            };
        }
        match apply_item(self.tx, self.domain, self.peer, item, self.now)? {
            Applied::Done => {}
            Applied::Refused { kind, reason } => {
                stream_log::dead_letter(self.tx, aside(&kind), &reason, self.now)?;
                self.tally.refused += 1;
                if self.tally.refusals.len() < REFUSALS_TOLD {
                    self.tally.refusals.push(Refusal { number, kind, reason });
                }
            }
            Applied::Unknown { kind } => {
                stream_log::keep_unknown(self.tx, aside(&kind), self.now)?;
                self.tally.unknown += 1;
            }
        }
        Ok(())
    }

    fn set_cursor(&mut self, cursor: Position, leaves: Option<Epoch>) -> Result<(), rusqlite::Error> {
        self.tally.wrote = true;
        stream_log::set_cursor(self.tx, self.peer, cursor, leaves, self.now)
    }

    fn acknowledged(&mut self, through: u64) -> Result<(), rusqlite::Error> {
        self.domain.acknowledged(self.tx, self.peer, through, self.now)
    }

    fn fork(&mut self, _cause: ForkCause) -> Result<LogHead, rusqlite::Error> {
        self.begin_epoch()
    }

    fn admit(&mut self, hello: &Hello) -> Result<Admission, rusqlite::Error> {
        self.domain.admit(self.tx, self.peer, hello, self.now)
    }
}

/// Applies one item in a savepoint of its own. Only a failing database is an error: a
/// panic, or data that no retry can make fit, is a refusal, or the one item would block
/// everything behind it for good.
pub(super) fn apply_item<N, D: Domain<N>>(
    tx: &mut Tx<'_, N>,
    domain: &D,
    peer: &str,
    item: &RawValue,
    now: Timestamp,
) -> Result<Applied, rusqlite::Error> {
    match tx.part(|tx| try_item(tx, domain, peer, item, now)) {
        Ok(()) => Ok(Applied::Done),
        Err(Undone::Said(applied)) => Ok(applied),
        Err(Undone::Failed(error)) if refuses(&error, tx) => {
            Ok(refused(item, format!("the database refuses its data: {error}")))
        }
        Err(Undone::Failed(error)) => Err(error),
    }
}

/// Applies one item; what an error leaves half done is the caller's to undo.
fn try_item<N, D: Domain<N>>(
    tx: &mut Tx<'_, N>,
    domain: &D,
    peer: &str,
    item: &RawValue,
    now: Timestamp,
) -> Result<(), Undone> {
    match catch_unwind(AssertUnwindSafe(|| domain.apply(tx, peer, item, now))) {
        Ok(Ok(Applied::Done)) => Ok(()),
        Ok(Ok(other)) => Err(Undone::Said(other)),
        Ok(Err(error)) => Err(Undone::Failed(error)),
        Err(_) => Err(Undone::Said(refused(item, "applying it panicked; see the daemon's log".to_owned()))),
    }
}

/// Whether an error refuses the item, and the transaction goes on.
fn refuses(error: &rusqlite::Error, connection: &Connection) -> bool {
    is_about_data(error) && !connection.is_autocommit()
}

enum Undone {
    Said(Applied),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Undone {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

fn refused(item: &RawValue, reason: String) -> Applied {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
    }
    let kind = serde_json::from_str::<Head>(item.get()).map(|head| shorten(&head.kind)).unwrap_or_default();
    Applied::Refused { kind, reason }
}

/// Whether the same item would fail the same way for ever, on a healthy disk too.
fn is_about_data(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match error {
        Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
        ),
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::ToSqlConversionFailure(_)
        | Error::NulError(_)
        | Error::QueryReturnedNoRows => true,
        _ => false,
    }
}
