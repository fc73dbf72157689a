//! One controller's database, its wakes, its timer and one host, driven by hand.
//!
//! A *commit* is one transaction of the controller: an order, an acknowledgement, an event of
//! the host, or one transition of a saga. A crash comes at a commit: it is lost, or it stands
//! and what would have followed from it in memory is lost. Wall time jumps to the next moment
//! at which some saga is due, whenever nothing else can happen.

use super::fault::{self, Fault};
use super::host::ModelHost;
use crate::simulation::time::SeededIds;
use phonefleet_controller::fleet::domain::FleetDomain;
use phonefleet_controller::fleet::{apply, forget};
use phonefleet_controller::order::{self, Accepted, NewDevice, Verb};
use phonefleet_controller::quota::Policy;
use phonefleet_controller::recording;
use phonefleet_controller::saga::{Engine, Next, RetryPolicy};
use phonefleet_controller::store::device::{self as devices, DeviceRow, Status};
use phonefleet_controller::store::saga::{self as sagas, SagaRow};
use phonefleet_controller::store::{self, Notice, Store, Tx, host, quota};
use phonefleet_link::{Applied, Domain};
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::facts::Phase;
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::id::{DeviceId, HostId, SagaId, UserId};
use phonefleet_protocol::item::{Decoded, Item};
use phonefleet_protocol::recording::RecordingSpec;
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::stream::Epoch;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{self, Connection};
use phonefleet_store::stream_log::COMMAND_OUTBOX;
use phonefleet_store::{Mode, WriteError};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Transactions that nothing here needs: one that goes on for ever is found.
const MOST_COMMITS: u32 = 5000;

/// How a daemon dies at a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The transaction is lost.
    Before,
    /// It stands; whoever waited for it never hears so.
    After,
}

/// What became of a commit.
enum Commit<T> {
    /// It stands.
    Done(T),
    /// The controller died at it. `stands`: it is in the database all the same.
    Died { stands: bool },
    /// It was refused, or panicked.
    Refused(String),
}

/// Why a job's transaction is undone.
#[derive(Debug)]
enum Undo {
    Crash,
    Refused(String),
}

impl From<rusqlite::Error> for Undo {
    fn from(error: rusqlite::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// A controller and a host.
pub struct World {
    /// What the host has.
    pub host: ModelHost,
    /// The controller's present.
    pub now: Timestamp,
    /// Commits so far.
    pub commits: u32,
    store: Store,
    engine: Engine,
    ids: Arc<SeededIds>,
    wakes: Arc<Mutex<VecDeque<SagaId>>>,
    taken: u64,
    acknowledged: u64,
    crash: Option<(u32, Crash)>,
    upgrade: Option<u32>,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A controller with one host that is online and has nothing.
    pub fn new() -> Self {
        fault::order(&[]);
        // Thousands of worlds, none of which must outlive the machine.
        let memory = std::path::Path::new("/dev/shm");
        let directory = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
        let directory = directory.expect("a temporary directory");
        let wakes = Arc::new(Mutex::new(VecDeque::new()));
        let woken = Arc::clone(&wakes);
        let on_commit = move |notices: Vec<Notice>| {
            let runnable = notices.into_iter().filter_map(|notice| match notice {
                Notice::SagaRunnable(saga) => Some(saga),
                Notice::Commands(_)
                | Notice::SagaDue(_)
                | Notice::SagaEnded(_)
                | Notice::SagaStep { .. }
                | Notice::RecordingEnded(_)
                | Notice::EventApplied { .. } => None,
            });
            woken.lock().unwrap_or_else(PoisonError::into_inner).extend(runnable);
        };
        let path = directory.path().join("controller.db");
        let store = store::open(&path, Mode::Inline { gate: None }, Arc::new(on_commit));
        let mut world = Self {
            host: ModelHost::default(),
            now: Timestamp(1_767_225_600_000),
            commits: 0,
            store: store.expect("a new database opens"),
            engine: Engine { registry: fault::registry(0), retry: RetryPolicy::default() },
            ids: Arc::new(SeededIds::new(7)),
            wakes,
            taken: 0,
            acknowledged: 0,
            crash: None,
            upgrade: None,
            runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
            _directory: directory,
        };
        let now = world.now;
        world.must(move |tx| {
            let row = host::HostRow {
                host_id: host_id(),
                machine_id: "machine".to_owned(),
                software: "model".to_owned(),
                report: HostReport::default(),
                heartbeat: None,
                online: true,
                last_seen_at: now,
                cordoned: false,
                conflict_with: None,
                conflict_until: Timestamp(0),
                forgotten_at: None,
                registered_at: now,
            };
            host::upsert(tx, &row)?;
            COMMAND_OUTBOX.open(tx, host_id().as_str(), Epoch(1), now)?;
            Ok(())
        });
        world
    }

    /// The controller dies at the `nth` commit from now on, counted from 1.
    pub fn crash_at(&mut self, nth: u32, crash: Crash) {
        self.crash = Some((self.commits + nth, crash));
    }

    /// Behind the `nth` commit from now on another release runs, in which every definition
    /// has another version.
    pub fn upgrade_at(&mut self, nth: u32) {
        self.upgrade = Some(self.commits + nth);
    }

    /// Whether the crash or upgrade that was ordered is still to come.
    pub fn is_pending(&self) -> bool {
        self.crash.is_some() || self.upgrade.is_some()
    }

    /// The controller is another release from now on: every version is `raise` higher.
    pub fn run_release(&mut self, raise: u32) {
        self.engine.registry = fault::registry(raise);
        self.upgrade = None;
        self.lose_memory();
    }

    /// Orders a phone.
    pub fn create(&mut self, name: &str) -> Accepted {
        let order = NewDevice {
            name: name.to_owned(),
            user_id: user(),
            spec: DeviceSpec { cpu_cores: 1.0, memory_mb: 128, ..DeviceSpec::default() },
            host_id: None,
            labels: BTreeMap::new(),
        };
        let ids = Arc::clone(&self.ids);
        let terms = order::Terms { quota: Policy::default(), registry: self.engine.registry };
        let now = self.now;
        self.order(move |tx| {
            order::create(tx, terms, &order, &*ids, now).map_err(|error| Undo::Refused(error.to_string()))
        })
    }

    /// Tells a phone something.
    pub fn verb(&mut self, device: DeviceId, verb: Verb) -> Accepted {
        let (ids, engine, now) = (Arc::clone(&self.ids), self.engine, self.now);
        self.order(move |tx| {
            order::verb(tx, &engine, Policy::default(), device, verb, &*ids, now)
                .map_err(|error| Undo::Refused(error.to_string()))
        })
    }

    /// Orders a recording of a phone that runs.
    pub fn record(&mut self, device: DeviceId) {
        let (ids, now) = (Arc::clone(&self.ids), self.now);
        self.order(move |tx| {
            let spec = RecordingSpec::default();
            recording::order::start(tx, Policy::default(), device, spec, &*ids, now)
                .map_err(|error| Undo::Refused(error.to_string()))
        });
    }

    /// An operator lets a saga go on.
    pub fn resume(&mut self, saga: &SagaId) {
        let (engine, saga, now) = (self.engine, saga.clone(), self.now);
        self.order(move |tx| engine.resume(tx, &saga, now).map_err(|error| Undo::Refused(error.to_string())));
    }

    /// An operator gives the host up, which was silent.
    pub fn forget_host(&mut self) {
        let (engine, now) = (self.engine, self.now);
        self.order(move |tx| {
            host::silence(tx, Timestamp(i64::MAX))?;
            forget::forget(&engine, tx, &host_id(), now).map_err(|error| Undo::Refused(error.to_string()))
        });
    }

    /// What was wrong is not any more, and every saga may look again.
    pub fn heal(&mut self) {
        fault::order(&[]);
        let now = self.now;
        for saga in self.unfinished() {
            self.must(move |tx| Ok(Engine::nudge(tx, &saga.saga_id, now)?));
        }
    }

    /// Applies an item of the host as the stream does, and undoes it. The domain may refuse it;
    /// neither a panic nor the database may.
    ///
    /// # Panics
    /// When one of these does.
    pub fn offer(&mut self, item: &RawValue) {
        let (now, domain, item) = (self.now, self.domain(), item.to_owned());
        let undone = self.commit(move |tx| {
            domain.apply(tx, host_id().as_str(), &item, now)?;
            Err::<(), _>(Undo::Crash)
        });
        if let Commit::Refused(why) = undone {
            panic!("an item of a host: {why}");
        }
    }

    /// A saga's row.
    pub fn saga(&self, saga: &SagaId) -> SagaRow {
        let saga = saga.clone();
        self.read(move |connection| sagas::find(connection, &saga)).expect("sagas are kept")
    }

    /// A saga's story: kind, step and detail of each line.
    pub fn story(&self, saga: &SagaId) -> Vec<sagas::SagaEvent> {
        let saga = saga.clone();
        self.read(move |connection| sagas::events(connection, &saga, 0, 1000))
    }

    /// A device's row.
    pub fn device(&self, device: DeviceId) -> DeviceRow {
        self.read(move |connection| devices::find(connection, device)).expect("devices are kept")
    }

    /// Reads the controller's database.
    pub fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> store::Result<T> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.store.read(job)).expect("the database can be read")
    }

    /// Lets everything happen that happens by itself, until nothing does any more.
    pub fn settle(&mut self) {
        let last = self.commits + MOST_COMMITS;
        while self.turn() {
            assert!(self.commits < last, "it never comes to rest: {:#?}", self.unfinished());
        }
    }

    /// Lets one thing happen. `false`: there is nothing.
    pub fn turn(&mut self) -> bool {
        if self.upgrade.is_some_and(|at| self.commits >= at) {
            self.run_release(1);
        }
        self.take_commands()
            || self.acknowledge()
            || self.apply_event()
            || self.advance_woken()
            || self.look_at_timer()
    }

    /// Everything that is not as it must be when nothing happens any more.
    pub fn inconsistencies(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for saga in self.unfinished() {
            wrong.push(format!("saga {} is {:?} at {}", saga.saga_id, saga.status, saga.current_step));
        }
        let known: Vec<DeviceRow> = self.read(|connection| {
            let mut ids = connection.prepare("SELECT device_id FROM device")?;
            let ids: Vec<String> =
                ids.query_map([], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
            ids.iter()
                .filter_map(|id| id.parse().ok())
                .filter_map(|id| devices::find(connection, id).transpose())
                .collect()
        });
        for device in &known {
            let id = device.device_id;
            let mut say = |what: String| wrong.push(format!("{id}: {what}"));
            if device.command_seq.is_some() || device.command_dirty {
                say("a command is not acknowledged".to_owned());
            }
            let held = |kind| self.read(move |connection| quota::has(connection, id, kind));
            let (reserved, running) = (held(quota::Kind::Device), held(quota::Kind::Running));
            let phase = self.host.phones.get(&id).map_or(Phase::Absent, |phone| phone.facts.phase);
            if device.deleted_at.is_some() {
                if reserved || running || device.status != Status::Deleted || device.ports.is_some() {
                    say(format!("gone, but quota {reserved} {running}, {:?}", device.status));
                }
                for left in self.host.left_of(id) {
                    say(format!("gone, but its host has {left}"));
                }
                continue;
            }
            let rests = device.wish == Wish::Stopped && phase == Phase::Stopped;
            if !reserved || running == rests {
                say(format!("{:?}, {phase:?}, but quota {reserved} {running}", device.wish));
            }
            if device.status != apply::status_of(device) || device.phase != Some(phase) {
                say(format!("shown as {:?}, taken for {:?}, is {phase:?}", device.status, device.phase));
            }
        }
        wrong
    }

    /// Sagas that have not ended.
    pub fn unfinished(&self) -> Vec<SagaRow> {
        let all = self.read(|connection| sagas::page(connection, None, None, "", 100));
        all.into_iter().filter(|saga| !saga.status.is_terminal()).collect()
    }

    fn fault_of(&self, device: Option<DeviceId>) -> Option<Fault> {
        let mine = |saga: &&SagaRow| device.is_none() || saga.device_id == device;
        self.unfinished().iter().filter(mine).find_map(fault::at).filter(|fault| fault.is_of_host())
    }

    fn take_commands(&mut self) -> bool {
        if self.fault_of(None) == Some(Fault::HostDeaf) {
            return false;
        }
        let behind = self.taken;
        let page = self.read(move |connection| {
            COMMAND_OUTBOX.page(connection, host_id().as_str(), behind, 1, usize::MAX)
        });
        let Some(item) = page.first() else { return false };
        let Ok(Decoded::Known(command)) = Command::decode(item) else { panic!("no command: {item}") };
        let about = match &command {
            Command::Desire(desired) => Some(desired.device_id),
            Command::Record(desired) => Some(desired.device_id),
            _ => None,
        };
        let fault = self.fault_of(about);
        self.host.take(&command, fault, self.now);
        self.taken += 1;
        true
    }

    fn acknowledge(&mut self) -> bool {
        let (through, now, domain) = (self.taken, self.now, self.domain());
        if through == self.acknowledged {
            return false;
        }
        match self.commit(move |tx| Ok(domain.acknowledged(tx, host_id().as_str(), through, now)?)) {
            Commit::Done(()) | Commit::Died { stands: true } => self.acknowledged = through,
            Commit::Died { stands: false } => {}
            Commit::Refused(why) => panic!("an acknowledgement was refused: {why}"),
        }
        true
    }

    fn apply_event(&mut self) -> bool {
        let Some(event) = self.host.outbox.first().cloned() else { return false };
        if self.fault_of(None) == Some(Fault::HostMute) {
            return false;
        }
        let (now, domain) = (self.now, self.domain());
        let item = event.encode().expect("events of the model are small");
        let applied = self.commit(move |tx| match domain.apply(tx, host_id().as_str(), &item, now)? {
            Applied::Done => Ok(()),
            other => Err(Undo::Refused(format!("{other:?}"))),
        });
        match applied {
            Commit::Done(()) | Commit::Died { stands: true } => _ = self.host.outbox.remove(0),
            Commit::Died { stands: false } => {}
            Commit::Refused(why) => panic!("a word of the host became a dead letter: {why}"),
        }
        true
    }

    fn advance_woken(&mut self) -> bool {
        let next = self.wakes.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.is_some_and(|saga| {
            self.advance(&saga);
            true
        })
    }

    fn advance(&mut self, saga: &SagaId) {
        let (engine, id, now) = (self.engine, saga.clone(), self.now);
        match self.commit(move |tx| Ok(engine.advance(tx, &id, now)?)) {
            Commit::Done(Next::Runnable) => {
                self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push_back(saga.clone());
            }
            Commit::Done(Next::Rests) | Commit::Died { .. } => {}
            Commit::Refused(why) => {
                let (id, now) = (saga.clone(), self.now);
                self.must(move |tx| Ok(Engine::stop_for_attention(tx, &id, &why, now)?));
            }
        }
    }

    fn look_at_timer(&mut self) -> bool {
        let Some(next) = self.read(sagas::next_due) else { return false };
        self.now = self.now.max(next);
        let now = self.now;
        for saga in self.read(move |connection| sagas::due(connection, now, 100)) {
            self.advance(&saga);
        }
        true
    }

    fn domain(&self) -> FleetDomain {
        let fleet = "fleet".parse().expect("a fleet id");
        FleetDomain { engine: self.engine, fleet, presence: Duration::from_secs(30) }
    }

    fn lose_memory(&mut self) {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// An order is sent again until it is answered, as users do.
    fn order<T: Clone + Send + 'static>(
        &mut self,
        job: impl FnMut(&mut Tx<'_>) -> Result<T, Undo> + Clone + Send + 'static,
    ) -> T {
        loop {
            match self.commit(job.clone()) {
                Commit::Done(value) => return value,
                Commit::Died { stands: false } => {}
                Commit::Died { stands: true } => panic!("the kit does not lose answers to orders"),
                Commit::Refused(why) => panic!("an order was refused: {why}"),
            }
        }
    }

    fn must(&mut self, job: impl FnMut(&mut Tx<'_>) -> Result<(), Undo> + Clone + Send + 'static) {
        self.order(job);
    }

    fn commit<T: Send + 'static>(
        &mut self,
        mut job: impl FnMut(&mut Tx<'_>) -> Result<T, Undo> + Send + 'static,
    ) -> Commit<T> {
        self.commits += 1;
        let crash = self.crash.filter(|(at, _)| *at == self.commits).map(|(_, crash)| crash);
        let result = self.runtime.block_on(self.store.write(move |tx| {
            let value = job(tx)?;
            if crash == Some(Crash::Before) { Err(Undo::Crash) } else { Ok(value) }
        }));
        if crash.is_some() {
            self.crash = None;
            self.lose_memory();
        }
        match result {
            Ok(_) if crash.is_some() => Commit::Died { stands: true },
            Ok(value) => Commit::Done(value),
            Err(WriteError::Refused(Undo::Crash)) => Commit::Died { stands: false },
            Err(WriteError::Refused(Undo::Refused(why)) | WriteError::Panicked(why)) => Commit::Refused(why),
            Err(
                error @ (WriteError::Busy
                | WriteError::Closed
                | WriteError::Unavailable(_)
                | WriteError::Unknown(_)),
            ) => {
                panic!("the database of the kit never fails: {error:?}")
            }
        }
    }
}

fn host_id() -> HostId {
    "host".parse().expect("a host id")
}

fn user() -> UserId {
    "alice".parse().expect("a user id")
}
