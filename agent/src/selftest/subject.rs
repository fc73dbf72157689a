//! The phone under test: made by the code that makes every phone, in a folder of its own.

use super::report::Report;
use super::{Options, SelfTestError, sweep};
use crate::adb::boot_ladder::{BootLadder, Climb};
use crate::adb::client::Client;
use crate::adb::server::{self, ProcessLedger, SOCKET_PATH_BYTES, Server};
use crate::adb::{Adb, AdbError, ShellOutput};
use crate::host::Kernel;
use crate::host::kernel::Machine;
use crate::host::process::ProcessId;
use crate::runtime::docker::Docker;
use crate::runtime::redroid::{ContainerSettings, container_spec, serial};
use crate::runtime::{ContainerSpec, ContainerState, Engine, EngineError};
use crate::status::Board;
use async_trait::async_trait;
use nix::fcntl::{Flock, FlockArg};
use phonefleet_protocol::facts::Ports;
use phonefleet_protocol::id::{DeviceId, IdSource, SystemIds};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::time::{Clock, SystemClock};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(250);
/// From the adb server's start to its first answer.
const ADB_START: Duration = Duration::from_secs(20);

/// Arguments of `/init` that show what becomes of such ones, with what is expected of each.
pub(super) const PROBES: [(&str, &str); 3] = [
    ("androidboot.phonefleet_plain=plain", "plain"),
    // Init joins its arguments with spaces and splits them again.
    ("androidboot.phonefleet_space=left right", "left"),
    // And takes what splits into exactly two at "=".
    ("androidboot.phonefleet_equals=a=b", ""),
];

/// The phone, and everything that was made for it.
pub struct Subject {
    /// Which device it would be.
    pub device: DeviceId,
    /// Where adb reaches it.
    pub address: SocketAddr,
    /// Its `/data` on this host.
    pub data: PathBuf,
    /// What its container is built from.
    pub spec: ContainerSpec,
    /// The engine.
    pub docker: Docker,
    /// The test's own adb.
    pub adb: Client,
    id: String,
    options: Options,
    end_server: watch::Sender<bool>,
    server: JoinHandle<()>,
    _lock: Flock<File>,
}

/// Remembers the adb server's process, for as long as the test runs.
#[derive(Default)]
struct Notes(Mutex<BTreeMap<String, ProcessId>>);

#[async_trait]
impl ProcessLedger for Notes {
    async fn recorded(&self, name: &str) -> Result<Option<ProcessId>, String> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied())
    }
    async fn record(&self, name: &str, process: ProcessId) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), process);
        Ok(())
    }
}

fn fault(what: &'static str, path: &Path, error: &dyn ToString) -> SelfTestError {
    SelfTestError::Folder { what, path: path.to_owned(), error: error.to_string() }
}

impl Subject {
    /// Removes what an earlier test left, and creates the container; it does not run yet.
    pub(super) async fn make(options: &Options) -> Result<Self, SelfTestError> {
        let spec = order(options)?;
        let folder = sweep::folder(options);
        let server_options = server::Options::new(&folder);
        if server_options.socket().as_os_str().len() > SOCKET_PATH_BYTES {
            return Err(fault(
                "state_dir is too long for",
                &server_options.socket(),
                &"choose a shorter one",
            ));
        }
        let lock = lock(options)?;
        let host = sweep::host(&options.host)?;
        let docker = Docker::new(&options.engine_socket, host.clone());
        docker.info().await?;
        let left = sweep::sweep(options).await;
        if !left.is_empty() {
            return Err(SelfTestError::Left(left.join("; ")));
        }
        fs::create_dir_all(&folder).map_err(|error| fault("making", &folder, &error))?;

        let device = DeviceId(SystemIds.uuid(SystemClock.now()));
        let data = Machine::new(&folder)
            .prepare_data(device, 0)
            .await
            .map_err(|error| fault("preparing data in", &folder, &error))?;
        let address = free_address().map_err(|error| fault("finding a port for", &folder, &error))?;
        let settings = ContainerSettings {
            host: host.clone(),
            default_image: options.image.clone(),
            privilege: options.privilege,
            bind: address.ip(),
        };
        let ports = Ports { adb: address.port(), webrtc: address.port() };
        let mut spec = container_spec(&settings, device, 1, &spec, ports, &data);
        spec.command.extend(PROBES.iter().map(|(argument, _)| (*argument).to_owned()));

        let board = Board::new(Arc::new(SystemClock));
        let server = Server::new(server_options, Arc::new(Notes::default()), board.clone());
        let adb = server.client();
        let (end_server, ended) = watch::channel(false);
        let server = tokio::spawn(server.run(ended));
        let mut subject = Self {
            device,
            address,
            data,
            spec,
            docker,
            adb,
            id: String::new(),
            options: options.clone(),
            end_server,
            server,
            _lock: lock,
        };
        match subject.create(&board).await {
            Ok(id) => {
                subject.id = id;
                Ok(subject)
            }
            Err(error) => {
                // Why there is none is told by the error; what is left, by the next test.
                subject.clear().await;
                Err(error)
            }
        }
    }

    async fn create(&self, board: &Board) -> Result<String, SelfTestError> {
        let end = Instant::now() + ADB_START;
        while self.adb.version(LOOK).await.is_err() {
            if Instant::now() >= end {
                let why = board.parts().remove(&crate::status::Part::Adb).map(|part| part.detail);
                return Err(SelfTestError::Adb(why.unwrap_or_default()));
            }
            sleep(LOOK).await;
        }
        Ok(self.docker.create(&self.spec).await?)
    }

    /// Starts the container and waits for its boot. How long it took; or the rung where it
    /// stood, and what was seen there.
    pub(super) async fn boot(&self, patience: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        self.docker.start(&self.id).await.map_err(|error| error.to_string())?;
        let mut ladder = BootLadder::new(self.address, serial(self.device));
        loop {
            match ladder.climb(&self.adb).await {
                Climb::Up => return Ok(began.elapsed()),
                Climb::Higher => {}
                Climb::Waiting => sleep(LOOK).await,
            }
            let (rung, evidence) = ladder.stalled();
            match self.state().await {
                Some(ContainerState::Running) => {}
                Some(ContainerState::Exited { code, .. }) => {
                    return Err(format!("it exited with {code} at \"{}\": {evidence}", rung.name()));
                }
                other => return Err(format!("its container is {other:?}")),
            }
            if began.elapsed() >= patience {
                return Err(format!(
                    "it stood at \"{}\" after {} s: {evidence}",
                    rung.name(),
                    patience.as_secs()
                ));
            }
        }
    }

    /// Its container as the engine sees it.
    pub(super) async fn state(&self) -> Option<ContainerState> {
        self.docker.inspect(&self.id).await.ok().flatten().map(|container| container.state)
    }

    /// Waits for its end; its exit code, `None` if it goes on.
    pub(super) async fn exit_code(&self, patience: Duration) -> Option<i64> {
        let end = Instant::now() + patience;
        loop {
            if let Some(ContainerState::Exited { code, .. }) = self.state().await {
                return Some(code);
            }
            if Instant::now() >= end {
                return None;
            }
            sleep(LOOK).await;
        }
    }

    /// SIGTERM to its first process, as a polite engine sends it.
    pub(super) async fn terminate(&self) -> Result<(), EngineError> {
        self.docker.signal(&self.id, "TERM").await
    }

    /// SIGKILL to its first process.
    pub(super) async fn kill(&self) -> Result<(), EngineError> {
        self.docker.kill(&self.id).await
    }

    /// A command in its shell.
    pub(super) async fn shell(&self, command: &str, patience: Duration) -> Result<ShellOutput, AdbError> {
        self.adb.shell(self.address, command, patience).await
    }

    /// What a command says, and how it ended if not well.
    pub(super) async fn say(&self, command: &str) -> String {
        match self.shell(command, Duration::from_secs(15)).await {
            Ok(output) if output.status == 0 => output.stdout.trim().to_owned(),
            Ok(output) => format!(
                "{:?}, exit status {}, {:?}",
                output.stdout.trim(),
                output.status,
                output.stderr.trim()
            ),
            Err(error) => error.to_string(),
        }
    }

    /// Removes everything, and checks that it is gone.
    pub(super) async fn remove(self, report: &mut Report<'_>) {
        let left = self.clear().await;
        let seen = if left.is_empty() { "nothing is left".to_owned() } else { left.join("; ") };
        let fact = "container, data and adb server of a phone can be removed";
        report.must("end.removal", fact, "nothing is left", seen, left.is_empty());
    }

    async fn clear(self) -> Vec<String> {
        // Without a receiver it has ended already; a panic in it was printed.
        let _ = self.end_server.send(true);
        let _ = self.server.await;
        sweep::sweep(&self.options).await
    }
}

/// An order such as users place, small for a stand-in.
fn order(options: &Options) -> Result<DeviceSpec, SelfTestError> {
    let mut spec = DeviceSpec {
        image: Some(options.image.clone()),
        boot_args: options.boot_args.clone(),
        ..DeviceSpec::default()
    };
    if options.is_stand_in() {
        (spec.cpu_cores, spec.memory_mb) = (1.0, 128);
    }
    match spec.faults().first() {
        Some(fault) => Err(SelfTestError::Invalid(fault.detail.clone())),
        None => Ok(spec),
    }
}

fn lock(options: &Options) -> Result<Flock<File>, SelfTestError> {
    let state = &options.state_dir;
    // As the agent makes it: phones' data and keys will be in it.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(state);
    made.map_err(|error| fault("making", state, &error))?;
    let path = state.join("selftest.lock");
    let file = File::create(&path).map_err(|error| fault("making", &path, &error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| SelfTestError::Running(options.state_dir.clone()))
}

/// A port that is free now. The agent's ranges are not touched: the kernel picks among those
/// for outgoing connections.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
