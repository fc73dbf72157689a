//! Numbers about recordings since this agent began, for operators; and how far the running
//! ones have come. Counted after the commit that they tell of.

use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::recording::{EndCause, RecordingPhase, RecordingProgress};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many ended how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// `final`, `corrupt` or `failed`.
    pub phase: String,
    /// Why they ended; empty for those that never began.
    pub cause: String,
    /// How many.
    pub count: u64,
}

/// The numbers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Recorders that were seen to run.
    pub started: u64,
    /// Recordings that ended.
    pub ended: Vec<Ends>,
    /// Recorder processes that no row knew; ended.
    pub orphans: u64,
    /// Bytes of videos that were collected.
    pub bytes: u64,
    /// Seconds from the end of recorders to the end of their recordings, added up.
    pub finalise_seconds: f64,
    /// Recordings whose recorder had run and that are over: what the seconds belong to.
    pub finalised: u64,
    /// Seconds of whole videos, added up.
    pub video_seconds: f64,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    ended: BTreeMap<(&'static str, &'static str), u64>,
    progress: BTreeMap<RecordingId, u64>,
}

/// Where it is counted.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Inner>);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers now.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        let ended = inner.ended.iter().map(|((phase, cause), count)| Ends {
            phase: (*phase).to_owned(),
            cause: (*cause).to_owned(),
            count: *count,
        });
        Counts { ended: ended.collect(), ..inner.counts.clone() }
    }

    /// Sizes of the running recordings, as far as they are known.
    pub fn progress(&self) -> Vec<RecordingProgress> {
        let inner = self.lock();
        inner
            .progress
            .iter()
            .map(|(recording, bytes)| RecordingProgress { recording_id: *recording, bytes: *bytes })
            .collect()
    }

    pub(super) fn started(&self) {
        self.lock().counts.started += 1;
    }

    pub(super) fn orphan(&self) {
        self.lock().counts.orphans += 1;
    }

    pub(super) fn reached(&self, recording: RecordingId, bytes: u64) {
        self.lock().progress.insert(recording, bytes);
    }

    pub(super) fn over(&self, recording: RecordingId) {
        self.lock().progress.remove(&recording);
    }

    pub(super) fn ended(&self, phase: RecordingPhase, cause: Option<EndCause>) {
        let cause = cause.map_or("", EndCause::name);
        *self.lock().ended.entry((phase.name(), cause)).or_default() += 1;
    }

    pub(super) fn collected(&self, took: Duration, bytes: u64, video: Duration) {
        let counts = &mut self.lock().counts;
        counts.bytes += bytes;
        counts.finalised += 1;
        counts.finalise_seconds += took.as_secs_f64();
        counts.video_seconds += video.as_secs_f64();
    }
}
