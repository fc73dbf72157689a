//! One database design for both daemons: SQLite with group commit.
//!
//! ```text
//!   callers ──write(job)──▶ bounded queue ──▶ writer: BEGIN IMMEDIATE
//!      ▲                                              job, job, job …  (whatever has queued)
//!      │                                              COMMIT  (one fsync for all of them)
//!      └──── answer, after the commit ◀───────────────┘ └─▶ notices to whoever must wake
//!   callers ──read(job)───▶ reader connections (WAL: they never wait for the writer)
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`handle`] | the store handle: opening, writing, reading |
//! | [`writer`] | the batch, and the rules for errors |
//! | `queue`, `job`, [`transaction`] | what waits for the writer, one write, and what it sees |
//! | `reader`, `connection` | reads beside the writer; how a connection is set up |
//! | [`ballast`] | room that is kept for a full disk |
//! | [`damage`] | a damaged database is set aside |
//! | [`migration`] | opening, locking and upgrading a database |
//! | [`aside`] | bounds of what was put aside |
//! | [`stream_log`], `tail` | the tables of the reliable stream: log, cursor, dead letters |
//!
//! Jobs are pure: they touch the transaction and nothing else, because a batch may be
//! run again. What must happen after the commit is a notice. The store runs on a thread
//! of its own, or inline in the caller for simulations on virtual time.

pub mod aside;
pub mod ballast;
mod connection;
pub mod damage;
pub mod handle;
mod job;
pub mod migration;
mod queue;
mod reader;
pub mod stream_log;
mod tail;
pub mod transaction;
pub mod writer;

pub use handle::{CommitGate, Mode, Options, Store};
pub use job::WriteError;
pub use migration::{Migration, OpenError};
pub use reader::ReadError;
pub use rusqlite;
pub use transaction::Tx;
