//! `phonefleet-controller`: reads its configuration, wires the parts, and ends in order.

use anyhow::{Context, anyhow};
use clap::Parser;
use phonefleet_controller::api::{self, Api, server};
use phonefleet_controller::config::{self, Config, UNSET};
use phonefleet_controller::controller::{Controller, Handle, Parts, Settings, Signals};
use phonefleet_controller::metrics::Metrics;
use phonefleet_controller::schedule::{self, Keep};
use phonefleet_controller::store::{self, Store};
use phonefleet_link::mqtt;
use phonefleet_protocol::id::{IdSource, SystemIds};
use phonefleet_protocol::time::SystemClock;
use phonefleet_service::{Service, pulse};
use phonefleet_store::{Mode, OpenError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing_subscriber::EnvFilter;

/// Pause before something that is missing is tried again.
const START_PAUSE: Duration = Duration::from_secs(2);

/// The controller of a fleet of cloud phones.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); without it, defaults and the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints what is in force and where each value comes from, and ends.
    #[arg(long)]
    print_config: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let loaded = config::load(arguments.config.as_deref())?;
    if arguments.print_config {
        print!("{}", loaded.print(UNSET));
        return Ok(());
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(loaded.value))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut ended = ended()?;
    let service = Service::from_environment();
    let (give_proofs, proofs) = oneshot::channel();
    let (waits_for, missing) = watch::channel("database".to_owned());
    let running = Arc::new(OnceLock::<Handle>::new());
    let handle = Arc::clone(&running);
    let telling = tokio::spawn(service.clone().run(
        move || match handle.get() {
            None => format!("waiting for {}", *missing.borrow()),
            Some(handle) if handle.directory.is_connected() => "has broker, store".to_owned(),
            Some(_) => "waiting for broker".to_owned(),
        },
        proofs,
    ));
    let metrics = Arc::new(Metrics::default());
    let observer = Arc::clone(&metrics);
    let signals = Signals::new(Arc::new(move |notice| observer.on_notice(notice)));
    let starting = async {
        let store = open_store(&config.database, &signals, &waits_for).await?;
        Ok::<_, anyhow::Error>((store, listen(&config, &waits_for).await?))
    };
    let (store, listener) = tokio::select! {
        started = starting => started?,
        _ = ended.wait_for(|ended| *ended) => return Ok(()),
    };
    let clock = Arc::new(SystemClock);
    let client_id = format!("phonefleet-controller-{:016x}", SystemIds.random());
    let (transport, incoming) = mqtt::connect(config.mqtt_options(client_id)).context("[mqtt]")?;
    let parts = Parts {
        store: store.clone(),
        signals,
        transport,
        incoming,
        clock: Arc::clone(&clock) as _,
        ids: Arc::new(SystemIds),
    };
    let settings = Settings { machine_id: machine_id(), ..config.settings() };
    let controller = Controller::new(settings, parts);
    let (controller, mut proofs) = controller.proving();
    let api = Api::new(controller.handle(), metrics);
    let _ = running.set(controller.handle());
    let (end_serving, serving) = watch::channel(false);
    let mut end = serving.clone();
    let end = async move {
        // An error means that the sender is gone: time to end as well.
        let _ = end.wait_for(|end| *end).await;
    };
    let (accepting, comes_round) = pulse("API");
    proofs.push(comes_round);
    let server = tokio::spawn(server::serve_with_pulse(listener, api::router(api.clone()), end, accepting));
    // Nobody takes them where no service manager wants to know.
    let _ = give_proofs.send(proofs);
    tracing::info!(listen = %config.listen, database = %config.database.display(), broker = config.mqtt.url, "ready");

    let result = tokio::select! {
        _ = ended.wait_for(|ended| *ended) => Ok(()),
        result = controller.run() => Err(match result {
            Err(error) => anyhow!(error).context("the controller must be started again"),
            Ok(()) => anyhow!("the controller ended by itself"),
        }),
        why = schedule::database_is_lost(store.clone()) => Err(anyhow!(why).context("the database cannot be used any more; start again from the disk")),
        () = schedule::run(store, clock, Keep::default()) => Err(anyhow!("the periodic work ended: the database is closed")),
        () = api.store_stopped() => Err(anyhow!("the database has stopped; start again from the disk")),
    };
    service.stopping();
    telling.abort();
    // Calls in flight still get their answers; everything else is a row already.
    let _ = end_serving.send(true);
    if let Err(error) = server.await {
        tracing::error!(%error, "the API ended badly");
    }
    tracing::info!("ended");
    result
}

/// What agents on this machine call it too. Where there is no such file (small containers have
/// none) each agent makes up its own, and only its folder's marker tells that it is near.
fn machine_id() -> Option<String> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    // An image that was never booted has "uninitialized" in it.
    Some(text.trim().to_owned()).filter(|id| id.len() >= 32)
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
        // Nobody listens any more only when the daemon has ended already.
        let _ = tell.send(true);
    });
    Ok(ended)
}

/// Opens the database; waits for what may come (a directory, an earlier process), and
/// gives up on what will not.
async fn open_store(
    path: &Path,
    signals: &Signals,
    waits_for: &watch::Sender<String>,
) -> anyhow::Result<Store> {
    loop {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
            && let Err(error) = std::fs::create_dir_all(directory)
        {
            tracing::warn!(directory = %directory.display(), %error, "the database's directory cannot be made; trying again");
            waits_for.send_replace(format!("database ({}: {error})", directory.display()));
            tokio::time::sleep(START_PAUSE).await;
            continue;
        }
        match store::open(path, Mode::Threaded, signals.on_commit()) {
            Ok(store) => return Ok(store),
            Err(error @ (OpenError::InUse { .. } | OpenError::File { .. } | OpenError::Sqlite { .. })) => {
                tracing::warn!(%error, "the database cannot be opened; trying again");
                waits_for.send_replace(format!("database ({error})"));
                tokio::time::sleep(START_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn listen(config: &Config, waits_for: &watch::Sender<String>) -> anyhow::Result<TcpListener> {
    loop {
        match server::listen(config.listen).await {
            Ok(listener) => return Ok(listener),
            Err(error @ server::ListenError::NotLoopback(_)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "the API cannot listen; trying again");
                waits_for.send_replace(format!("API ({error})"));
                tokio::time::sleep(START_PAUSE).await;
            }
        }
    }
}
