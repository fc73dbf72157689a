//! What the agent tells of itself: which parts it depends on are there, and since when.
//!
//! Parts report to the [`Board`]; `local_api` shows it. Nothing here decides anything.

use async_trait::async_trait;
use phonefleet_protocol::facts::DeviceFacts;
use phonefleet_protocol::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Whoever can tell a [`Snapshot`]: the agent itself. Answers within a second or fails.
#[async_trait]
pub trait StatusSource: Send + Sync + 'static {
    /// The present state, or why it cannot be told.
    async fn snapshot(&self) -> Result<Snapshot, String>;
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
    pub capacity: phonefleet_protocol::host::Capacity,
    /// What it depends on.
    pub parts: BTreeMap<Part, PartState>,
    /// Devices, outbox and ports; absent while they cannot be told.
    pub snapshot: Option<Snapshot>,
    /// Why there is no snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
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
