//! What the agent tells of itself: which parts it depends on are there, and since when.
//!
//! Parts report to the [`Board`], the agent is the [`StatusSource`], and the [`Overview`] puts
//! both together for `local_api` and `metrics`. Nothing here decides anything.

use crate::orphan::Report;
use crate::phone::tally::Tally;
use crate::recording::tally::Counts;
use async_trait::async_trait;
use phonefleet_protocol::facts::{DeviceFacts, Reason};
use phonefleet_protocol::host::Capacity;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::recording::RecordingFacts;
use phonefleet_protocol::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// One part that the agent depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The container engine answers.
    Engine,
    /// The adb server answers.
    Adb,
    /// The controller's broker is connected.
    Broker,
    /// The database takes writes.
    Store,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Engine, Self::Adb, Self::Broker, Self::Store];

    /// Its name in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Adb => "adb",
            Self::Broker => "broker",
            Self::Store => "store",
        }
    }
}

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartState {
    /// Whether it can be used.
    pub ready: bool,
    /// Since when it has been so.
    pub since: Timestamp,
    /// Why it cannot be used and what to do; or what is known of one that can.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Where parts report. Cheap to clone.
#[derive(Clone)]
pub struct Board {
    clock: Arc<dyn Clock>,
    parts: Arc<Mutex<BTreeMap<Part, PartState>>>,
}

impl Board {
    /// A board on which no part is ready yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let since = clock.now();
        let unknown = PartState { ready: false, since, detail: "not tried yet".to_owned() };
        let parts = Part::ALL.into_iter().map(|part| (part, unknown.clone())).collect();
        Self { clock, parts: Arc::new(Mutex::new(parts)) }
    }

    /// Notes that a part can be used; `detail` such as its version, or nothing.
    pub fn ready(&self, part: Part, detail: impl Into<String>) {
        self.set(part, true, detail.into());
    }

    /// Notes that a part cannot be used, and why.
    pub fn missing(&self, part: Part, why: impl Into<String>) {
        self.set(part, false, why.into());
    }

    fn set(&self, part: Part, ready: bool, detail: String) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = parts.get(&part);
        let changed = before.is_none_or(|state| state.ready != ready);
        let news = changed || before.is_none_or(|state| state.detail != detail);
        if changed && ready {
            tracing::info!(part = part.name(), detail, "ready");
        } else if news && !ready {
            tracing::warn!(part = part.name(), why = detail, "not ready");
        }
        let since = match before {
            Some(state) if !changed => state.since,
            _ => self.clock.now(),
        };
        parts.insert(part, PartState { ready, since, detail });
    }

    /// Every part as it is now.
    pub fn parts(&self) -> BTreeMap<Part, PartState> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the reconciler and the store know; shown by `/status` and `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshot {
    /// Every device that this host has.
    pub devices: Vec<DeviceFacts>,
    /// Events written and not yet acknowledged by the controller.
    pub outbox_pending: u64,
    /// When the oldest of them was written.
    pub outbox_oldest: Option<Timestamp>,
    /// Ports leased to devices.
    pub ports_leased: u64,
    /// Ports that something else holds, kept out of leasing.
    pub ports_quarantined: u64,
    /// Recordings that are not over, with the size that each has reached.
    pub recordings: Vec<RecordingFacts>,
    /// Numbers about recordings since this agent began.
    pub recording_counts: Counts,
}

/// How the conversation with the controller stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkState {
    /// The controller has introduced itself in this connection and is welcome.
    pub open: bool,
    /// Events that the controller is known to have committed.
    pub acknowledged: u64,
    /// Messages dropped because a queue was full; the stream repeated them.
    pub dropped: u64,
    /// Payloads that were no message of the protocol.
    pub malformed: u64,
    /// Commands that became dead letters.
    pub refused: u64,
    /// Commands of kinds that this version does not know, kept.
    pub unknown: u64,
    /// The newest failure; stays after it has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Whoever can tell a [`Snapshot`]: the agent itself. Answers within a second or fails.
#[async_trait]
pub trait StatusSource: Send + Sync + 'static {
    /// The present state, or why it cannot be told.
    async fn snapshot(&self) -> Result<Snapshot, String>;

    /// Numbers about phones since the agent began.
    fn phones(&self) -> Tally {
        Tally::default()
    }

    /// What each device that cannot go on waits for.
    fn waiting(&self) -> BTreeMap<DeviceId, Reason> {
        BTreeMap::new()
    }

    /// How often the database was damaged, and a new one began.
    fn databases_set_aside(&self) -> u32 {
        0
    }

    /// How the conversation with the controller stands; `None` before it began.
    fn link(&self) -> Option<LinkState> {
        None
    }

    /// What belongs to no device: as seen last, or looked for now, which takes seconds at most.
    async fn orphans(&self, _now: bool) -> Report {
        Report::default()
    }
}

/// Who this agent is. Fixed for its run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its host.
    pub host_id: String,
    /// This run: a random text drawn at the start.
    pub instance: String,
    /// Version of the program.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
}

/// The whole answer of `/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Who answers.
    #[serde(flatten)]
    pub identity: Identity,
    /// What the host takes on; absent is unlimited.
    pub capacity: Capacity,
    /// What it depends on.
    pub parts: BTreeMap<Part, PartState>,
    /// The conversation with the controller.
    pub link: Option<LinkState>,
    /// Devices, outbox and ports; absent while they cannot be told.
    pub snapshot: Option<Snapshot>,
    /// What each device that cannot go on waits for.
    pub waiting: BTreeMap<DeviceId, Reason>,
    /// What belongs to no device, as seen last.
    #[serde(default)]
    pub orphans: Report,
    /// How often this host's database was damaged, and a new one began.
    #[serde(default)]
    pub databases_set_aside: u32,
    /// Why there is no snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Everything that can be told, put together when somebody asks.
pub struct Overview {
    /// Who this is.
    pub identity: Identity,
    /// What the host takes on.
    pub capacity: Capacity,
    /// The parts that it depends on.
    pub board: Board,
    source: OnceLock<Arc<dyn StatusSource>>,
}

impl Overview {
    /// Without a source of snapshots: there is none before the database is open.
    pub fn new(identity: Identity, capacity: Capacity, board: Board) -> Self {
        Self { identity, capacity, board, source: OnceLock::new() }
    }

    /// Takes the source; only the first one counts.
    pub fn set_source(&self, source: Arc<dyn StatusSource>) {
        let _ = self.source.set(source);
    }

    /// Everything as it is now.
    pub async fn status(&self) -> Status {
        let source = self.source.get();
        let told = match source {
            Some(source) => source.snapshot().await,
            None => Err("the database is not open yet".to_owned()),
        };
        let (snapshot, fault) = match told {
            Ok(snapshot) => (Some(snapshot), None),
            Err(fault) => (None, Some(fault)),
        };
        Status {
            identity: self.identity.clone(),
            capacity: self.capacity.clone(),
            parts: self.board.parts(),
            link: source.and_then(|source| source.link()),
            snapshot,
            waiting: source.map(|source| source.waiting()).unwrap_or_default(),
            orphans: self.orphans(false).await,
            databases_set_aside: source.map_or(0, |source| source.databases_set_aside()),
            fault,
        }
    }

    /// Numbers about phones since the agent began.
    pub fn phones(&self) -> Tally {
        self.source.get().map(|source| source.phones()).unwrap_or_default()
    }

    /// What belongs to no device, as seen last or `now`.
    pub async fn orphans(&self, now: bool) -> Report {
        match self.source.get() {
            Some(source) => source.orphans(now).await,
            None => Report::default(),
        }
    }
}

impl fmt::Display for Status {
    /// For people: what is wrong stands where it is seen.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = &self.identity;
        writeln!(out, "host {}, agent {}, up since {}", who.host_id, who.version, who.started_at)?;
        let limit = |limit: Option<String>| limit.unwrap_or_else(|| "unlimited".to_owned());
        writeln!(
            out,
            "capacity: devices {}, cpu cores {}, memory {}",
            limit(self.capacity.max_devices.map(|value| value.to_string())),
            limit(self.capacity.cpu_cores.map(|value| value.to_string())),
            limit(self.capacity.memory_mb.map(|value| format!("{value} MB"))),
        )?;
        for (part, state) in &self.parts {
            let word = if state.ready { "ready" } else { "NOT READY" };
            let detail = if state.detail.is_empty() { String::new() } else { format!(": {}", state.detail) };
            writeln!(out, "{:<8} {word} since {}{detail}", part.name(), state.since)?;
        }
        if let Some(link) = &self.link {
            let word = if link.open { "open" } else { "CLOSED" };
            writeln!(out, "link     {word}, {} events acknowledged", link.acknowledged)?;
        }
        if self.databases_set_aside > 0 {
            writeln!(out, "the database was damaged and began anew {} times", self.databases_set_aside)?;
        }
        if let Some(fault) = &self.fault {
            writeln!(out, "devices, outbox and ports cannot be told: {fault}")?;
        }
        let Some(snapshot) = &self.snapshot else { return Ok(()) };
        writeln!(
            out,
            "outbox: {} pending{}; ports: {} leased, {} in quarantine",
            snapshot.outbox_pending,
            snapshot.outbox_oldest.map(|oldest| format!(", the oldest of {oldest}")).unwrap_or_default(),
            snapshot.ports_leased,
            snapshot.ports_quarantined,
        )?;
        if !self.orphans.orphans.is_empty() {
            writeln!(out, "{} orphans: see `phonefleet-agent orphans`", self.orphans.orphans.len())?;
        }
        writeln!(out, "{} devices", snapshot.devices.len())?;
        for device in &snapshot.devices {
            write!(out, "  {} {:<8}", device.device_id, device.phase.name())?;
            if let Some(ports) = device.ports {
                write!(out, " adb {} webrtc {}", ports.adb, ports.webrtc)?;
            }
            if let Some(reason) = self.waiting.get(&device.device_id).or(device.reason.as_ref()) {
                write!(out, " {reason}")?;
            }
            writeln!(out)?;
        }
        for recording in &snapshot.recordings {
            write!(
                out,
                "  recording {} of {} {:<9}",
                recording.recording_id,
                recording.device_id,
                recording.phase.name()
            )?;
            if let Some(since) = recording.started_at {
                write!(out, " since {since}")?;
            }
            writeln!(out, " {} bytes", recording.bytes.unwrap_or(0))?;
        }
        if snapshot.recording_counts.orphans > 0 {
            writeln!(out, "{} recorders without a row were ended", snapshot.recording_counts.orphans)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    struct Ticking(AtomicI64);
    impl Clock for Ticking {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    #[test]
    fn since_tells_of_the_last_change_only() {
        let board = Board::new(Arc::new(Ticking(AtomicI64::new(0))));
        let adb = |board: &Board| board.parts()[&Part::Adb].clone();
        board.missing(Part::Adb, "gone");
        assert_eq!(adb(&board).since, Timestamp(0));
        board.ready(Part::Adb, "");
        assert_eq!(adb(&board), PartState { ready: true, since: Timestamp(1), detail: String::new() });
        board.ready(Part::Adb, "41");
        assert_eq!(adb(&board).since, Timestamp(1));
    }
}
