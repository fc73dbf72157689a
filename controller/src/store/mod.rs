//! All SQL of the controller, by table, as plain functions over a transaction or a
//! reader's connection. Nothing here decides anything.

pub mod device;
pub mod event_outbox;
pub mod host;
pub mod idempotency;
pub mod meta;
pub mod overview;
pub mod quota;
pub mod recording;
pub mod saga;
pub mod totals;

use phonefleet_protocol::id::{HostId, SagaId};
use phonefleet_protocol::stream::Epoch;
use phonefleet_store::migration::Schema;
use phonefleet_store::{Migration, OpenError, Options};
use std::path::Path;
use std::sync::Arc;

/// Every migration of the controller's database; append-only.
pub const SCHEMA: Schema = Schema {
    component: "controller",
    migrations: &[
        Migration {
            number: 1,
            name: "0001_stream",
            sql: include_str!("../../../migrations/controller/0001_stream.sql"),
        },
        Migration {
            number: 2,
            name: "0002_fleet",
            sql: include_str!("../../../migrations/controller/0002_fleet.sql"),
        },
        Migration {
            number: 3,
            name: "0003_recording",
            sql: include_str!("../../../migrations/controller/0003_recording.sql"),
        },
        Migration {
            number: 4,
            name: "0004_recording_lists",
            sql: include_str!("../../../migrations/controller/0004_recording_lists.sql"),
        },
        Migration {
            number: 5,
            name: "0005_recording_bytes",
            sql: include_str!("../../../migrations/controller/0005_recording_bytes.sql"),
        },
        Migration {
            number: 6,
            name: "0006_question",
            sql: include_str!("../../../migrations/controller/0006_question.sql"),
        },
        Migration {
            number: 7,
            name: "0007_totals",
            sql: include_str!("../../../migrations/controller/0007_totals.sql"),
        },
        Migration {
            number: 8,
            name: "0008_lists",
            sql: include_str!("../../../migrations/controller/0008_lists.sql"),
        },
    ],
};

/// What a commit makes others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A host's log has a new command.
    Commands(HostId),
    /// A saga can go on at once.
    SagaRunnable(SagaId),
    /// A saga wants to be looked at later.
    SagaDue(phonefleet_protocol::time::Timestamp),
    /// A saga ended: for the metrics.
    SagaEnded(Box<SagaEnd>),
    /// A step of a saga was retried or compensated: for the metrics.
    SagaStep {
        /// Type of the saga.
        saga_type: &'static str,
        /// The step.
        step: &'static str,
        /// `true` for a compensation, `false` for a retry.
        compensated: bool,
    },
    /// A recording ended: for the metrics.
    RecordingEnded(RecordingEnd),
    /// An event of a host took effect: for the simulation, which alone is told.
    EventApplied {
        /// The host.
        host: HostId,
        /// Which log of it.
        epoch: Epoch,
        /// Its number there.
        number: u64,
    },
}

/// How a recording ended, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingEnd {
    /// `FINAL`, `CORRUPT` or `FAILED`.
    pub status: &'static str,
    /// Why it ended, as the host says; `NONE` where it never ran.
    pub cause: &'static str,
    /// Length of a whole video, ms.
    pub duration_ms: Option<u64>,
}

/// How a saga ended, for the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaEnd {
    /// Its type.
    pub saga_type: String,
    /// `completed`, `failed`, `timeout` or `cancelled`.
    pub result: &'static str,
    /// From start to end, ms.
    pub duration_ms: u64,
}

/// A transaction of the controller.
pub type Tx<'a> = phonefleet_store::Tx<'a, Notice>;
/// The controller's database.
pub type Store = phonefleet_store::Store<Notice>;
/// What SQL can answer with.
pub type Result<T> = std::result::Result<T, phonefleet_store::rusqlite::Error>;

/// Opens the database at `path`.
///
/// # Errors
/// See [`OpenError`].
pub fn open(
    path: &Path,
    mode: phonefleet_store::Mode,
    on_commit: Arc<dyn Fn(Vec<Notice>) + Send + Sync>,
) -> std::result::Result<Store, OpenError> {
    let options = Options { path: path.to_owned(), schema: SCHEMA, mode };
    Store::open(&options, move |notices| on_commit(notices))
}

/// A column whose text this program cannot read: a row of a newer version, or damage.
pub(crate) fn unreadable(
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> phonefleet_store::rusqlite::Error {
    phonefleet_store::rusqlite::Error::FromSqlConversionFailure(
        0,
        phonefleet_store::rusqlite::types::Type::Text,
        error.into(),
    )
}

/// JSON of a value that always can be written.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(unreadable)
}

/// Processors of a total, which counts billionths.
pub(crate) fn cpu_cores(nano_cpus: i64) -> f64 {
    nano_cpus as f64 / 1e9
}
