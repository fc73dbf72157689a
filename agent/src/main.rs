//! `phonefleet-agent`: reads its configuration, wires the parts, and ends in order.
//!
//! Whatever is missing at the start (state directory, database in use, engine, broker, adb)
//! is tried again until it is there; only what no waiting mends ends the program. Its own
//! end, in order or not, stops no phone and no adb server.

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use phonefleet_agent::adb::Adb;
use phonefleet_agent::adb::ledger::StoreLedger;
use phonefleet_agent::adb::server::{self, Server};
use phonefleet_agent::agent::{Agent, AgentHandle, Parts};
use phonefleet_agent::config::validation::{self, Checked, Surroundings};
use phonefleet_agent::config::{self, Config, RuntimeKind, UNSET};
use phonefleet_agent::content::signature::Key;
use phonefleet_agent::content::{self, Content};
use phonefleet_agent::host::kernel::Machine;
use phonefleet_agent::host::resources::{self, Resources};
use phonefleet_agent::link::presence::presence;
use phonefleet_agent::local_api::{self, LocalApi, client};
use phonefleet_agent::metrics::Metrics;
use phonefleet_agent::progress;
use phonefleet_agent::recording::device::AdbRecorder;
use phonefleet_agent::recording::video::HostVideos;
use phonefleet_agent::runtime::Engine;
use phonefleet_agent::runtime::docker::Docker;
use phonefleet_agent::runtime::process::Processes;
use phonefleet_agent::selftest;
use phonefleet_agent::settings::Settings;
use phonefleet_agent::status::{Board, Identity, Overview, Part};
use phonefleet_agent::store::{self, AgentStore};
use phonefleet_link::mqtt;
use phonefleet_protocol::host::{Heartbeat, HostReport};
use phonefleet_protocol::id::{IdSource, MachineId, SystemIds};
use phonefleet_protocol::time::{Clock, SystemClock};
use phonefleet_service::Service;
use phonefleet_store::{Mode, OpenError};
use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing_subscriber::EnvFilter;

/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Pause before something that is missing is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the first words to the controller wait for the engine's version.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Pause between two looks at what the engine is.
const ENGINE_LOOK: Duration = Duration::from_secs(60);
/// From the request to end to the end, at most.
const ENDING: Duration = Duration::from_secs(5);

/// The agent of a phone host.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); without it, defaults and the environment.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Prints what is in force and where each value comes from, and ends.
    #[arg(long)]
    print_config: bool,
    /// Log lines as JSON; the same as PHONEFLEET_LOG_FORMAT=json.
    #[arg(long)]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Subject>,
}

#[derive(Subcommand)]
enum Subject {
    /// Asks the running agent how it is.
    Status {
        /// Prints everything, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists what is on this host and belongs to no device, looked for now.
    Orphans {
        /// Prints it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Checks what the agent takes for granted about Redroid, on a phone made for it.
    Selftest(selftest::command::Arguments),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let loaded = config::load(arguments.config.as_deref())?;
    if arguments.print_config {
        print!("{}", loaded.print(UNSET));
        return Ok(());
    }
    let agent = loaded.value.local_api.listen;
    let asked = match arguments.command {
        None => None,
        Some(Subject::Status { json }) => {
            Some(client::status(agent).map(|(body, status)| (json, body, status.to_string()))?)
        }
        Some(Subject::Orphans { json }) => {
            Some(client::orphans(agent).map(|(body, report)| (json, body, report.to_string()))?)
        }
        Some(Subject::Selftest(test)) => {
            log_to_stderr(arguments.log_json, "warn");
            let checked = validation::check(&loaded, &Surroundings::read())?;
            return selftest::command::main(test, &loaded.value, &checked);
        }
    };
    if let Some((json, body, text)) = asked {
        print!("{}", if json { format!("{body}\n") } else { text });
        return Ok(());
    }
    log_to_stderr(arguments.log_json, "info");
    let around = Surroundings::read();
    let checked = validation::check(&loaded, &around)?;
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // It waits for others nearly all the time; more threads only cost memory.
        .worker_threads(std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 4)))
        .enable_all()
        .build()?;
    let ended = runtime.block_on(run(loaded.value, checked, &around));
    // Not held up by the deletion of a phone's data, which the next run finishes.
    runtime.shutdown_timeout(ENDING);
    ended
}

fn log_to_stderr(json: bool, usual: &str) {
    let json = json || std::env::var("PHONEFLEET_LOG_FORMAT").is_ok_and(|format| format == "json");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json { lines.json().init() } else { lines.init() }
}

async fn run(config: Config, checked: Checked, around: &Surroundings) -> anyhow::Result<()> {
    let ended = ended()?;
    let mut asked_to_end = ended.clone();
    let service = Service::from_environment();
    tokio::select! {
        result = serve(config, checked, around, service.clone(), ended) => result,
        () = async {
            // An error means that nobody can ask any more.
            let _ = asked_to_end.wait_for(|ended| *ended).await;
            service.stopping();
            tokio::time::sleep(ENDING).await;
        } => {
            tracing::warn!("it took too long to end in order");
            Ok(())
        }
    }
}

async fn serve(
    config: Config,
    checked: Checked,
    around: &Surroundings,
    service: Service,
    mut ended: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let clock = Arc::new(SystemClock);
    let instance = format!("{:016x}", SystemIds.random());
    let board = Board::new(Arc::clone(&clock) as Arc<dyn Clock>);
    let (give_proofs, proofs) = oneshot::channel();
    let parts = board.clone();
    let telling = tokio::spawn(service.run(move || progress::status_line(&parts), proofs));
    let resources = Arc::new(Resources::new(&config.state_dir).context("reading the machine's resources")?);
    let identity = Identity {
        host_id: checked.host.to_string(),
        instance: instance.clone(),
        version: VERSION.to_owned(),
        started_at: clock.now(),
    };
    let overview = Arc::new(Overview::new(identity, config.protocol_capacity(), board.clone()));
    let metrics = Arc::new(Metrics::new(Arc::clone(&resources), VERSION));
    let api = LocalApi { overview: Arc::clone(&overview), metrics };
    let local_api = tokio::spawn(local_api::serve(config.local_api.listen, api));

    let (machine_id, store) = tokio::select! {
        opened = open_state(&config.state_dir, &board) => opened?,
        _ = ended.wait_for(|ended| *ended) => return Ok(()),
    };
    let engine: Arc<dyn Engine> = match config.runtime.kind {
        RuntimeKind::Docker => Arc::new(Docker::new(&checked.engine_socket, checked.host.clone())),
        RuntimeKind::Process => {
            let program = config.runtime.phonesim.clone();
            Arc::new(Processes::new(&config.state_dir, program, checked.host.clone()))
        }
    };
    let ledger = Arc::new(StoreLedger(store.store.clone()));
    let adb = Server::new(server::Options::new(&config.state_dir), ledger, board.clone());
    let client: Arc<dyn Adb> = Arc::new(adb.client());
    let videos = Arc::new(HostVideos::new(&config.state_dir, Arc::clone(&client)));
    if let Err(error) = videos.prepare(&checked.host) {
        // Tried again with each recording; only a controller on this machine misses the mark.
        tracing::warn!(%error, folder = %videos.folder().display(), "the folder of videos cannot be made");
    }
    let will = presence(&checked.host, &instance, false);
    let mqtt_options = config.mqtt_options(&checked.host, &instance, will);
    let (transport, incoming) = mqtt::connect(mqtt_options).context("[mqtt]")?;
    let settings = Settings {
        machine_id: machine_id.clone(),
        instance: instance.clone(),
        software: format!("phonefleet-agent/{VERSION}"),
        container: config.container_settings(&checked.host),
        allowed_images: config.runtime.allowed_images.clone(),
        ports: config.port_settings(around),
        boot_timeout: Duration::from_secs(config.boot.timeout_seconds),
        answer_deadline: Duration::from_secs(60),
        retention: phonefleet_link::retention::Retention::default(),
        recording: config.recording_settings(),
    };
    let key = Arc::new(Key::of(&store.store).await.context("[content]")?);
    let mut report = config.report(resources.cpu_cores(), resources.memory_mb(), &key);
    // In the first hello, if it answers soon: what comes later is told by the next connection's.
    if let Ok(Ok(info)) = tokio::time::timeout(FIRST_LOOK, engine.info()).await {
        report.engine_version = info.version;
    }
    let content = Content {
        store: store.store.clone(),
        videos: Arc::clone(&videos),
        key,
        clock: Arc::clone(&clock) as _,
    };
    let content = config.content.listen.map(|listen| tokio::spawn(content::serve(listen, content)));
    let parts = Parts {
        store,
        engine: Arc::clone(&engine),
        adb: Arc::clone(&client),
        recorder: Arc::new(AdbRecorder::new(Arc::clone(&client))),
        videos: videos as _,
        kernel: Arc::new(Machine::new(&config.state_dir)),
        transport,
        incoming,
        clock: Arc::clone(&clock) as _,
        ids: Arc::new(SystemIds),
        report: report.clone(),
        heartbeat: Arc::new(heartbeat(resources, clock, machine_id, instance)),
    };
    let (agent, handle) = Agent::new(settings, parts);
    let (agent, proofs) = agent.proving();
    // Nobody takes them where no service manager wants to know.
    let _ = give_proofs.send(proofs);
    overview.set_source(Arc::new(handle.clone()));
    let adb = tokio::spawn(adb.run(ended.clone()));
    let reporting = tokio::spawn(keep_reporting(engine, handle, report));
    tracing::info!(host = %checked.host, version = VERSION, state = %config.state_dir.display(), "started");

    let result = agent
        .report_to(board)
        .run(async move {
            let _ = ended.wait_for(|ended| *ended).await;
        })
        .await;
    for task in [&adb, &reporting, &local_api, &telling].into_iter().chain(&content) {
        task.abort();
    }
    tracing::info!("ended; phones and the adb server go on");
    result.map_err(|error| anyhow!(error).context("the agent must be started again"))
}

/// Becomes `true` at SIGTERM or SIGINT.
fn ended() -> anyhow::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, ended) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end");
        let _ = tell.send(true);
        // Dropping the sender is harmless: the value stays.
    });
    Ok(ended)
}

/// The state directory, made if need be, and the database in it. Waits for what may come:
/// a disk that is mounted later, an earlier agent that still ends.
async fn open_state(state_dir: &Path, board: &Board) -> anyhow::Result<(MachineId, AgentStore)> {
    loop {
        let opened = state_folder(state_dir).map_err(|error| format!("{}: {error}", state_dir.display()));
        let why = match opened {
            Ok(machine_id) => match store::open(&state_dir.join("agent.db"), Mode::Threaded) {
                Ok(store) => return Ok((machine_id, store)),
                Err(
                    error @ (OpenError::InUse { .. } | OpenError::File { .. } | OpenError::Sqlite { .. }),
                ) => error.to_string(),
                Err(error) => return Err(error.into()),
            },
            Err(why) => why,
        };
        board.missing(Part::Store, why);
        tokio::time::sleep(AGAIN).await;
    }
}

/// Made for the owner only: keys and phones' data are in it. One that was there before
/// keeps its mode; it may not be ours alone.
fn state_folder(path: &Path) -> std::io::Result<MachineId> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "the state directory is open to other users; chmod 700 it");
    }
    resources::machine_id(path)
}

fn heartbeat(
    resources: Arc<Resources>,
    clock: Arc<SystemClock>,
    machine_id: MachineId,
    instance: String,
) -> impl Fn() -> Heartbeat {
    move || {
        let sample = resources.sample();
        Heartbeat {
            at: clock.now(),
            machine_id: machine_id.clone(),
            instance: instance.clone(),
            cpu_percent: sample.cpu_percent,
            memory_used_mb: sample.memory_used_mb,
            disk_free_mb: sample.disk_free_mb,
            phones_running: 0,
            outbox_pending: 0,
            orphan_recorders: 0,
            recordings: Vec::new(),
        }
    }
}

/// Tells the controller which engine this is, once it answers and whenever that changes.
async fn keep_reporting(engine: Arc<dyn Engine>, handle: AgentHandle, mut report: HostReport) {
    loop {
        match engine.info().await {
            Ok(info) => {
                if info.version != report.engine_version {
                    report.engine_version = info.version;
                    handle.set_report(report.clone());
                }
                tokio::time::sleep(ENGINE_LOOK).await;
            }
            // Whoever watches the engine has said so already.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}
