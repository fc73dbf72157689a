//! The store handle: opening, writing, reading.

use crate::ballast::Ballast;
use crate::connection::connect;
use crate::damage::{self, Place};
use crate::job::{self, WriteError};
use crate::migration::{self, OpenError, Schema};
use crate::queue::{self, Queued};
use crate::reader::{ReadError, Readers};
use crate::tail::Tails;
use crate::transaction::Tx;
use crate::writer::Writer;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Whether the store has a thread of its own.
#[derive(Clone, Default)]
pub enum Mode {
    /// A writer thread with group commit, `synchronous=FULL`: for daemons.
    #[default]
    Threaded,
    /// Every job runs in the caller, on virtual time if need be, without waiting for the
    /// disk: for simulations, in which the process itself never dies.
    Inline {
        /// Passed after every commit, before the caller is answered: where a simulated
        /// crash falls between a commit and its answer.
        gate: Option<Arc<dyn CommitGate>>,
    },
}

/// Where a simulation may stop a caller for good, right after its commit.
pub trait CommitGate: Send + Sync {
    /// Resolves when the caller may go on.
    fn pass(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// How to open a store.
#[derive(Clone)]
pub struct Options {
    /// The database file. Its directory must exist.
    pub path: PathBuf,
    /// Whose schema it has.
    pub schema: Schema,
    /// Threaded or inline.
    pub mode: Mode,
}

enum Engine<N> {
    Threaded { queue: mpsc::Sender<Queued<N>>, readers: Arc<Readers> },
    Inline { writer: Mutex<Option<Box<Writer<N>>>>, gate: Option<Arc<dyn CommitGate>> },
}

/// A cheap handle to one database.
pub struct Store<N> {
    engine: Arc<Engine<N>>,
    /// None in simulations.
    ballast: Option<Arc<Ballast>>,
    /// Held, not read: it keeps other processes away while any handle lives.
    lock: Arc<File>,
}

impl<N> Clone for Store<N> {
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine), ballast: self.ballast.clone(), lock: Arc::clone(&self.lock) }
    }
}

impl<N: Send + 'static> Store<N> {
    /// Opens, locks and migrates a database; makes one, unless there was one before. `on_commit`
    /// gets the notices of each commit; it must not block.
    pub fn open(
        options: &Options,
        on_commit: impl Fn(Vec<N>) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let lock = migration::lock(&options.path)?;
        migration::not_gone(&lock, &options.path)?;
        if let Some(why) = damage::damage(&options.path) {
            return Err(OpenError::Damaged { path: options.path.clone(), why });
        }
        Self::open_locked(options, lock, on_commit)
    }

    /// As [`Self::open`], for daemons that can do without what the database had: one that is gone
    /// is made anew, one that is damaged is set aside. Also returns where the damaged one is now.
    pub fn open_or_set_aside(
        options: &Options,
        on_commit: impl Fn(Vec<N>) + Send + Sync + 'static,
    ) -> Result<(Self, Option<PathBuf>), OpenError> {
        let lock = migration::lock(&options.path)?;
        let mut aside = None;
        if let Some(why) = damage::damage(&options.path) {
            let moved = damage::set_aside(&options.path);
            let target = moved.map_err(|source| OpenError::File { path: options.path.clone(), source })?;
            tracing::error!(
                database = %options.path.display(), why, kept = %target.display(),
                "the database is damaged: it is set aside, and a new one begins"
            );
            aside = Some(target);
        }
        Ok((Self::open_locked(options, lock, on_commit)?, aside))
    }

    fn open_locked(
        options: &Options,
        lock: File,
        on_commit: impl Fn(Vec<N>) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let synchronous = match options.mode {
            Mode::Threaded => "FULL",
            Mode::Inline { .. } => "OFF",
        };
        let open = || {
            let connection = connect(&options.path, synchronous, OpenFlags::default())
                .map_err(|source| OpenError::Sqlite { path: options.path.clone(), source })?;
            migration::migrate(&connection, &options.path, &options.schema)?;
            Ok(connection)
        };
        let ballast = match options.mode {
            Mode::Threaded => Some(Arc::new(Ballast::beside(&options.path))),
            Mode::Inline { .. } => None,
        };
        let connection = match open() {
            // Its log and its index need room, too.
            Err(OpenError::Sqlite { .. })
                if ballast.as_ref().is_some_and(|ballast| ballast.give_up_if_full()) =>
            {
                open()?
            }
            opened => opened?,
        };
        migration::mark(&lock);
        let mut writer = Writer {
            connection,
            on_commit: Arc::new(on_commit),
            notices: Vec::new(),
            tails: Tails::default(),
            ballast: ballast.clone(),
            place: None,
        };
        if matches!(options.mode, Mode::Threaded) {
            let place = Place::of(&options.path);
            writer.place =
                Some(place.map_err(|source| OpenError::File { path: options.path.clone(), source })?);
        }
        let engine = match &options.mode {
            Mode::Inline { gate } => {
                Engine::Inline { writer: Mutex::new(Some(Box::new(writer))), gate: gate.clone() }
            }
            Mode::Threaded => {
                let (queue, mut jobs) = queue::queue();
                std::thread::Builder::new()
                    .name("store-writer".to_owned())
                    .spawn(move || writer.run(&mut jobs))
                    .map_err(|source| OpenError::File { path: options.path.clone(), source })?;
                Engine::Threaded { queue, readers: Arc::new(Readers::new(options.path.clone())) }
            }
        };
        Ok(Self { engine: Arc::new(engine), ballast, lock: Arc::new(lock) })
    }

    /// Whether it is that of a simulation, which has no disk to look at.
    pub fn is_inline(&self) -> bool {
        matches!(*self.engine, Engine::Inline { .. })
    }

    /// Whether the disk is so full that whatever would need more of it is to be refused.
    pub fn is_short_of_room(&self) -> bool {
        self.ballast.as_ref().is_some_and(|ballast| ballast.is_short())
    }

    /// Runs `job` in a transaction and answers after its commit. Waits for room in the
    /// queue. The job may run more than once, but stands at most once. It changes rows, and
    /// never the schema.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, WriteError<E>>
    where
        F: FnMut(&mut Tx<'_, N>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match &*self.engine {
            Engine::Threaded { queue, .. } => {
                let (job, result) = job::queued(job);
                let job = Queued { job, is_urgent: false };
                queue.send(job).await.map_err(|_| WriteError::Closed)?;
                result.await.unwrap_or(Err(WriteError::Closed))
            }
            Engine::Inline { .. } => self.write_inline(job).await,
        }
    }

    /// As [`Self::write`], for those whose user waits: in turns with the daemon's own jobs,
    /// however many of those wait, and refused at once when the queue is full.
    pub async fn try_write<T, E, F>(&self, job: F) -> Result<T, WriteError<E>>
    where
        F: FnMut(&mut Tx<'_, N>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match &*self.engine {
            Engine::Threaded { queue, .. } => {
                let (job, result) = job::queued(job);
                queue.try_send(Queued { job, is_urgent: true }).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => WriteError::Busy,
                    mpsc::error::TrySendError::Closed(_) => WriteError::Closed,
                })?;
                result.await.unwrap_or(Err(WriteError::Closed))
            }
            Engine::Inline { .. } => self.write_inline(job).await,
        }
    }

    async fn write_inline<T, E, F>(&self, job: F) -> Result<T, WriteError<E>>
    where
        F: FnMut(&mut Tx<'_, N>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let Engine::Inline { writer, gate } = &*self.engine else { return Err(WriteError::Closed) };
        let (job, result) = job::queued(job);
        {
            let mut slot = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(open) = slot.as_mut() else { return Err(WriteError::Closed) };
            if !open.commit_batch(vec![job], &mut || None) {
                *slot = None;
            }
        }
        if let Some(gate) = gate {
            gate.pass().await;
        }
        result.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Runs `job` on a reader's connection, in one consistent snapshot. It must be short
    /// and read a page at a time: a long reader keeps the WAL from being reused.
    pub async fn read<T, F>(&self, job: F) -> Result<T, ReadError>
    where
        F: FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
        T: Send + 'static,
    {
        match &*self.engine {
            Engine::Threaded { readers, .. } => readers.read(job).await,
            Engine::Inline { writer, .. } => {
                let slot = writer.lock().unwrap_or_else(PoisonError::into_inner);
                let open = slot.as_ref().ok_or(ReadError::Closed)?;
                Ok(job(&open.connection)?)
            }
        }
    }
}

#[cfg(test)]
mod tests;
