//! One end's database in memory: the log, the cursor, the domain; and the claims that every
//! item applied and every row freed is tested against.
//!
//! A transaction works on a copy that replaces the database at the commit. What is needed to
//! test a claim "within one database history" lives in the database, so that a restore takes
//! it back too; what has ever been true of any history lives in the [`Ledger`].

use crate::channel::Side;
use crate::model::{Item, State, View, set, snapshot};
use crate::planted::Fault;
use phonefleet_protocol::stream::durable::LogRead;
use phonefleet_protocol::stream::{Admission, Chain, Durable, Epoch, ForkCause, Hello, LogHead, Position};
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// What has ever been committed anywhere, and which claims were broken.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The chain after each item of every log that ever stood.
    chains: HashSet<(Epoch, u64, Chain)>,
    /// The furthest that any database of the receiving side has durably applied an epoch.
    applied: HashMap<Epoch, u64>,
    numbers: u64,
    pub violations: Vec<String>,
}

impl Ledger {
    /// A number that was never drawn before, spread over 64 bits.
    pub fn fresh(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    pub fn violated(&mut self, claim: impl Into<String>) {
        self.violations.push(claim.into());
    }

    /// Takes note of a commit, and tests what became durable by it.
    pub fn committed(&mut self, database: &Database) {
        if let Some(cursor) = database.cursor {
            let furthest = self.applied.entry(cursor.epoch).or_default();
            *furthest = cursor.through.max(*furthest);
        }
        for (number, row) in (database.floor.0 + 1..).zip(&database.rows) {
            self.chains.insert((database.epoch, number, row.chain));
        }
        self.test_acknowledged(database.epoch, database.acknowledged);
    }

    /// Nothing may count as acknowledged that no receiver ever had on its disk.
    pub fn test_acknowledged(&mut self, epoch: Epoch, acknowledged: u64) {
        let applied = self.applied.get(&epoch).copied().unwrap_or(0);
        if acknowledged > applied {
            self.violated(format!("{acknowledged} acknowledged of epoch {epoch}, {applied} durably applied"));
        }
    }
}

#[derive(Clone, Debug)]
struct Row {
    item: Box<RawValue>,
    chain: Chain,
}

/// Everything that a disk holds.
#[derive(Clone, Debug)]
pub struct Database {
    epoch: Epoch,
    /// Number and chain of the newest row that is no longer kept.
    floor: (u64, Chain),
    rows: VecDeque<Row>,
    pub acknowledged: u64,
    /// Rows a page has at most: small, so that a few items are many frames.
    page: usize,
    /// Whether hellos are refused.
    pub refuses: bool,
    /// What this end owns and tells of.
    pub state: State,
    cursor: Option<Position>,
    retired: BTreeSet<Epoch>,
    /// What this end believes of the other one.
    pub view: View,
    /// Epochs that this history has left; `retired` as the claims see it.
    left: BTreeSet<Epoch>,
    /// The last item applied in this history.
    progress: Option<Position>,
}

impl Database {
    /// A new database. Its log begins with a snapshot, as every epoch does.
    pub fn empty(page: usize, ledger: &mut Ledger) -> Self {
        let epoch = Epoch(ledger.fresh());
        let mut database = Self {
            epoch,
            floor: (0, Chain::genesis(epoch)),
            rows: VecDeque::new(),
            acknowledged: 0,
            page,
            refuses: false,
            state: State::new(),
            cursor: None,
            retired: BTreeSet::new(),
            view: View::default(),
            left: BTreeSet::new(),
            progress: None,
        };
        database.open(epoch);
        ledger.committed(&database);
        database
    }

    /// Begins a new epoch, with a snapshot.
    pub fn open(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.floor = (0, Chain::genesis(epoch));
        self.rows.clear();
        self.acknowledged = 0;
        for item in snapshot(&self.state) {
            self.append(&item);
        }
    }

    fn append(&mut self, item: &Item) {
        let item = item.encode();
        let chain = self.log_head().chain.then(item.get());
        self.rows.push_back(Row { item, chain });
    }

    /// A change of the own state and the item that tells of it.
    pub fn write(&mut self, key: u8, version: Option<u64>) {
        set(&mut self.state, key, version);
        self.append(&Item::Update { key, version });
    }

    /// Frees acknowledged rows but the newest `keep` of them.
    pub fn prune(&mut self, keep: u64) {
        while self.floor.0 + keep < self.acknowledged {
            let Some(row) = self.rows.pop_front() else { return };
            self.floor = (self.floor.0 + 1, row.chain);
        }
    }

    pub fn log_head(&self) -> LogHead {
        let last = self.floor.0 + self.rows.len() as u64;
        let chain = self.rows.back().map_or(self.floor.1, |row| row.chain);
        LogHead { epoch: self.epoch, oldest: self.floor.0 + 1, last, chain }
    }

    pub fn position(&self) -> Option<Position> {
        self.cursor
    }

    /// What only a planted fault does.
    pub fn force_position(&mut self, cursor: Position) {
        self.cursor = Some(cursor);
    }
}

/// The database said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl LogRead for Database {
    type Error = Broken;

    fn head(&mut self) -> Result<LogHead, Broken> {
        Ok(self.log_head())
    }

    fn chain_at(&mut self, number: u64) -> Result<Option<Chain>, Broken> {
        Ok(match number.checked_sub(self.floor.0) {
            None => None,
            Some(0) => Some(self.floor.1),
            Some(index) => self.rows.get(index as usize - 1).map(|row| row.chain),
        })
    }

    fn page(&mut self, after: u64, items: usize, _bytes: usize) -> Result<Vec<Box<RawValue>>, Broken> {
        let index = after.saturating_sub(self.floor.0) as usize;
        Ok(self.rows.iter().skip(index).take(items.min(self.page)).map(|row| row.item.clone()).collect())
    }
}

/// A reader whose first so many reads fail.
pub struct Flaky<'a> {
    pub database: &'a mut Database,
    pub failures: &'a mut u32,
}

impl Flaky<'_> {
    fn burn(&mut self) -> Result<(), Broken> {
        match self.failures.checked_sub(1) {
            Some(left) => {
                *self.failures = left;
                Err(Broken)
            }
            None => Ok(()),
        }
    }
}

impl LogRead for Flaky<'_> {
    type Error = Broken;

    fn head(&mut self) -> Result<LogHead, Broken> {
        self.burn()?;
        self.database.head()
    }

    fn chain_at(&mut self, number: u64) -> Result<Option<Chain>, Broken> {
        self.burn()?;
        self.database.chain_at(number)
    }

    fn page(&mut self, after: u64, items: usize, bytes: usize) -> Result<Vec<Box<RawValue>>, Broken> {
        self.burn()?;
        self.database.page(after, items, bytes)
    }
}

/// One transaction. The caller commits by putting `work` in the database's place.
pub struct Transaction<'a> {
    pub side: Side,
    pub work: Database,
    pub ledger: &'a mut Ledger,
    pub fault: Option<Fault>,
    /// Calls until the disk fails.
    pub fuse: Option<u32>,
}

impl Transaction<'_> {
    fn burn(&mut self) -> Result<(), Broken> {
        match &mut self.fuse {
            Some(0) => Err(Broken),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl LogRead for Transaction<'_> {
    type Error = Broken;

    fn head(&mut self) -> Result<LogHead, Broken> {
        self.burn()?;
        self.work.head()
    }

    fn chain_at(&mut self, number: u64) -> Result<Option<Chain>, Broken> {
        self.burn()?;
        self.work.chain_at(number)
    }

    fn page(&mut self, after: u64, items: usize, bytes: usize) -> Result<Vec<Box<RawValue>>, Broken> {
        self.burn()?;
        self.work.page(after, items, bytes)
    }
}

impl Durable for Transaction<'_> {
    fn cursor(&mut self) -> Result<Option<Position>, Broken> {
        self.burn()?;
        Ok(self.work.cursor)
    }

    fn is_retired(&mut self, epoch: Epoch) -> Result<bool, Broken> {
        self.burn()?;
        Ok(self.fault != Some(Fault::ForgetsRetiredEpochs) && self.work.retired.contains(&epoch))
    }

    /// Claims: in each epoch 1, 2, 3 … once each; along one log that has stood; never an epoch that was left.
    fn apply(&mut self, epoch: Epoch, number: u64, item: &RawValue) -> Result<(), Broken> {
        self.burn()?;
        let side = self.side;
        let work = &mut self.work;
        let before = match work.progress {
            Some(progress) if progress.epoch == epoch => progress,
            left => {
                work.left.extend(left.map(|left| left.epoch));
                Position { epoch, through: 0, chain: Chain::genesis(epoch) }
            }
        };
        if work.left.contains(&epoch) {
            self.ledger
                .violated(format!("{side:?} applied item {number} of epoch {epoch}, which it had left"));
        }
        if number != before.through + 1 {
            self.ledger
                .violated(format!("{side:?} applied item {number} behind {} of {epoch}", before.through));
        }
        let chain = before.chain.then(item.get());
        if !self.ledger.chains.contains(&(epoch, number, chain)) {
            self.ledger
                .violated(format!("{side:?} applied items 1..{number} of {epoch} that stood in no log"));
        }
        work.progress = Some(Position { epoch, through: number, chain });
        if self.ledger.violations.is_empty() {
            work.view.apply(Item::decode(item));
        }
        Ok(())
    }

    fn set_cursor(&mut self, cursor: Position, leaves: Option<Epoch>) -> Result<(), Broken> {
        self.burn()?;
        self.work.cursor = Some(cursor);
        self.work.retired.extend(leaves);
        Ok(())
    }

    fn acknowledged(&mut self, through: u64) -> Result<(), Broken> {
        self.burn()?;
        self.work.acknowledged = through;
        Ok(())
    }

    fn fork(&mut self, _cause: ForkCause) -> Result<LogHead, Broken> {
        self.burn()?;
        let epoch = Epoch(self.ledger.fresh());
        self.work.open(epoch);
        Ok(self.work.log_head())
    }

    fn admit(&mut self, _hello: &Hello) -> Result<Admission, Broken> {
        self.burn()?;
        Ok(if self.work.refuses { Admission::Refused("busy".to_owned()) } else { Admission::Welcome })
    }
}
