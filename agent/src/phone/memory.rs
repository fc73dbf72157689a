//! What a device's task remembers and may forget: a restart of the agent begins without it.

use super::transition::Question;
use crate::adb::boot_ladder::BootLadder;
use phonefleet_protocol::facts::Reason;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Wakes a task; what happened while it was at work is not lost.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    notify: Notify,
    raised: AtomicBool,
}

impl Wake {
    /// Something happened: look again.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    /// Whether something happened since the last look, which begins now.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::SeqCst)
    }

    /// Resolves at once while something is not looked at, and else when it happens.
    pub async fn raised(&self) {
        while !self.raised.load(Ordering::SeqCst) {
            self.notify.notified().await;
        }
    }
}

/// Why a start is in doubt. An engine that dies in mid-start can leave a phone that runs without
/// a network, or give its address to two; such a phone gets a new container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The engine went away since.
    EngineLost,
    /// An earlier run of this agent made it, and whether the engine went away since is not known.
    NotSeen,
}

impl Doubt {
    /// For how long nothing may be heard of the phone, out of a whole boot's time: the restart of
    /// an agent alone must not cut a slow boot short.
    pub fn patience(self, boot: Duration) -> Duration {
        match self {
            Self::EngineLost => boot / 4,
            Self::NotSeen => boot / 4 * 3,
        }
    }
}

/// A boot under way.
pub(super) struct Boot {
    pub container: String,
    pub ladder: BootLadder,
    pub deadline: Instant,
}

/// A shutdown that Android was asked for.
pub(super) struct Shutdown {
    pub container: String,
    pub kill_at: Instant,
}

/// What a task may forget.
pub(super) struct Memory {
    pub question: Option<Question>,
    /// When this task first saw the question: from here an answer's deadline counts.
    pub asked_at: Instant,
    pub trouble: Option<Reason>,
    /// Failures in a row.
    pub tries: u32,
    pub ports_tested: bool,
    pub erased: bool,
    pub start_seen: bool,
    /// Why and since when the newest start is in doubt: what becomes of it may be the engine's
    /// doing.
    pub doubt: Option<(Doubt, Instant)>,
    /// Until when an engine that came back may still tell of ends before its death: one that
    /// was stopped then was seen to run first, and to end only after a start.
    pub echo_until: Option<Instant>,
    /// When the container was started, if this task did and its boot is not over.
    pub started_at: Option<Instant>,
    /// Losses of the engine that were taken note of; `None` before the first look.
    pub engine_losses: Option<u64>,
    /// The container whose phone was reached over adb since it runs.
    pub verified: Option<String>,
    pub boot: Option<Boot>,
    pub shutdown: Option<Shutdown>,
    /// Until then the phone's end waits for what records on it.
    pub recording_ends_by: Option<Instant>,
    pub probe_at: Instant,
    /// Looks in a row at which a phone that runs did not answer.
    pub misses: u32,
    /// How often it could not be built up again since it was what was asked for.
    pub setbacks: u32,
    /// Nothing is built up before this moment.
    pub build_at: Option<Instant>,
}

const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MOST: Duration = Duration::from_secs(10);
const SETBACK_FIRST: Duration = Duration::from_secs(5);
const SETBACK_MOST: Duration = Duration::from_mins(5);

impl Memory {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            question: None,
            asked_at: now,
            trouble: None,
            tries: 0,
            ports_tested: false,
            erased: false,
            start_seen: false,
            doubt: None,
            echo_until: None,
            started_at: None,
            engine_losses: None,
            verified: None,
            boot: None,
            shutdown: None,
            recording_ends_by: None,
            probe_at: now,
            misses: 0,
            setbacks: 0,
            build_at: None,
        }
    }

    /// Takes note of what is asked: a new question is tried from its beginning.
    pub fn hear(&mut self, question: Question) {
        if self.question != Some(question) {
            self.question = Some(question);
            self.asked_at = Instant::now();
            self.trouble = None;
            self.tries = 0;
            self.ports_tested = false;
            self.erased = false;
            self.no_setback();
        }
    }

    /// It could not be built up again, for a reason that may go: a pause before the next try.
    pub fn setback(&mut self) {
        let wait = SETBACK_FIRST.saturating_mul(1 << self.setbacks.min(8)).min(SETBACK_MOST);
        self.setbacks = self.setbacks.saturating_add(1);
        self.build_at = Some(Instant::now() + wait);
    }

    /// What is left of that pause.
    pub fn pause(&self) -> Option<Duration> {
        let left = self.build_at?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// It is what was asked for, or something else is asked for.
    pub fn no_setback(&mut self) {
        self.setbacks = 0;
        self.build_at = None;
    }

    /// The container is another one, or does not run any more.
    pub fn container_changed(&mut self) {
        self.start_seen = false;
        self.started_at = None;
        self.verified = None;
        self.boot = None;
        self.shutdown = None;
        self.misses = 0;
    }

    /// How long to wait after one more failure in a row.
    pub fn back_off(&mut self) -> Duration {
        let wait = BACK_OFF_FIRST.saturating_mul(1 << self.tries.min(5)).min(BACK_OFF_MOST);
        self.tries = self.tries.saturating_add(1);
        wait
    }
}
