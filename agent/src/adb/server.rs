//! The agent's own adb server: started, watched, adopted or ended after a crash.
//!
//! ```text
//!   look for one that runs (ledger, then the same arguments)
//!     answers host:version ──▶ adopt it            (phones stay connected)
//!     silent, or one too many ─▶ end it by pid and start time
//!   none ──▶ start one, write it to the ledger
//!   watch: host:version every few seconds; two silences or its end ──▶ all over, with back-off
//! ```
//!
//! It listens on a unix socket in the state directory only: no TCP port, nothing shared
//! with an `adb` that somebody uses by hand. When the agent ends, the server stays, so that
//! the next agent finds phones connected and recordings going on.

use super::client::Client;
use crate::host::process::{self, ProcessId};
use crate::status::{Board, Part};
use async_trait::async_trait;
use std::fs::OpenOptions;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// The row of the server in the ledger.
pub const LEDGER_NAME: &str = "adb-server";
/// A unix socket's path has at most this many bytes.
pub const SOCKET_PATH_BYTES: usize = 107;
/// From start to the first answer.
const START: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL.
const PATIENCE: Duration = Duration::from_secs(2);
/// The server's log is emptied beyond this size.
const LOG_BYTES: u64 = 4 << 20;
/// A server that lived this long was a good one: the back-off begins anew.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// Durable notes of processes that outlive the agent. The agent's store has them; an error
/// only costs the note, never the process.
#[async_trait]
pub trait ProcessLedger: Send + Sync + 'static {
    /// The process noted under a name.
    async fn recorded(&self, name: &str) -> Result<Option<ProcessId>, String>;
    /// Notes a process, in place of any before.
    async fn record(&self, name: &str, process: ProcessId) -> Result<(), String>;
}

/// How the server is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds the socket `adb.sock` and the folder `adb` with keys and log. Absolute.
    pub state_dir: PathBuf,
    /// The program: `adb`, looked for on PATH.
    pub program: PathBuf,
    /// Between two tests whether the server answers.
    pub probe_every: Duration,
    /// How long one answer may take.
    pub probe_deadline: Duration,
    /// Back-off between starts: the first, doubled up to the second.
    pub back_off: (Duration, Duration),
}

impl Options {
    /// What is right outside tests.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            program: PathBuf::from("adb"),
            probe_every: Duration::from_secs(5),
            probe_deadline: Duration::from_secs(5),
            back_off: (Duration::from_millis(500), Duration::from_secs(30)),
        }
    }

    /// Where the server listens.
    pub fn socket(&self) -> PathBuf {
        self.state_dir.join("adb.sock")
    }
}

/// Why there is no server at the moment.
#[derive(Debug, thiserror::Error)]
enum ServerError {
    #[error("the program {} is not installed or not on PATH: install adb (Debian: apt-get install adb)", .0.display())]
    NoProgram(PathBuf),
    #[error("the program {path} cannot be started: {error}", path = .0.display(), error = .1)]
    Start(PathBuf, std::io::Error),
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Files(PathBuf, std::io::Error),
    #[error("it ended at its start with {0}; its last words: {1}")]
    EndedAtStart(String, String),
    #[error("it did not answer within {START:?} of its start")]
    SilentAtStart,
    #[error("process {0} of an earlier run does not die; look at it by hand")]
    Immortal(u32),
    #[error("it ended: {0}")]
    Ended(String),
    #[error("it hung: twice no answer within {0:?}; it was killed")]
    Hung(Duration),
}

/// A server that runs: own child, or adopted from an earlier agent.
struct Running {
    process: ProcessId,
    child: Option<Child>,
}

impl Running {
    /// Waits for its end.
    async fn ended(&mut self) -> String {
        if let Some(child) = &mut self.child {
            return match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("cannot be waited for: {error}"),
            };
        }
        while self.process.is_alive() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        "it was adopted, so its status is not known".to_owned()
    }

    async fn end(&mut self) -> Result<(), ServerError> {
        let gone = self.process.end(PATIENCE).await;
        if gone && let Some(child) = &mut self.child {
            // Takes the dead process off the kernel's list.
            let _ = child.wait().await;
        }
        if gone { Ok(()) } else { Err(ServerError::Immortal(self.process.pid)) }
    }
}

/// The supervisor of the server.
pub struct Server {
    options: Options,
    ledger: Arc<dyn ProcessLedger>,
    board: Board,
    client: Client,
}

impl Server {
    /// A supervisor that has not begun.
    pub fn new(options: Options, ledger: Arc<dyn ProcessLedger>, board: Board) -> Self {
        let client = Client::new(&options.socket());
        Self { options, ledger, board, client }
    }

    /// Access to phones through the server; errors while there is none.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Keeps a server running until `shutdown` turns true; leaves it running then.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let stop = async {
            // A dropped sender is a shutdown as well.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            () = stop => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&self) {
        let (first, longest) = self.options.back_off;
        let mut pause = first;
        loop {
            let began = Instant::now();
            let error = match self.establish().await {
                Ok(running) => self.watch(running).await,
                Err(error) => error,
            };
            self.board.missing(Part::Adb, format!("adb server: {error}"));
            if began.elapsed() >= GOOD_LIFE {
                pause = first;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Finds a server to adopt, or starts one.
    async fn establish(&self) -> Result<Running, ServerError> {
        self.make_folder()?;
        let noted = match self.ledger.recorded(LEDGER_NAME).await {
            Ok(noted) => noted,
            Err(error) => {
                tracing::warn!(%error, "cannot read which adb server an earlier run started");
                None
            }
        };
        // A crash between start and note leaves a server that only its arguments tell: no other
        // process has our socket in them, but one in a phone that would like to be taken for it.
        let candidates: Vec<ProcessId> =
            process::all().into_iter().filter(|found| self.is_ours(*found)).collect();
        if let Some(noted) = noted
            && noted.is_alive()
            && !candidates.contains(&noted)
        {
            tracing::warn!(pid = noted.pid, "the noted process has other arguments; it is left alone");
        }
        // With two, only one of them has the socket, and there is no telling which.
        if let [process] = candidates[..]
            && (self.answers().await || self.answers().await)
            && process.is_alive()
        {
            tracing::info!(pid = process.pid, "adopted the adb server of an earlier run");
            self.note(process).await;
            return Ok(Running { process, child: None });
        }
        for process in candidates {
            tracing::warn!(pid = process.pid, "ending an adb server of an earlier run");
            Running { process, child: None }.end().await?;
        }
        self.start().await
    }

    async fn answers(&self) -> bool {
        self.client.version(self.options.probe_deadline).await.is_ok()
    }

    fn is_ours(&self, process: ProcessId) -> bool {
        let same = |arguments: Vec<String>| arguments.get(1..) == Some(&self.arguments()[..]);
        process.arguments().is_some_and(same) && process.is_at_home()
    }

    fn arguments(&self) -> [String; 4] {
        let socket = format!("localfilesystem:{}", self.options.socket().display());
        ["-L".to_owned(), socket, "nodaemon".to_owned(), "server".to_owned()]
    }

    async fn note(&self, process: ProcessId) {
        if let Err(error) = self.ledger.record(LEDGER_NAME, process).await {
            tracing::warn!(%error, pid = process.pid, "cannot note the adb server's process");
        }
    }

    async fn start(&self) -> Result<Running, ServerError> {
        let options = &self.options;
        let socket = options.socket();
        let _ = std::fs::remove_file(&socket);
        // A process that was itself started with SIGINT ignored hands that on, and children
        // of adb then ignore it for good. With a handler, the kernel gives them the default.
        let _ = signal(SignalKind::interrupt());

        let home = self.folder();
        let files = |error| ServerError::Files(self.log_file(), error);
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).map_err(files)?;
        log.set_len(0).map_err(files)?;
        let also = log.try_clone().map_err(files)?;
        let mut command = Command::new(&options.program);
        command
            .args(self.arguments())
            // Nothing of the agent's environment: ADB_*, ANDROID_* and HOME change what it does.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            // Or it scans 5555 to 5585 and takes in phones by itself.
            .env("ADB_EMU", "0")
            .env("ADB_USB", "0")
            .env("ADB_MDNS", "0")
            .current_dir(&home)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ServerError::NoProgram(options.program.clone()),
            _ => ServerError::Start(options.program.clone(), error),
        })?;
        // Cannot be gone: nobody but this function waits for it.
        let Some(process) = child.id().and_then(ProcessId::of) else {
            let status = child.wait().await;
            return Err(ServerError::EndedAtStart(words(status), self.last_words()));
        };
        self.note(process).await;
        let mut running = Running { process, child: Some(child) };
        let end = Instant::now() + START;
        loop {
            if self.answers().await {
                tracing::info!(pid = process.pid, "started the adb server");
                return Ok(running);
            }
            if let Some(child) = &mut running.child
                && let Ok(Some(status)) = child.try_wait()
            {
                return Err(ServerError::EndedAtStart(status.to_string(), self.last_words()));
            }
            if Instant::now() >= end {
                running.end().await?;
                return Err(ServerError::SilentAtStart);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns when the server ended, or was ended because it hung.
    async fn watch(&self, mut running: Running) -> ServerError {
        self.board.ready(Part::Adb, format!("adb server, process {}", running.process.pid));
        let mut silences = 0;
        loop {
            tokio::select! {
                how = running.ended() => return ServerError::Ended(how),
                () = tokio::time::sleep(self.options.probe_every) => {}
            }
            self.bound_log();
            if self.answers().await {
                silences = 0;
                continue;
            }
            silences += 1;
            if silences == 2 && running.process.is_alive() {
                return match running.end().await {
                    Ok(()) => ServerError::Hung(self.options.probe_deadline),
                    Err(error) => error,
                };
            }
        }
    }

    fn folder(&self) -> PathBuf {
        self.options.state_dir.join("adb")
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("server.log")
    }

    /// Only for the owner: adb keeps its private key in here.
    fn make_folder(&self) -> Result<(), ServerError> {
        let folder = self.folder();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| ServerError::Files(folder, error))
    }

    fn bound_log(&self) {
        let path = self.log_file();
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > LOG_BYTES)
            && let Err(error) = OpenOptions::new().write(true).truncate(true).open(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot empty the adb server's log");
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(400)..]).trim().to_owned();
        if tail.is_empty() { "none".to_owned() } else { tail }
    }
}

fn words(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}
