//! Recordings of phones' screens: begun, watched, ended, collected.
//!
//! ```text
//!   command ─▶ desire (row, STARTING) ─▶ task (one a recording): look ─▶ plan ─▶ act ─┐
//!   engine event, wish, phone to stop ────▶ wakes it ▲                                │ one transaction:
//!                                                    └───────── transition ◀──────────┘ row + event
//!
//!   launch ──▶ the phone: a session of its own, nobody's child; its pid and start time in a file
//!   wait ◀─── a shell on the phone that returns when that process is gone
//!   stop ──▶ SIGINT, 10 s, SIGHUP, 5 s, SIGKILL; each noted before it is sent, and sent once
//!   collect ◀ the file itself, hard-linked out of the phone's data; checked and hashed
//! ```
//!
//! The row says what is about to be done before it is done, and what it says is enough to go
//! on after a crash: everything of a recording lies in one folder on the phone that only it
//! has, and making that folder is the launch's first step, so that it is launched once.
//!
//! | module | what lives there |
//! |---|---|
//! | [`desire`] | the controller's word becomes a row |
//! | [`plan`] | what to do next; pure |
//! | [`transition`] | what happened becomes a row and an event |
//! | `task` | the loop of one recording; its last steps in `collection` |
//! | `supervisor` | one task a recording |
//! | `deletion` | videos that were deleted by order |
//! | `housekeeping` | recorders without a row, and what is kept for too long |
//! | [`tally`] | numbers for operators |
//! | [`device`] | the real [`Recorder`], over adb |
//! | [`script`] | what it has a phone's shell do, and how the answers are read |
//! | [`video`] | the real [`Videos`]: the files of this host |
//! | [`confined`] | opens files of a phone without being led out of its data |
//! | `inspection` | size, hash and soundness of a file |
//! | [`mp4`] | whether a file is a whole video; sans-IO |

pub mod confined;
mod deletion;
pub mod desire;
pub mod device;
pub(crate) mod housekeeping;
pub(crate) mod inspection;
pub mod mp4;
pub mod phone_state;
pub mod plan;
pub mod script;
pub(crate) mod supervisor;
pub(crate) mod sweeps;
pub mod tally;
mod task;
pub mod transition;
pub mod video;

use crate::store::recording::{PhoneProcess, StopSignal};
use async_trait::async_trait;
use mp4::{Flaw, Movie};
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::RecordingSpec;
use phonefleet_protocol::time::Timestamp;
use std::net::SocketAddr;
use std::time::Duration;

/// Below it on a phone, one folder a recording.
pub const PHONE_FOLDER: &str = "/data/local/tmp/phonefleet";

/// What the operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingSettings {
    /// How long videos are kept.
    pub keep: Duration,
    /// Free bytes below which nothing more is recorded.
    pub min_free_bytes: u64,
}

impl Default for RecordingSettings {
    fn default() -> Self {
        Self { keep: Duration::from_hours(7 * 24), min_free_bytes: 512 << 20 }
    }
}

/// A phone that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phone {
    /// Which device.
    pub device: DeviceId,
    /// Where adb reaches it. Ports pass to other phones: what answers there has to prove
    /// that it is this one.
    pub address: SocketAddr,
}

/// Where a recording is on its phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which recording.
    pub recording: RecordingId,
    /// Its folder as the phone names it.
    pub folder: String,
}

/// Whether a recorder is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It was never launched.
    Never,
    /// It runs.
    Runs(PhoneProcess),
    /// It was launched, and runs no more.
    Ended,
}

/// One look at a recording on its phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whether its recorder is there.
    pub recorder: Recorded,
    /// Start time of the phone's init at the launch, if it is known.
    pub launched_in: Option<u64>,
    /// The same now.
    pub runs_in: Option<u64>,
    /// Size of the video so far.
    pub bytes: u64,
    /// How long its recorder has been there, if that is known.
    pub age: Option<Duration>,
}

/// Something in our folder on a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Of which recording, by the folder's name.
    pub recording: RecordingId,
    /// Its recorder, if it runs.
    pub process: Option<PhoneProcess>,
}

/// What went wrong at the phone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecorderError {
    /// It could not be asked, or did not answer: what was asked may have been done.
    #[error("the phone cannot be asked: {0}")]
    Unreachable(String),
    /// The phone refused; nothing was begun.
    #[error("the phone refused: {0}")]
    Refused(String),
}

/// Recorders on phones.
#[async_trait]
pub trait Recorder: Send + Sync + 'static {
    /// Launches the recorder, unless it ever was, and waits for a moment for its file. Done
    /// twice it is done once.
    async fn launch(
        &self,
        phone: Phone,
        place: &Place,
        spec: &RecordingSpec,
    ) -> Result<Sighting, RecorderError>;

    /// Looks. `known` is the process, once that is known.
    async fn look(
        &self,
        phone: Phone,
        place: &Place,
        known: Option<PhoneProcess>,
    ) -> Result<Sighting, RecorderError>;

    /// Waits on the phone until the process is gone, for at most `most`, then looks. May be
    /// dropped at any time.
    async fn wait(
        &self,
        phone: Phone,
        place: &Place,
        process: PhoneProcess,
        most: Duration,
    ) -> Result<Sighting, RecorderError>;

    /// Sends a signal to this very process, if it lives. Never tried twice inside: a second
    /// SIGINT would tear the file.
    async fn signal(
        &self,
        phone: Phone,
        process: PhoneProcess,
        signal: StopSignal,
    ) -> Result<(), RecorderError>;

    /// Takes care that it is never launched any more; `false`: it was already. `Refused`: the
    /// phone lets nothing be made there.
    async fn forbid(&self, phone: Phone, place: &Place) -> Result<bool, RecorderError>;

    /// Ends a recorder that nobody waits for: it is given ten seconds to finish its file.
    async fn end(&self, phone: Phone, process: PhoneProcess) -> Result<(), RecorderError>;

    /// What there is in our folder.
    async fn list(&self, phone: Phone) -> Result<Vec<Leftover>, RecorderError>;

    /// Removes a recording's folder.
    async fn remove(&self, phone: Phone, recording: RecordingId) -> Result<(), RecorderError>;
}

/// Where a recording's file is, for this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which recording.
    pub recording: RecordingId,
    /// Of which device.
    pub device: DeviceId,
    /// In which of its data.
    pub data_epoch: u32,
    /// Its folder as the phone names it.
    pub folder: String,
    /// The phone, if it runs: for hosts that do not have its data.
    pub phone: Option<Phone>,
    /// Its recorder was not seen to end: what is kept must not be what it writes to.
    pub may_be_written: bool,
}

/// A video that is kept now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVideo {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// What it is.
    pub movie: Result<Movie, Flaw>,
    /// When it was last written, by this host's clock; `None` where that is not known.
    pub written_at: Option<Timestamp>,
}

/// What there was of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The video; `None` when there are no bytes.
    pub video: Option<KeptVideo>,
    /// What the recorder said, shortened.
    pub words: String,
}

/// Why a video could not be collected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VideoError {
    /// Trying again is useless.
    #[error("{0}")]
    Refused(String),
    /// It may work later.
    #[error("{0}")]
    Trouble(String),
    /// This host's disk refuses; it may work later, and the phone has the video meanwhile.
    #[error("{0}")]
    Disk(String),
}

/// The videos that this host keeps.
#[async_trait]
pub trait Videos: Send + Sync + 'static {
    /// Takes a recording's file from its phone, keeps it durably and checks it. `limit`:
    /// bytes that it may have. Done again, it is the same.
    async fn collect(&self, source: &Source, limit: u64) -> Result<Collected, VideoError>;

    /// Removes what is left of it on the phone. Best effort.
    async fn clear(&self, source: &Source);

    /// Deletes a kept video, and what an unfinished try left of it; none is fine.
    async fn delete(&self, device: DeviceId, recording: RecordingId) -> Result<(), VideoError>;

    /// Videos that are kept since before that moment, unfinished ones too.
    async fn kept_before(&self, before: Timestamp) -> Vec<(DeviceId, RecordingId)>;

    /// Bytes that are free where videos are kept.
    async fn free_bytes(&self) -> Result<u64, VideoError>;
}
