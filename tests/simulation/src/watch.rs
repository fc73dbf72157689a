//! Looks at every instant: after each commit of the controller, and at each change of a
//! container. What it counts, it counts by itself: living devices and running containers,
//! never the rows in which the controller keeps its own sums.

use crate::scenario::{Touches, host_name};
use crate::trace::Trace;
use phonefleet_protocol::id::DeviceId;
use phonefleet_store::rusqlite::{self, Connection, OpenFlags};
use phonefleet_tests::simulation::machine::Change;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The watch of one run.
pub struct Watch {
    trace: Trace,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    violations: Vec<String>,
    phones: BTreeMap<String, PhoneLog>,
    running: BTreeSet<String>,
    rows: BTreeMap<String, Row>,
    limits: BTreeMap<String, Limits>,
    usage: BTreeMap<String, Usage>,
    /// How far each epoch of each host was applied.
    cursors: BTreeMap<(String, i64), i64>,
    /// Hosts that have a cursor.
    peers: BTreeSet<String>,
    /// The newest event of each epoch of each host that took effect.
    applied: BTreeMap<(String, u64), u64>,
    /// Sagas that are completed.
    completed: BTreeSet<String>,
    /// Hosts whose phones may have been touched by a fault.
    touched: BTreeSet<String>,
    everything_touched: bool,
    /// Devices that have a container.
    present: BTreeSet<String>,
    /// Devices that are history for the controller.
    gone: BTreeSet<String>,
    /// What was counted before says nothing about now.
    fresh: bool,
    /// Engines may run what the controller has forgotten.
    forgetful: bool,
}

/// What a device's containers went through, on all machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhoneLog {
    /// Starts.
    pub starts: u64,
    /// Ends of one that ran.
    pub ends: u64,
}

/// A living device as the controller's row has it.
#[derive(Clone, PartialEq)]
struct Row {
    user: String,
    host: String,
    wants_to_run: bool,
    cores: f64,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Limits {
    devices: Option<i64>,
    running: Option<i64>,
    cores: Option<f64>,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Usage {
    devices: i64,
    running: i64,
    cores: f64,
}

/// `maxDevices` of a user who was given none: the controller's default policy.
const DEFAULT_DEVICES: i64 = 5;

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(trace: Trace) -> Self {
        Self { trace, state: Mutex::new(State { fresh: true, ..State::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody else who looks at every instant has found something.
    pub fn accuse(&self, words: String) {
        let mut state = self.lock();
        if !state.forgetful {
            state.violate(&self.trace, words);
        }
    }

    /// The same, of what no lost database excuses.
    pub fn convict(&self, words: String) {
        self.lock().violate(&self.trace, words);
    }

    /// A fault begins that may touch these phones.
    pub fn touch(&self, touches: Touches) {
        let mut state = self.lock();
        match touches {
            Touches::Nothing => {}
            Touches::Host(host) => _ = state.touched.insert(host_name(host)),
            Touches::Everything => state.everything_touched = true,
        }
    }

    /// An event of a host took effect at the controller: each does so once, in order.
    pub fn applied(&self, host: &str, epoch: u64, number: u64) {
        let mut state = self.lock();
        let before = state.applied.insert((host.to_owned(), epoch), number);
        // Where in an epoch a restored controller begins again, only its cursor knows.
        let fits = before.map_or(number == 1 || state.forgetful, |before| number == before + 1);
        if !fits {
            let words = format!("events: number {number} of {host} took effect after {before:?}");
            state.violate(&self.trace, words);
        }
    }

    /// What was wrong so far.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// What became of every phone.
    pub fn phones(&self) -> BTreeMap<String, PhoneLog> {
        self.lock().phones.clone()
    }

    /// A database was put back to an earlier time, or a machine was exchanged.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.fresh = true;
        state.forgetful = true;
        state.cursors.clear();
        state.applied.clear();
    }

    /// A container on host number `host` changed. `counts`: it is one of the fleet's.
    pub fn container(&self, host: usize, device: Option<DeviceId>, change: Change) {
        let Some(device) = device.map(|device| device.to_string()) else {
            self.trace.say(format_args!("host-{} container of nobody: {change:?}", host + 1));
            return;
        };
        self.trace.say(format_args!("host-{} container of {}: {change:?}", host + 1, short(&device)));
        let mut state = self.lock();
        let log = state.phones.entry(device.clone()).or_default();
        match change {
            Change::Created => _ = state.present.insert(device),
            Change::Started => {
                log.starts += 1;
                state.running.insert(device);
            }
            Change::Ended(_) => {
                log.ends += 1;
                state.running.remove(&device);
            }
            Change::Removed(ran) => {
                log.ends += u64::from(ran);
                state.running.remove(&device);
                state.present.remove(&device);
            }
        }
        state.judge(&self.trace);
    }

    /// Containers of an exchanged machine are nobody's concern any more.
    pub fn machine_gone(&self, devices: &[DeviceId]) {
        let mut state = self.lock();
        for device in devices {
            state.running.remove(&device.to_string());
            state.present.remove(&device.to_string());
        }
    }

    /// What a controller over this database calls after each commit.
    pub fn commits_of(self: &Arc<Self>, database: &Path) -> Arc<dyn Fn() + Send + Sync> {
        let (watch, database) = (Arc::clone(self), database.to_owned());
        let connection = Mutex::new(None);
        Arc::new(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            watch.commit(&mut connection, &database);
        })
    }

    fn commit(&self, connection: &mut Option<Connection>, database: &PathBuf) {
        if connection.is_none() {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            *connection = Connection::open_with_flags(database, flags).ok();
        }
        let Some(connection) = connection else { return };
        match read(connection) {
            Ok(read) => self.lock().take(read, &self.trace),
            Err(error) => self.trace.say(format_args!("the watch cannot read: {error}")),
        }
    }
}

/// The first digits of a device's random part: enough to tell devices of one run apart.
pub fn short(device: &str) -> &str {
    device.get(24..30).unwrap_or(device)
}

/// Living devices. What is on its way up again may run, whatever its row wishes meanwhile.
const RIGHTS: &str = "SELECT device_id, user_id, wish = 'running' OR EXISTS (SELECT 1 FROM saga_state AS s
        WHERE s.saga_id = d.saga_id AND s.ended_at IS NULL AND s.status = 'RUNNING'
            AND s.type IN ('DEVICE_CREATION', 'DEVICE_START', 'DEVICE_REBOOT', 'DEVICE_RESET')), cpu_cores, host_id
    FROM device AS d WHERE deleted_at IS NULL";

struct Read {
    rows: BTreeMap<String, Row>,
    limits: BTreeMap<String, Limits>,
    cursors: BTreeMap<String, (i64, i64)>,
    gone: BTreeSet<String>,
    /// Completed sagas: id, type, device.
    completed: Vec<(String, String, String)>,
}

fn read(connection: &Connection) -> rusqlite::Result<Read> {
    let rows = connection
        .prepare_cached(RIGHTS)?
        .query_map([], |row| {
            let (user, wants_to_run, cores) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get(0)?, Row { user, host: row.get(4)?, wants_to_run, cores }))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let limits = connection
        .prepare_cached(
            "SELECT user_id, max_devices, max_concurrent_devices, total_cpu_cores FROM quota_limit",
        )?
        .query_map([], |row| {
            Ok((row.get(0)?, Limits { devices: row.get(1)?, running: row.get(2)?, cores: row.get(3)? }))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let cursors = connection
        .prepare_cached("SELECT peer, epoch, through FROM inbox_cursor")?
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect::<rusqlite::Result<_>>()?;
    let gone = connection
        .prepare_cached("SELECT device_id FROM device WHERE deleted_at IS NOT NULL")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let completed = connection
        .prepare_cached("SELECT saga_id, type, device_id FROM saga_state WHERE status = 'COMPLETED' AND device_id IS NOT NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Read { rows, limits, cursors, gone, completed })
}

impl State {
    fn take(&mut self, read: Read, trace: &Trace) {
        let peers: BTreeSet<String> = read.cursors.keys().cloned().collect();
        for (peer, (epoch, through)) in read.cursors {
            let known = |(of, one): &&(String, i64)| *of == peer && *one != epoch;
            if !self.forgetful
                && !self.cursors.contains_key(&(peer.clone(), epoch))
                && self.cursors.keys().any(|key| known(&key))
            {
                self.violate(
                    trace,
                    format!("events: the log of {peer} began anew, and nothing was restored"),
                );
            }
            let reached = self.cursors.entry((peer.clone(), epoch)).or_insert(through);
            if *reached > through {
                let words = format!("events: the cursor of {peer} went back from {reached} to {through}");
                *reached = through;
                self.violate(trace, words);
            } else {
                *reached = through;
            }
        }
        // A host that was known has no cursor any more.
        let lost: Vec<_> = self.peers.difference(&peers).filter(|_| !self.forgetful).cloned().collect();
        self.peers = peers;
        for peer in lost {
            self.violate(trace, format!("events: the cursor of {peer} is lost"));
        }
        let early =
            read.gone.difference(&self.gone).filter(|id| self.present.contains(*id) && !self.forgetful);
        let early: Vec<_> = early.cloned().collect();
        for device in early {
            self.violate(trace, format!("order: {device} is gone for its user, and its container is there"));
        }
        self.gone = read.gone;
        self.rows = read.rows;
        self.limits = read.limits;
        self.look_at_completed(read.completed, trace);
        self.judge(trace);
    }

    /// A saga is completed when its phone is what was asked for, and not before.
    fn look_at_completed(&mut self, completed: Vec<(String, String, String)>, trace: &Trace) {
        for (saga, kind, device) in completed {
            if !self.completed.insert(saga) || self.fresh || self.forgetful || self.everything_touched {
                continue;
            }
            let Some(row) = self.rows.get(&device).filter(|row| !self.touched.contains(&row.host)) else {
                continue;
            };
            let should_run = match kind.as_str() {
                "DEVICE_CREATION" | "DEVICE_START" | "DEVICE_REBOOT" | "DEVICE_RESET" => true,
                "DEVICE_STOP" => false,
                _ => continue,
            };
            if self.running.contains(&device) != should_run {
                let runs = if should_run { "does not run" } else { "runs" };
                let words = format!("order: {kind} of {device} is completed, and it {runs} at {}", row.host);
                self.violate(trace, words);
            }
        }
    }

    /// Nobody takes more than the limits, unless they were lowered under what was taken.
    fn judge(&mut self, trace: &Trace) {
        let mut usage: BTreeMap<String, Usage> = BTreeMap::new();
        for (device, row) in &self.rows {
            let of = usage.entry(row.user.clone()).or_default();
            of.devices += 1;
            of.cores += row.cores;
            let runs = !self.forgetful && self.running.contains(device);
            of.running += i64::from(row.wants_to_run || runs);
        }
        let before = std::mem::replace(&mut self.usage, usage);
        if std::mem::take(&mut self.fresh) {
            return;
        }
        let mut found = Vec::new();
        for (user, now) in &self.usage {
            let before = before.get(user).copied().unwrap_or_default();
            let limits = self.limits.get(user).copied().unwrap_or_default();
            let devices = limits.devices.unwrap_or(DEFAULT_DEVICES);
            if now.devices > devices && now.devices > before.devices {
                found.push(format!("quota: {user} has {} devices and may have {devices}", now.devices));
            }
            if let Some(most) =
                limits.running.filter(|most| now.running > *most && now.running > before.running)
            {
                found.push(format!("quota: {user} has {} devices that run and may have {most}", now.running));
            }
            if let Some(most) =
                limits.cores.filter(|most| now.cores > most + 1e-6 && now.cores > before.cores + 1e-6)
            {
                found.push(format!("quota: {user} has {} processors and may have {most}", now.cores));
            }
        }
        for words in found {
            self.violate(trace, words);
        }
    }

    fn violate(&mut self, trace: &Trace, words: String) {
        trace.say(format_args!("VIOLATION {words}"));
        self.violations.push(words);
    }
}
