//! A daemon under its supervisor, which starts it again as systemd would.

use super::clock::DaemonClock;
use crate::trace::Trace;
use crate::watch::Watch;
use phonefleet_store::rusqlite::{self, Connection, OpenFlags};
use phonefleet_store::{CommitGate, Store};
use phonefleet_tests::simulation::CrashPoint;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// From a daemon's end to its next start.
const RESTART: Duration = Duration::from_millis(500);

/// One life of a daemon: what it is started with.
#[derive(Clone)]
pub struct Life {
    /// Its database.
    pub database: PathBuf,
    /// Kills it at the armed commit or effect.
    pub crash: CrashPoint,
    /// Its clock.
    pub clock: Arc<DaemonClock>,
    /// Its disk is full.
    pub full: watch::Receiver<bool>,
}

/// A daemon.
pub struct Daemon {
    /// `controller`, or the host's id.
    pub name: String,
    /// Its database.
    pub database: PathBuf,
    /// Counts its commits and effects.
    pub crash: CrashPoint,
    /// Its clock.
    pub clock: Arc<DaemonClock>,
    /// Held by whoever needs it stopped for a while.
    pub surgery: tokio::sync::Mutex<()>,
    kill: Arc<Notify>,
    hold: watch::Sender<bool>,
    full: watch::Sender<bool>,
    /// Whoever looks opens it once: a connection reads the whole schema first.
    reader: Mutex<Option<Connection>>,
    task: JoinHandle<()>,
}

impl Daemon {
    /// Starts a daemon and its supervisor; each life is a call of `run`.
    pub fn start<F, Run>(name: &str, database: PathBuf, clock: DaemonClock, trace: Trace, run: F) -> Self
    where
        F: Fn(Life) -> Run + Send + 'static,
        Run: Future<Output = ()> + Send,
    {
        let crash = CrashPoint::default();
        let kill = Arc::new(Notify::new());
        let (hold, mut held) = watch::channel(false);
        let (full, is_full) = watch::channel(false);
        let clock = Arc::new(clock);
        let life = Life {
            database: database.clone(),
            crash: crash.clone(),
            clock: Arc::clone(&clock),
            full: is_full,
        };
        let task = {
            let (kill, crash, name) = (Arc::clone(&kill), crash.clone(), name.to_owned());
            tokio::spawn(async move {
                loop {
                    if held.wait_for(|held| !held).await.is_err() {
                        return;
                    }
                    trace.say(format_args!("{name} starts"));
                    tokio::select! {
                        biased;
                        () = kill.notified() => trace.say(format_args!("{name} is killed")),
                        () = crash.fired() => {
                            crash.disarm();
                            trace.say(format_args!("{name} crashes after commit or effect {}", crash.passed()));
                        }
                        () = run(life.clone()) => trace.say(format_args!("{name} ends by itself")),
                    }
                    sleep(RESTART).await;
                }
            })
        };
        Self {
            name: name.to_owned(),
            database,
            crash,
            clock,
            surgery: tokio::sync::Mutex::default(),
            kill,
            hold,
            full,
            reader: Mutex::default(),
            task,
        }
    }

    /// `kill -9`; the supervisor starts it again.
    pub fn kill(&self) {
        self.kill.notify_one();
    }

    /// `kill -9`, and not started again before [`Self::release`].
    pub fn stop(&self) {
        self.hold.send_replace(true);
        self.kill.notify_one();
    }

    /// It may start again.
    pub fn release(&self) {
        self.hold.send_replace(false);
    }

    /// Its disk is full, or has room again.
    pub fn set_full(&self, full: bool) {
        self.full.send_replace(full);
    }

    /// Copies its database: taken between two transactions, as a backup is.
    pub fn backup(&self) -> Backup {
        let files = ["db", "db-wal"].map(|extension| {
            let path = self.database.with_extension(extension);
            let content = std::fs::read(&path).ok();
            (path, content)
        });
        Backup { files: files.into() }
    }

    /// Reads its database beside it.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read<T>(&self, job: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.database, flags)?;
            connection.set_prepared_statement_cache_capacity(64);
            *reader = Some(connection);
        }
        reader.as_ref().map_or(Err(rusqlite::Error::InvalidQuery), job)
    }

    /// Its database is gone. It must not run.
    pub fn erase(&self) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for extension in ["db", "db-wal", "db-shm"] {
            let _ = std::fs::remove_file(self.database.with_extension(extension));
        }
    }

    /// Its database becomes the saved one. It must not run.
    pub fn restore(&self, backup: &Backup) -> std::io::Result<()> {
        self.erase();
        for (path, content) in &backup.files {
            if let Some(content) = content {
                std::fs::write(path, content)?;
            }
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A saved database.
pub struct Backup {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
}

/// Commits of one life within one instant of virtual time; more is a circle, which no time
/// would ever end. Healthy lives have some dozens.
const MOST_AT_ONCE: u32 = 2_000;

/// After every commit: whoever watches is told, and then the crash point decides.
pub struct Gate {
    witness: Arc<dyn Fn() + Send + Sync>,
    crash: CrashPoint,
    watch: Arc<Watch>,
    at_once: Mutex<(Instant, u32)>,
}

impl Gate {
    /// `witness` is told of every commit; `crash` may hold the daemon for ever.
    pub fn new(witness: Arc<dyn Fn() + Send + Sync>, crash: CrashPoint, watch: Arc<Watch>) -> Self {
        Self { witness, crash, watch, at_once: Mutex::new((Instant::now(), 0)) }
    }

    fn goes_in_circles(&self) -> bool {
        let mut at_once = self.at_once.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, commits) = *at_once;
        *at_once = if since == now { (now, commits + 1) } else { (now, 1) };
        at_once.1 > MOST_AT_ONCE
    }
}

impl CommitGate for Gate {
    fn pass(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        (self.witness)();
        let stuck = self.goes_in_circles();
        if stuck {
            self.watch.convict(format!("liveness: {MOST_AT_ONCE} commits of a daemon at one instant"));
        }
        let crash = self.crash.clone();
        Box::pin(async move {
            if stuck {
                std::future::pending::<()>().await;
            }
            crash.after_effect().await;
        })
    }
}

/// Lets SQLite itself find no room: a database may not grow while its disk is full.
pub async fn follow_disk<N: Send + 'static>(store: Store<N>, mut full: watch::Receiver<bool>) {
    const NO_LIMIT: i64 = 1 << 31;
    let mut limited = false;
    loop {
        let is_full = *full.borrow_and_update();
        if is_full != limited {
            limited = is_full;
            let pages = if is_full { 1 } else { NO_LIMIT };
            let job = move |tx: &mut phonefleet_store::Tx<'_, N>| {
                tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
            };
            // Of a closed store nobody asks for room.
            let _ = store.write(job).await;
        }
        if full.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// A migrated database to begin with, made once: migrations take longer than a short life.
pub fn begin_from(template: &Path, database: &Path) {
    if !database.exists() && template.exists() {
        // Without it the daemon migrates by itself.
        let _ = std::fs::copy(template, database);
    }
}
