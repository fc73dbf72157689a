//! Two sides, the channel between them and the clock; what can happen to them, and how the
//! world heals.

use crate::channel::{Channel, Side};
use crate::database::{Broken, Database, Flaky, Ledger, Transaction};
use crate::history::{Action, Outcome};
use crate::planted::{self, Fault};
use phonefleet_protocol::stream::message::{Introduction, PROTOCOL};
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::stream::{Endpoint, Epoch, Message};
use std::time::Duration;

/// One program and its database.
pub struct End {
    pub database: Database,
    pub endpoint: Endpoint,
    pub connected: bool,
    failing_reads: u32,
}

/// Everything that is.
pub struct World {
    pub now: Duration,
    pub ends: [Vec<End>; 2],
    backups: [Vec<Database>; 2],
    pub channel: Channel,
    pub ledger: Ledger,
    page: usize,
    remembers: bool,
    fault: Option<Fault>,
    /// A database was restored, cloned or emptied: a late message may then tell of what is no more.
    pub tampered: bool,
}

/// Items that a side may write at once without a frame of its own for each.
const KEYS: u8 = 12;
/// Polls without an end: an endpoint that never stops talking.
const POLLS: usize = 2000;

impl World {
    pub fn new(page: usize, remembers: bool, fault: Option<Fault>) -> Self {
        let mut world = Self {
            now: Duration::from_secs(1000),
            ends: [Vec::new(), Vec::new()],
            backups: [Vec::new(), Vec::new()],
            channel: Channel::default(),
            ledger: Ledger::default(),
            page,
            remembers,
            fault,
            tampered: false,
        };
        for side in Side::BOTH {
            let database = Database::empty(page, &mut world.ledger);
            world.backups[side.index()].push(database.clone());
            world.live(side, database);
        }
        world
    }

    /// A program starts on a database, and connects.
    fn start(&mut self, side: Side, database: Database) -> End {
        let regression = match side {
            Side::Agent => Regression::Replay,
            Side::Controller => Regression::Snapshot,
        };
        let acknowledged = if self.remembers { database.acknowledged } else { 0 };
        let mut endpoint = Endpoint::new(introduction(), regression, acknowledged);
        let mut transaction =
            Transaction { side, work: database, ledger: &mut self.ledger, fault: None, fuse: None };
        endpoint.load(&mut transaction).expect("a transaction without a fuse");
        let database = transaction.work;
        endpoint.connected(self.now, self.ledger.fresh());
        End { database, endpoint, connected: true, failing_reads: 0 }
    }

    fn live(&mut self, side: Side, database: Database) {
        let end = self.start(side, database);
        self.ends[side.index()].push(end);
        self.pump(side, self.ends[side.index()].len() - 1);
    }

    fn restart(&mut self, side: Side, index: usize, database: Database) {
        self.ends[side.index()][index] = self.start(side, database);
        self.pump(side, index);
    }

    fn choose(&self, side: Side, which: u8) -> usize {
        usize::from(which) % self.ends[side.index()].len()
    }

    /// Lets an end say what it has to say.
    fn pump(&mut self, side: Side, index: usize) {
        let end = &mut self.ends[side.index()][index];
        for _ in 0..POLLS {
            let mut log = Flaky { database: &mut end.database, failures: &mut end.failing_reads };
            let said = if self.fault == Some(Fault::NeverGoesBack) {
                planted::poll_without_going_back(&mut end.endpoint, self.now, &mut log)
            } else {
                end.endpoint.poll(self.now, &mut log)
            };
            match said {
                Err(Broken) => {}
                Ok(Some(mut message)) => {
                    if self.fault == Some(Fault::IgnoresChains) {
                        message = planted::with_cursor(message, end.database.position());
                    }
                    self.channel.send(self.now, side.other(), message.encode().expect("plain data"));
                }
                Ok(None) => {
                    let late = end.endpoint.deadline().is_some_and(|deadline| deadline <= self.now);
                    if late && self.fault != Some(Fault::NeverGoesBack) {
                        self.ledger.violated(format!("{side:?} has a deadline in the past and says nothing"));
                    }
                    return;
                }
            }
        }
        self.ledger.violated(format!("{side:?} never stops talking"));
    }

    pub fn write(&mut self, side: Side, index: usize, key: u8, times: u8, remove: bool) {
        let end = &mut self.ends[side.index()][index];
        for offset in 0..times {
            let version = (!remove).then(|| self.ledger.fresh());
            end.database.write(key.wrapping_add(offset) % KEYS, version);
        }
        self.ledger.committed(&end.database);
        end.endpoint.log_grew();
        self.pump(side, index);
    }

    /// Messages arrive at one end, all of them in one transaction.
    fn receive(&mut self, side: Side, index: usize, payloads: &[Vec<u8>], outcome: Outcome) {
        let end = &mut self.ends[side.index()][index];
        if !end.connected {
            return;
        }
        let fuse = match outcome {
            Outcome::DiskFails(calls) => Some(calls),
            Outcome::Commits | Outcome::CommitFails => None,
        };
        let work = end.database.clone();
        let mut transaction = Transaction { side, work, ledger: &mut self.ledger, fault: self.fault, fuse };
        let mut result = Ok(());
        for payload in payloads {
            let message = Message::decode(payload).expect("what an endpoint wrote");
            result = take_in(&mut end.endpoint, self.now, &message, &mut transaction);
            if result.is_err() {
                break;
            }
        }
        let work = transaction.work;
        if result.is_ok() && self.fault == Some(Fault::AcknowledgesBeforeCommit) {
            let before = std::mem::replace(&mut end.database, work.clone());
            self.pump(side, index);
            self.ends[side.index()][index].database = before;
        }
        if result.is_err() || outcome == Outcome::CommitFails {
            let database = self.ends[side.index()][index].database.clone();
            self.restart(side, index, database);
            return;
        }
        let end = &mut self.ends[side.index()][index];
        end.database = work;
        self.ledger.committed(&end.database);
        self.ledger.test_acknowledged(end.database.log_head().epoch, end.endpoint.acknowledged());
        self.pump(side, index);
    }

    /// Messages arrive at all that live on a side; the outcome is the first one's.
    pub fn deliver(&mut self, to: Side, payloads: &[Vec<u8>], outcome: Outcome) {
        for index in 0..self.ends[to.index()].len() {
            let outcome = if index == 0 { outcome } else { Outcome::Commits };
            self.receive(to, index, payloads, outcome);
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        // With this fault the deadline passes and nothing happens.
        let past = |at: &Duration| self.fault != Some(Fault::NeverGoesBack) || *at > self.now;
        self.ends.iter().flatten().filter_map(|end| end.endpoint.deadline()).filter(past).min()
    }

    fn pump_all(&mut self) {
        for side in Side::BOTH {
            for index in 0..self.ends[side.index()].len() {
                self.pump(side, index);
            }
        }
    }

    fn wait(&mut self, until: Duration) {
        while let Some(next) = self.next_deadline().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            self.pump_all();
        }
        self.now = until;
    }

    /// Time passes on a channel that behaves, until nothing is due or the time is over.
    /// Returns whether nothing is due.
    pub fn flow(&mut self, until: Duration) -> bool {
        loop {
            let arrivals = Side::BOTH.into_iter().filter_map(|side| self.channel.next_due(side));
            let next = arrivals.chain(self.next_deadline()).min();
            match next {
                None => return true,
                Some(next) if next > until => {
                    self.now = until;
                    return false;
                }
                Some(next) => self.now = next.max(self.now),
            }
            if !self.ledger.violations.is_empty() {
                return false;
            }
            for side in Side::BOTH {
                if self.channel.next_due(side).is_some_and(|due| due <= self.now) {
                    let parcel = self.channel.take(side, 0, false).expect("one is due");
                    self.deliver(side, &[parcel.payload], Outcome::Commits);
                }
            }
            self.pump_all();
        }
    }

    pub fn act(&mut self, action: &Action) {
        match *action {
            Action::Write { side, which, key, times, remove } => {
                self.write(side, self.choose(side, which), key, times, remove);
            }
            Action::Deliver { to, ref picks, outcome } => {
                let take = |(pick, keep): &(u16, bool)| self.channel.take(to, *pick, *keep);
                let payloads: Vec<_> = picks.iter().filter_map(take).map(|parcel| parcel.payload).collect();
                self.deliver(to, &payloads, outcome);
            }
            Action::Lose { to, pick } => {
                self.channel.take(to, pick, false);
            }
            Action::Forget { to } => self.channel.forget(to),
            Action::Partition { to, partitioned } => self.channel.partition(to, partitioned),
            Action::Wait { milliseconds } => self.wait(self.now + millis(milliseconds)),
            Action::Flow { milliseconds } => {
                let until = self.now + millis(milliseconds);
                self.flow(until);
                self.now = until;
            }
            Action::Crash { side, which } => {
                let index = self.choose(side, which);
                let database = self.ends[side.index()][index].database.clone();
                self.restart(side, index, database);
            }
            Action::Disconnect { side, which } => {
                let index = self.choose(side, which);
                let end = &mut self.ends[side.index()][index];
                end.endpoint.disconnected();
                end.connected = false;
            }
            Action::Connect { side, which } => self.connect(side, self.choose(side, which)),
            Action::Backup { side, which } => {
                let database = self.ends[side.index()][self.choose(side, which)].database.clone();
                self.backups[side.index()].push(database);
            }
            Action::Restore { side, which, pick } => {
                self.tampered = true;
                let backups = &self.backups[side.index()];
                let database = backups[usize::from(pick) % backups.len()].clone();
                self.restart(side, self.choose(side, which), database);
            }
            Action::Empty { side, which } => {
                self.tampered = true;
                let database = Database::empty(self.page, &mut self.ledger);
                self.restart(side, self.choose(side, which), database);
            }
            Action::Clone { side, backup } => {
                self.tampered = true;
                let own = &self.ends[side.index()];
                if own.len() == 1 {
                    let last = self.backups[side.index()].last().filter(|_| backup);
                    let database = last.unwrap_or(&own[0].database).clone();
                    self.live(side, database);
                }
            }
            Action::Kill { side, which } => self.kill(side, which),
            Action::Prune { side, which, keep } => {
                let index = self.choose(side, which);
                self.ends[side.index()][index].database.prune(keep.into());
            }
            Action::ReadsFail { side, which, reads } => {
                let index = self.choose(side, which);
                self.ends[side.index()][index].failing_reads = reads.into();
            }
        }
    }

    pub fn connect(&mut self, side: Side, index: usize) {
        let session = self.ledger.fresh();
        let end = &mut self.ends[side.index()][index];
        end.connected = true;
        end.endpoint.connected(self.now, session);
        self.pump(side, index);
    }

    pub fn kill(&mut self, side: Side, which: u8) {
        let index = self.choose(side, which);
        if self.ends[side.index()].len() > 1 {
            self.ends[side.index()].remove(index);
        }
    }

    /// Messages on their way.
    pub fn waiting(&self) -> u64 {
        Side::BOTH.into_iter().map(|side| self.channel.waiting(side) as u64).sum()
    }

    /// The database of a side that has one.
    pub fn database(&mut self, side: Side) -> &mut Database {
        &mut self.ends[side.index()][0].database
    }

    /// A side gives up its log without its endpoint.
    pub fn fork(&mut self, side: Side) {
        let epoch = Epoch(self.ledger.fresh());
        self.database(side).open(epoch);
        let end = &mut self.ends[side.index()][0];
        end.endpoint.log_grew();
        self.ledger.committed(&end.database);
        self.pump(side, 0);
    }

    /// Messages handed to the channel since the start.
    pub fn said(&self) -> u64 {
        self.channel.said
    }

    /// Rows in both logs together.
    pub fn rows(&self) -> u64 {
        self.ends
            .iter()
            .flatten()
            .map(|end| end.database.log_head())
            .map(|head| head.last + 1 - head.oldest)
            .sum()
    }

    pub fn violations(&self) -> &[String] {
        &self.ledger.violations
    }
}

fn take_in(
    endpoint: &mut Endpoint,
    now: Duration,
    message: &Message,
    transaction: &mut Transaction<'_>,
) -> Result<(), Broken> {
    let fault = transaction.fault;
    let Message::Frame(frame) = message else {
        return endpoint.handle(now, message, transaction).map(|_| ());
    };
    if !endpoint.is_open() {
        return endpoint.handle(now, message, transaction).map(|_| ());
    }
    if fault == Some(Fault::AppliesOverlap) {
        planted::apply_overlap(frame, transaction);
    }
    let before = transaction.work.position();
    let rewritten = match fault {
        Some(Fault::IgnoresChains) => planted::ignore_chain(frame, before),
        _ => None,
    };
    let Some(rewritten) = rewritten else { return endpoint.handle(now, message, transaction).map(|_| ()) };
    let end = planted::claimed_end(frame);
    endpoint.handle(now, &Message::Frame(rewritten), transaction)?;
    if transaction.work.position() != before {
        transaction.work.force_position(end);
    }
    Ok(())
}

fn millis(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into())
}

pub fn introduction() -> Introduction {
    Introduction {
        protocol: PROTOCOL,
        capabilities: Vec::new(),
        software: "test".to_owned(),
        host_id: "host-1".parse().expect("a host id"),
        machine_id: None,
        fleet_id: None,
        report: None,
    }
}
