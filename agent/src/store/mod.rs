//! The agent's database: all of its SQL.
//!
//! | module | what lives there |
//! |---|---|
//! | [`device`] | what each device shall be, and how far it is |
//! | [`port_lease`] | who has which port, and which ports are in quarantine |
//! | [`outbox`] | events for the controller |
//! | [`recording`] | what each recording shall be, how far it is, and what is kept |
//! | [`process`] | child processes that outlive the agent |
//! | [`meta`] | single facts, such as the pinned fleet |
//!
//! Functions are synchronous and run inside a transaction of
//! [`phonefleet_store::Store::write`]; what they announce is sent to the agent after the commit.

pub mod device;
pub mod meta;
pub mod outbox;
pub mod port_lease;
pub mod process;
pub mod recording;

use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_store::damage::times_set_aside;
use phonefleet_store::migration::Schema;
use phonefleet_store::rusqlite::types::Type;
use phonefleet_store::{Migration, Mode, OpenError, Options, Store, rusqlite};
use std::path::Path;
use tokio::sync::mpsc;

/// Every migration of the agent's database.
pub const SCHEMA: Schema = Schema {
    component: "agent",
    migrations: &[
        Migration {
            number: 1,
            name: "0001_stream.sql",
            sql: include_str!("../../../migrations/agent/0001_stream.sql"),
        },
        Migration {
            number: 2,
            name: "0002_devices.sql",
            sql: include_str!("../../../migrations/agent/0002_devices.sql"),
        },
        Migration {
            number: 3,
            name: "0003_recording.sql",
            sql: include_str!("../../../migrations/agent/0003_recording.sql"),
        },
        Migration {
            number: 4,
            name: "0004_recording_open.sql",
            sql: include_str!("../../../migrations/agent/0004_recording_open.sql"),
        },
        Migration {
            number: 5,
            name: "0005_recording_deleted.sql",
            sql: include_str!("../../../migrations/agent/0005_recording_deleted.sql"),
        },
        Migration {
            number: 6,
            name: "0006_question.sql",
            sql: include_str!("../../../migrations/agent/0006_question.sql"),
        },
    ],
};

/// The name of the one peer: of the agent's own log, and of its inbox.
pub const CONTROLLER: &str = "controller";

/// What the agent hears after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There are new events for the controller.
    OutboxGrew,
    /// A device's row changed: its task has to look.
    Device(DeviceId),
    /// A recording's row changed: its task has to look.
    Recording(RecordingId),
}

/// A transaction of the agent's database.
pub type Tx<'a> = phonefleet_store::Tx<'a, Notice>;

/// The opened database, and where its notices arrive.
pub struct AgentStore {
    /// Handle for reading and writing; cheap to clone.
    pub store: Store<Notice>,
    /// How often the database was damaged so far, and a new one took its place.
    pub times_set_aside: u32,
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    pub(crate) announce: mpsc::UnboundedSender<Notice>,
}

/// Opens, locks and migrates the database at `path`, whose directory must exist. A damaged one
/// is set aside: what was in it comes back from the engine's labels, which are parked, and from
/// the controller, which names its devices again when it meets the new log.
pub fn open(path: &Path, mode: Mode) -> Result<AgentStore, OpenError> {
    let (announce, notices) = mpsc::unbounded_channel();
    let sender = announce.clone();
    let options = Options { path: path.to_owned(), schema: SCHEMA, mode };
    let (store, _) = Store::open_or_set_aside(&options, move |committed| {
        for notice in committed {
            // Without an agent (a command that only looks) nobody listens.
            let _ = sender.send(notice);
        }
    })?;
    Ok(AgentStore { store, times_set_aside: times_set_aside(path), notices, announce })
}

/// A column whose text is not what this program writes: the row of a newer program, or damage.
fn unreadable(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

/// A value that cannot be written as JSON.
fn unwritable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
