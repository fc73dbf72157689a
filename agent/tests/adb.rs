//! The real adb server and Debian's real adbd: commands, losses, crashes, hangs, adoption.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod environment;

use async_trait::async_trait;
use environment::{environment, fresh_host, fresh_port, phone, sh, sweep, until};
use nix::sys::signal::Signal;
use phonefleet_agent::adb::client::Client;
use phonefleet_agent::adb::server::{LEDGER_NAME, Options, ProcessLedger, Server};
use phonefleet_agent::adb::{Adb, AdbError};
use phonefleet_agent::host::process::{self, ProcessId};
use phonefleet_agent::runtime::Engine;
use phonefleet_agent::status::{Board, Part};
use phonefleet_protocol::time::SystemClock;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Notes(Mutex<HashMap<String, ProcessId>>);

#[async_trait]
impl ProcessLedger for Notes {
    async fn recorded(&self, name: &str) -> Result<Option<ProcessId>, String> {
        Ok(self.0.lock().unwrap().get(name).copied())
    }
    async fn record(&self, name: &str, process: ProcessId) -> Result<(), String> {
        self.0.lock().unwrap().insert(name.to_owned(), process);
        Ok(())
    }
}

/// A supervisor at work on its own state directory.
struct Supervised {
    client: Client,
    board: Board,
    notes: Arc<Notes>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn options(state_dir: &Path) -> Options {
    Options {
        probe_every: Duration::from_millis(300),
        probe_deadline: Duration::from_millis(700),
        back_off: (Duration::from_millis(100), Duration::from_secs(1)),
        ..Options::new(state_dir)
    }
}

impl Supervised {
    fn start(options: Options, notes: Arc<Notes>) -> Self {
        let board = Board::new(Arc::new(SystemClock));
        let server = Server::new(options, Arc::clone(&notes) as Arc<dyn ProcessLedger>, board.clone());
        let client = server.client();
        let (shutdown, receiver) = watch::channel(false);
        let task = tokio::spawn(server.run(receiver));
        Self { client, board, notes, shutdown, task }
    }

    async fn ready(state_dir: &Path, notes: Arc<Notes>) -> Self {
        let supervised = Self::start(options(state_dir), notes);
        until("the adb server is ready", PATIENCE, async || supervised.is_ready()).await;
        supervised
    }

    fn is_ready(&self) -> bool {
        self.board.parts()[&Part::Adb].ready
    }

    fn process(&self) -> ProcessId {
        self.notes.0.lock().unwrap()[LEDGER_NAME]
    }

    /// As a graceful end of the agent does: the server stays.
    async fn leave(self) {
        self.shutdown.send(true).unwrap();
        self.task.await.unwrap();
    }

    async fn stop(self) {
        let process = self.process();
        self.leave().await;
        assert!(process.end(PATIENCE).await);
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Every process whose arguments name a server on this state directory.
fn servers(state_dir: &Path) -> Vec<ProcessId> {
    let socket = format!("localfilesystem:{}", state_dir.join("adb.sock").display());
    let names_it = |process: &ProcessId| process.arguments().is_some_and(|all| all.contains(&socket));
    process::all().into_iter().filter(names_it).collect()
}

#[tokio::test]
async fn commands_end_with_their_own_status_or_an_error() {
    let Some(environment) = environment() else { return };
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let docker = environment.docker(&host);
    let port = fresh_port();
    let spec = phone(&host, folder.path(), port, &[]);
    let id = docker.create(&spec).await.unwrap();
    docker.start(&id).await.unwrap();
    let supervised = Supervised::ready(folder.path(), Arc::default()).await;
    let adb = &supervised.client;
    let shell = async |command: &str, deadline| adb.shell(address(port), command, deadline).await;

    adb.connect(address(port), PATIENCE).await.unwrap();
    adb.connect(address(port), PATIENCE).await.unwrap();
    let serial = spec.command.iter().find_map(|one| one.strip_prefix("androidboot.serialno=")).unwrap();
    let output = shell("getprop ro.serialno", PATIENCE).await.unwrap();
    assert_eq!((output.stdout.trim(), output.status), (serial, 0));
    let output = shell("echo out; echo err >&2; exit 7", PATIENCE).await.unwrap();
    assert_eq!((&*output.stdout, &*output.stderr, output.status), ("out\n", "err\n", 7));
    // A file of the device, to the byte.
    assert_eq!(
        shell("head -c 300000 /dev/urandom >/data/x; sha256sum /data/x", PATIENCE).await.unwrap().status,
        0
    );
    let copy = folder.path().join("copy");
    let pull = async |path: &str, limit| {
        let file = tokio::fs::File::create(&copy).await.unwrap();
        adb.pull(address(port), path, file, limit, PATIENCE).await
    };
    assert_eq!(pull("/data/x", 1 << 20).await, Ok(Some(300_000)));
    let sum = shell("sha256sum </data/x", PATIENCE).await.unwrap().stdout;
    let own = std::process::Command::new("sha256sum").arg(&copy).output().unwrap();
    assert_eq!(sum.split(' ').next(), String::from_utf8(own.stdout).unwrap().split(' ').next());
    assert_eq!(pull("/data/x", 1000).await, Ok(Some(1000)));
    assert_eq!(pull("/data/none", 1000).await, Ok(None));
    // Nothing to read is the end of input, not a wait; much output is cut and read on.
    assert_eq!(shell("cat; exit 3", PATIENCE).await.unwrap().status, 3);
    let output = shell("head -c 3000000 /dev/zero; exit 4", PATIENCE).await.unwrap();
    assert_eq!((output.stdout.len(), output.status), (65_536, 4));
    let short = Duration::from_millis(500);
    assert_eq!(shell("sleep 30", short).await, Err(AdbError::Timeout(short)));

    // Away in mid-command: adb itself would exit with 0 here.
    let command = shell("sleep 30", PATIENCE);
    let death = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        docker.kill(&id).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(command, death);
    assert!(matches!(outcome, Err(AdbError::Offline(_))), "{outcome:?}");
    assert!(matches!(shell("true", PATIENCE).await, Err(AdbError::Offline(_))));

    // Back at the same port: connecting does not wait for the server's own slow retries.
    docker.start(&id).await.unwrap();
    let began = Instant::now();
    adb.connect(address(port), PATIENCE).await.unwrap();
    assert_eq!(shell("true", PATIENCE).await.unwrap().status, 0);
    eprintln!("connected again after {:?}", began.elapsed());

    // Frozen, it stays in the state device: only the deadline of a command shows it.
    sh(&format!("docker pause {}", spec.name));
    assert_eq!(shell("true", short).await, Err(AdbError::Timeout(short)));
    docker.start(&id).await.unwrap();

    adb.disconnect(address(port)).await.unwrap();
    adb.disconnect(address(port)).await.unwrap();
    assert_eq!(adb.state(address(port)).await.unwrap(), None);
    sweep(&docker, &host).await;
    supervised.stop().await;
}

#[tokio::test]
async fn phones_that_are_not_there_are_given_up_in_time() {
    if environment().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let supervised = Supervised::ready(folder.path(), Arc::default()).await;
    let adb = &supervised.client;
    let began = Instant::now();
    let error = adb.connect(address(fresh_port()), Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(&error, AdbError::Offline(why) if why.contains("refused")), "{error:?}");
    // Accepts and says nothing: the server itself would wait ten seconds.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = adb.connect(mute.local_addr().unwrap(), Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, AdbError::Offline(_)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let error = adb.shell(address(1), "true", PATIENCE).await.unwrap_err();
    assert!(matches!(error, AdbError::Offline(_)), "{error:?}");
    supervised.stop().await;
}

#[tokio::test]
async fn a_server_that_is_killed_or_hangs_is_replaced() {
    if environment().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let supervised = Supervised::ready(folder.path(), Arc::default()).await;
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let before = supervised.process();
        assert!(before.signal(signal));
        until("another one runs", PATIENCE, async || supervised.process() != before).await;
        until("it is ready", PATIENCE, async || supervised.is_ready()).await;
        assert!(!before.is_alive());
        assert_eq!(servers(folder.path()), [supervised.process()]);
        assert!(supervised.client.version(PATIENCE).await.is_ok());
    }
    supervised.stop().await;
}

#[tokio::test]
async fn a_server_of_an_earlier_run_is_adopted_with_its_phones() {
    let Some(environment) = environment() else { return };
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let docker = environment.docker(&host);
    let port = fresh_port();
    let id = docker.create(&phone(&host, folder.path(), port, &[])).await.unwrap();
    docker.start(&id).await.unwrap();

    let notes = Arc::new(Notes::default());
    let first = Supervised::ready(folder.path(), Arc::clone(&notes)).await;
    let process = first.process();
    first.client.connect(address(port), PATIENCE).await.unwrap();
    first.leave().await;
    assert!(process.is_alive());

    let second = Supervised::ready(folder.path(), Arc::clone(&notes)).await;
    assert_eq!(second.process(), process);
    assert_eq!(second.client.state(address(port)).await.unwrap().as_deref(), Some("device"));
    second.leave().await;

    // A crash before the note was written: it is known by what only ours has in its arguments.
    let third = Supervised::ready(folder.path(), Arc::default()).await;
    assert_eq!(third.process(), process);
    // An adopted one is watched as a child is.
    assert!(process.signal(Signal::SIGKILL));
    until("another one runs", PATIENCE, async || third.process() != process).await;
    until("it is ready", PATIENCE, async || third.is_ready()).await;
    third.stop().await;
    sweep(&docker, &host).await;
}

#[tokio::test]
async fn one_too_many_and_one_that_hangs_are_ended_at_the_start() {
    if environment().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let first = Supervised::ready(folder.path(), Arc::default()).await;
    let hung = first.process();
    first.leave().await;
    assert!(hung.signal(Signal::SIGSTOP));
    let second = Supervised::ready(folder.path(), Arc::default()).await;
    assert!(!hung.is_alive());
    let one = second.process();
    second.leave().await;

    // A second one beside it, as after a crash in the middle of a start.
    let socket = format!("localfilesystem:{}", folder.path().join("adb.sock").display());
    let mut other = std::process::Command::new("adb")
        .args(["-L", &socket, "nodaemon", "server"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("both run", PATIENCE, async || servers(folder.path()).len() == 2).await;
    let third = Supervised::ready(folder.path(), Arc::default()).await;
    other.wait().unwrap();
    assert!(!one.is_alive());
    assert_eq!(servers(folder.path()), [third.process()]);
    third.stop().await;
}

#[tokio::test]
async fn a_process_that_only_has_the_noted_number_is_left_alone() {
    if environment().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let process = ProcessId::of(stranger.id()).unwrap();
    let notes = Arc::new(Notes::default());
    notes.record(LEDGER_NAME, process).await.unwrap();
    let supervised = Supervised::ready(folder.path(), notes).await;
    assert!(process.is_alive());
    assert_ne!(supervised.process(), process);
    supervised.stop().await;
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn without_the_program_it_says_what_to_install_and_tries_on() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("adb-to-be");
    let options = Options { program: program.clone(), ..options(folder.path()) };
    let supervised = Supervised::start(options, Arc::default());
    let detail = || supervised.board.parts()[&Part::Adb].detail.clone();
    until("it complains", PATIENCE, async || detail().contains("apt-get install adb")).await;
    if environment().is_none() {
        return;
    }
    std::os::unix::fs::symlink("/usr/bin/adb", &program).unwrap();
    until("it is ready", PATIENCE, async || supervised.is_ready()).await;
    supervised.stop().await;
}
