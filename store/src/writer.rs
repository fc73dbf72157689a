//! The store handle and its writer: group commit, savepoints, and the rules for errors.
//!
//! * The batch is whatever queues while the last commit and the batch itself run: no timer.
//!   It is capped at [`BATCH_JOBS`] jobs and [`BATCH_TIME`].
//! * A job that fails undoes itself only. Savepoints would do that, and copy every page that
//!   every job touches; so a batch begins without them. When a job fails that has written
//!   something, the batch is rolled back and the others are run again, now each with a
//!   savepoint. A job that refuses before it writes disturbs nobody.
//! * `SQLITE_FULL`, `IOERR` and `NOMEM` may roll back the whole batch. After each error the
//!   writer looks whether a transaction still stands; if not, the other jobs are run again.
//! * A `COMMIT` that a full disk refuses gives the ballast up and is tried again, once.
//! * A `COMMIT` that fails otherwise is unknown. Nobody is told "done", the store stops, and the
//!   daemon has to start again from the disk.
//! * A job that panics is an error of that job.

use crate::ballast::Ballast;
use crate::damage::{self, Place};
use crate::migration::{self, OpenError, Schema};
use phonefleet_protocol::mutant::{Mutant, planted};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Jobs in one commit at most: beyond some hundred the gain is nil and the wait grows.
pub const BATCH_JOBS: usize = 512;
/// Time that jobs of one batch may take together before it is committed.
pub const BATCH_TIME: Duration = Duration::from_millis(5);
/// Jobs that may wait. A caller that finds the queue full waits in line for each free place,
/// which takes as much of a processor as a small job itself: measured by `benches/events`.
const QUEUE_JOBS: usize = 8 * BATCH_JOBS;
/// Reader connections kept open.
const READERS: usize = 4;
/// Reads at a time; further ones wait. A thousand hosts that come back at once must not
/// become as many threads and connections.
const READS: usize = 16;

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

/// Why a write did not happen, or is not known to have happened.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The job itself said no; nothing of it stands. The caller fixes its request.
    #[error(transparent)]
    Refused(E),
    /// The queue is full. Retry in a moment.
    #[error("the database has {QUEUE_JOBS} writes waiting; try again in a moment")]
    Busy,
    /// The job panicked; nothing of it stands. A bug: give up.
    #[error("a database job panicked: {0}")]
    Panicked(String),
    /// SQLite could not run it, or rolled its batch back; nothing of it stands. Retry later.
    #[error("the database cannot write now: {0}")]
    Unavailable(String),
    /// The commit failed: it may or may not stand. The daemon must start again.
    #[error("a commit failed and its outcome is unknown: {0}")]
    Unknown(String),
    /// The store has stopped: after such a failure, because its file was removed, or because the
    /// daemon ends.
    #[error("the database is closed")]
    Closed,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite refuses.
    #[error("the database cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The store is closed, or the reading job panicked.
    #[error("the database is closed")]
    Closed,
}

/// The transaction a job runs in. `N` is what a daemon announces after commits.
pub struct Tx<'a, N> {
    connection: &'a Connection,
    notices: &'a mut Vec<N>,
}

impl<'a, N> Tx<'a, N> {
    /// A transaction on `connection` that somebody else begins and commits, as tests do.
    pub fn new(connection: &'a Connection, notices: &'a mut Vec<N>) -> Self {
        Self { connection, notices }
    }

    /// Announces `notice` once this transaction is committed, and not otherwise.
    pub fn announce(&mut self, notice: N) {
        self.notices.push(notice);
    }

    /// Runs `part` so that an error undoes what it wrote and announced, and nothing else.
    pub fn part<T, E: From<rusqlite::Error>>(
        &mut self,
        part: impl FnOnce(&mut Tx<'_, N>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mark = self.notices.len();
        execute(self.connection, "SAVEPOINT part")?;
        let result = part(&mut Tx { connection: self.connection, notices: self.notices });
        if result.is_err() && !self.connection.is_autocommit() {
            self.notices.truncate(mark);
            execute(self.connection, "ROLLBACK TO part")?;
        }
        if !self.connection.is_autocommit() {
            execute(self.connection, "RELEASE part")?;
        }
        result
    }
}

impl<N> Deref for Tx<'_, N> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// Takes another job from the queue, if one waits.
type More<'a, N> = &'a mut dyn FnMut() -> Option<Box<dyn Job<N>>>;
type OnCommit<N> = Arc<dyn Fn(Vec<N>) + Send + Sync>;

/// A queued job whose types are hidden from the writer.
trait Job<N>: Send {
    /// Runs once, or again after a rollback. `true` when it succeeded.
    fn run(&mut self, tx: &mut Tx<'_, N>) -> bool;
    /// Its work is committed, or it refused: tell the caller.
    fn answer(self: Box<Self>);
    /// Its work does not stand, or is not known to.
    fn fail(self: Box<Self>, failure: &Failure);
}

#[derive(Clone, Debug)]
enum Failure {
    Unavailable(String),
    Unknown(String),
    /// Where it would be written, nobody would find it.
    Lost,
}

impl<E> From<&Failure> for WriteError<E> {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Unavailable(why) => Self::Unavailable(why.clone()),
            Failure::Unknown(why) => Self::Unknown(why.clone()),
            Failure::Lost => Self::Closed,
        }
    }
}

struct TypedJob<F, T, E> {
    job: F,
    result: Option<Result<T, WriteError<E>>>,
    answer: oneshot::Sender<Result<T, WriteError<E>>>,
}

impl<N, F, T, E> Job<N> for TypedJob<F, T, E>
where
    F: FnMut(&mut Tx<'_, N>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, tx: &mut Tx<'_, N>) -> bool {
        let result = match catch_unwind(AssertUnwindSafe(|| (self.job)(tx))) {
            Ok(result) => result.map_err(WriteError::Refused),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned());
                Err(WriteError::Panicked(text.unwrap_or_else(|| "without a text".to_owned())))
            }
        };
        let fine = result.is_ok();
        self.result = Some(result);
        fine
    }

    fn answer(self: Box<Self>) {
        // A caller that went away (a cut connection, a crash in a simulation) has no use for it.
        let _ = self.answer.send(self.result.unwrap_or(Err(WriteError::Closed)));
    }

    fn fail(self: Box<Self>, failure: &Failure) {
        let _ = self.answer.send(match self.result {
            // It had refused by itself: that stands whatever became of the batch.
            Some(Err(refusal)) => Err(refusal),
            _ => Err(failure.into()),
        });
    }
}

enum Engine<N> {
    Threaded { queue: mpsc::Sender<Box<dyn Job<N>>>, readers: Arc<Readers> },
    Inline { writer: Mutex<Option<Box<Writer<N>>>>, gate: Option<Arc<dyn CommitGate>> },
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
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
                let (queue, mut jobs) = mpsc::channel::<Box<dyn Job<N>>>(QUEUE_JOBS);
                std::thread::Builder::new()
                    .name("store-writer".to_owned())
                    .spawn(move || writer.run(&mut jobs))
                    .map_err(|source| OpenError::File { path: options.path.clone(), source })?;
                let readers = Readers {
                    path: options.path.clone(),
                    idle: Mutex::new(Vec::new()),
                    places: Arc::new(Semaphore::new(READS)),
                };
                Engine::Threaded { queue, readers: Arc::new(readers) }
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
                let (answer, result) = oneshot::channel();
                let job = Box::new(TypedJob { job, result: None, answer });
                queue.send(job).await.map_err(|_| WriteError::Closed)?;
                result.await.unwrap_or(Err(WriteError::Closed))
            }
            Engine::Inline { .. } => self.write_inline(job).await,
        }
    }

    /// As [`Self::write`], but refused at once when the queue is full: for callers that
    /// can be told to come back.
    pub async fn try_write<T, E, F>(&self, job: F) -> Result<T, WriteError<E>>
    where
        F: FnMut(&mut Tx<'_, N>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match &*self.engine {
            Engine::Threaded { queue, .. } => {
                let (answer, result) = oneshot::channel();
                let job = Box::new(TypedJob { job, result: None, answer });
                queue.try_send(job).map_err(|error| match error {
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
        let (answer, result) = oneshot::channel();
        {
            let mut slot = writer.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(open) = slot.as_mut() else { return Err(WriteError::Closed) };
            if !open.commit_batch(vec![Box::new(TypedJob { job, result: None, answer })], &mut || None) {
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
            Engine::Threaded { readers, .. } => {
                // Never closed. The job holds its place also when its caller has gone away.
                let place = Arc::clone(&readers.places).acquire_owned().await;
                let readers = Arc::clone(readers);
                let read = move || {
                    let _place = place;
                    readers.read(job)
                };
                tokio::task::spawn_blocking(read).await.map_err(|_| ReadError::Closed)?
            }
            Engine::Inline { writer, .. } => {
                let slot = writer.lock().unwrap_or_else(PoisonError::into_inner);
                let open = slot.as_ref().ok_or(ReadError::Closed)?;
                Ok(job(&open.connection)?)
            }
        }
    }
}

impl Readers {
    fn read<T>(&self, job: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>) -> Result<T, ReadError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = if let Some(connection) = idle {
            connection
        } else {
            let connection =
                connect(&self.path, "FULL", OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE)?;
            connection.pragma_update(None, "query_only", true)?;
            connection
        };
        // A deferred transaction: every statement of the job sees the same state.
        let transaction = connection.unchecked_transaction()?;
        let result = job(&transaction);
        transaction.finish()?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS {
            idle.push(connection);
        }
        Ok(result?)
    }
}

fn connect(
    path: &std::path::Path,
    synchronous: &str,
    flags: OpenFlags,
) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The planner must not look at bound values: it would compile the statements in which
    // it did anew at every call, which costs more than running them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(connection)
}

fn execute(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

struct Writer<N> {
    connection: Connection,
    on_commit: OnCommit<N>,
    notices: Vec<N>,
    ballast: Option<Arc<Ballast>>,
    /// None in simulations.
    place: Option<Place>,
}

impl<N> Writer<N> {
    fn run(&mut self, jobs: &mut mpsc::Receiver<Box<dyn Job<N>>>) {
        while let Some(first) = jobs.blocking_recv() {
            if !self.commit_batch(vec![first], &mut || jobs.try_recv().ok()) {
                tracing::error!("the database writer stops; the daemon has to start again from the disk");
                return;
            }
        }
    }

    /// Commits all of `batch` and what `more` brings meanwhile, in several commits if it
    /// takes long. `false`: stop.
    fn commit_batch(&mut self, mut batch: Vec<Box<dyn Job<N>>>, more: More<'_, N>) -> bool {
        let mut guarded = false;
        while !batch.is_empty() {
            match self.commit_some(&mut batch, more, &mut guarded) {
                Commit::Stands => {}
                Commit::Unknown => return false,
            }
        }
        true
    }

    /// `guarded`: each job gets a savepoint, because one of this batch has failed before.
    fn commit_some(
        &mut self,
        batch: &mut Vec<Box<dyn Job<N>>>,
        more: More<'_, N>,
        guarded: &mut bool,
    ) -> Commit {
        if let Some(place) = self.place.as_ref().filter(|place| place.is_lost()) {
            tracing::error!(database = %place.path().display(), "the database's file was removed or replaced under this daemon");
            batch.drain(..).for_each(|job| job.fail(&Failure::Lost));
            return Commit::Unknown;
        }
        if let Err(error) = execute(&self.connection, "BEGIN IMMEDIATE") {
            let failure = Failure::Unavailable(error.to_string());
            tracing::warn!(%error, "the database refused to begin a write");
            batch.drain(..).for_each(|job| job.fail(&failure));
            return Commit::Stands;
        }
        self.notices.clear();
        let began = Instant::now();
        let mut ran = 0;
        while ran < BATCH_JOBS && (ran == 0 || began.elapsed() < BATCH_TIME) {
            if ran == batch.len() {
                // What queued while the others ran comes along: whoever is answered at once
                // asks again at once, and would otherwise wait for a commit of its own.
                let Some(job) = more() else { break };
                batch.push(job);
            }
            let end = self.run_job(&mut *batch[ran], *guarded);
            if matches!(end, JobEnd::Fine) {
                ran += 1;
                continue;
            }
            let failed = batch.remove(ran);
            failed.fail(&Failure::Unavailable("the transaction was rolled back".to_owned()));
            match end {
                JobEnd::BatchUndone => {
                    *guarded = true;
                    return Commit::Stands;
                }
                JobEnd::BatchLost => {
                    // It may have been for want of room.
                    let _ = self.ballast.as_ref().is_some_and(|ballast| ballast.give_up_if_full());
                    tracing::warn!(
                        survivors = ran,
                        "the database rolled a batch back; running the others again"
                    );
                    return Commit::Stands;
                }
                JobEnd::Fine | JobEnd::Undone => {}
            }
        }
        let lost = planted(Mutant::LoseCommit) && self.connection.total_changes() % 23 == 7;
        if let Err(error) = execute(&self.connection, if lost { "ROLLBACK" } else { "COMMIT" }) {
            if error.sqlite_error_code() == Some(ErrorCode::DiskFull) && self.connection.is_autocommit() {
                // Known: the disk had no room for the frame that makes a commit of what is before
                // it in the log (the unix VFS writes none behind it), and SQLite has rolled back.
                if self.ballast.as_ref().is_some_and(|ballast| ballast.give_up()) {
                    return Commit::Stands; // for none of them: they run again
                }
                let failure = Failure::Unavailable(error.to_string());
                tracing::warn!(%error, "the disk is full: nothing can be written");
                batch.drain(..).for_each(|job| job.fail(&failure));
                return Commit::Stands;
            }
            let failure = Failure::Unknown(error.to_string());
            tracing::error!(%error, "a commit failed");
            batch.drain(..).for_each(|job| job.fail(&failure));
            return Commit::Unknown;
        }
        if !self.notices.is_empty() {
            (self.on_commit)(std::mem::take(&mut self.notices));
        }
        batch.drain(..ran).for_each(Job::answer);
        Commit::Stands
    }

    /// Runs one job. Whatever its end but [`JobEnd::Fine`], nothing of it stands.
    fn run_job(&mut self, job: &mut dyn Job<N>, guarded: bool) -> JobEnd {
        let mark = self.notices.len();
        if guarded && execute(&self.connection, "SAVEPOINT job").is_err() {
            // Only NOMEM or a lost transaction: let the job fail by itself in it.
            return if self.connection.is_autocommit() { JobEnd::BatchLost } else { JobEnd::Undone };
        }
        let changes = self.connection.total_changes();
        let fine = job.run(&mut Tx { connection: &self.connection, notices: &mut self.notices });
        if self.connection.is_autocommit() {
            self.notices.clear();
            return JobEnd::BatchLost;
        }
        if fine {
            if guarded {
                let _ = execute(&self.connection, "RELEASE job");
            }
            return JobEnd::Fine;
        }
        self.notices.truncate(mark);
        if self.connection.total_changes() != changes {
            if !guarded {
                let _ = execute(&self.connection, "ROLLBACK");
                return JobEnd::BatchUndone;
            }
            if execute(&self.connection, "ROLLBACK TO job").is_err() {
                let _ = execute(&self.connection, "ROLLBACK");
                return JobEnd::BatchLost;
            }
        }
        if guarded {
            let _ = execute(&self.connection, "RELEASE job");
        }
        JobEnd::Undone
    }
}

enum JobEnd {
    Fine,
    /// It failed, and the batch goes on without it.
    Undone,
    /// It failed after it had written: the batch was rolled back to undo it.
    BatchUndone,
    /// SQLite rolled the batch back.
    BatchLost,
}

enum Commit {
    Stands,
    Unknown,
}

#[cfg(test)]
mod tests;
