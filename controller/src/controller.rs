//! The controller as a whole: wires store, sagas, fleet and link. No HTTP in here.

use crate::fleet::domain::FleetDomain;
use crate::fleet::presence;
use crate::fleet::router::{Directory, Router};
use crate::quota::Policy;
use crate::saga::runner::Wake;
use crate::saga::{Engine, REGISTRY, Registry, RetryPolicy, Runner};
use crate::store::{Notice, Store, meta};
use phonefleet_link::conversation::reapply_known;
use phonefleet_link::{Incoming, Transport};
use phonefleet_protocol::event::Event;
use phonefleet_protocol::id::{FleetId, IdSource};
use phonefleet_protocol::item::Item;
use phonefleet_protocol::time::Clock;
use phonefleet_service::{Proof, Pulse, pulse};
use phonefleet_store::{WriteError, rusqlite};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Quota of users who were given none.
    pub quota: Policy,
    /// How sagas retry.
    pub retry: RetryPolicy,
    /// The sagas, with their deadlines.
    pub registry: Registry,
    /// Silence after which a host is unreachable.
    pub presence: Duration,
    /// Silence after which a host counts as lost.
    pub lost_after: Duration,
    /// This program and its version.
    pub software: String,
    /// This machine, to know which hosts' videos are files here; `None` where it has no id.
    pub machine_id: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quota: Policy::default(),
            retry: RetryPolicy::default(),
            registry: REGISTRY,
            presence: Duration::from_secs(30),
            lost_after: Duration::from_secs(600),
            software: concat!("phonefleet-controller/", env!("CARGO_PKG_VERSION")).to_owned(),
            machine_id: None,
        }
    }
}

type Observer = Arc<dyn Fn(&Notice) + Send + Sync>;

/// What happens after commits: made before the store, which calls it.
#[derive(Clone)]
pub struct Signals {
    wakes: mpsc::UnboundedSender<Wake>,
    runner: Arc<Mutex<Option<mpsc::UnboundedReceiver<Wake>>>>,
    directory: Directory,
    observe: Observer,
}

impl Signals {
    /// `observe` sees every notice, for metrics. It must not block.
    pub fn new(observe: Observer) -> Self {
        let (wakes, runner) = mpsc::unbounded_channel();
        Self { wakes, runner: Arc::new(Mutex::new(Some(runner))), directory: Directory::default(), observe }
    }

    /// What the store calls after each commit.
    pub fn on_commit(&self) -> Arc<dyn Fn(Vec<Notice>) + Send + Sync> {
        let signals = self.clone();
        Arc::new(move |notices| notices.into_iter().for_each(|notice| signals.dispatch(notice)))
    }

    fn dispatch(&self, notice: Notice) {
        (self.observe)(&notice);
        match notice {
            Notice::Commands(host) => self.directory.log_grew(&host),
            // The runner may have ended with the daemon.
            Notice::SagaRunnable(saga) => _ = self.wakes.send(Wake::Runnable(saga)),
            Notice::SagaDue(at) => _ = self.wakes.send(Wake::Due(at)),
            Notice::SagaEnded(_)
            | Notice::SagaStep { .. }
            | Notice::RecordingEnded(_)
            | Notice::EventApplied { .. } => {}
        }
    }
}

/// What the controller is made of.
pub struct Parts {
    /// The open database.
    pub store: Store,
    /// What the store calls.
    pub signals: Signals,
    /// The sending half of the broker connection.
    pub transport: Arc<dyn Transport>,
    /// Its receiving half.
    pub incoming: mpsc::Receiver<Incoming>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub ids: Arc<dyn IdSource>,
}

/// What the API works with; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    /// The database.
    pub store: Store,
    /// The saga engine.
    pub engine: Engine,
    /// What an operator set.
    pub settings: Arc<Settings>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub ids: Arc<dyn IdSource>,
    /// The conversations with hosts.
    pub directory: Directory,
}

/// A controller that is ready to run.
pub struct Controller {
    handle: Handle,
    signals: Signals,
    transport: Arc<dyn Transport>,
    incoming: mpsc::Receiver<Incoming>,
    saga_timer: Pulse,
}

/// Why a controller ended by itself. It must be started again.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The database cannot be used.
    #[error("the database cannot be used: {0}")]
    Store(String),
    /// A part of it ended, because the store is closed.
    #[error("{0} ended")]
    Ended(&'static str),
}

impl Controller {
    /// Wires the parts.
    pub fn new(settings: Settings, parts: Parts) -> Self {
        let engine = Engine { registry: settings.registry, retry: settings.retry };
        let handle = Handle {
            store: parts.store,
            engine,
            settings: Arc::new(settings),
            clock: parts.clock,
            ids: parts.ids,
            directory: parts.signals.directory.clone(),
        };
        let Parts { signals, transport, incoming, .. } = parts;
        Self { handle, signals, transport, incoming, saga_timer: Pulse::unheard() }
    }

    /// With proofs that it makes progress, once it runs, for whoever watches over it. They
    /// are about the daemon only: a broker that is away is no reason to start it again.
    #[must_use]
    pub fn proving(self) -> (Self, Vec<Proof>) {
        let (saga_timer, comes_round) = pulse("saga timer");
        let store = self.handle.store.clone();
        // A transaction went through the writer: its queue, its thread, the database's lock.
        // One that was refused did as well: starting again does not empty a full disk.
        let writes = Proof::new("store", move || {
            let store = store.clone();
            async move {
                let written = store.write(|_| Ok::<_, rusqlite::Error>(())).await;
                !matches!(written, Err(WriteError::Closed | WriteError::Unknown(_)))
            }
        });
        (Self { saga_timer, ..self }, vec![writes, comes_round])
    }

    /// What the API works with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until one of its parts ends. Dropping the future stops all of it at once,
    /// which is as good as any other end: every step is a transaction.
    ///
    /// # Errors
    /// Always: it does not end by itself unless the store did.
    pub async fn run(self) -> Result<(), ControllerError> {
        let Handle { store, engine, settings, clock, ids, directory } = self.handle;
        let store_error = |error: &dyn std::fmt::Display| ControllerError::Store(error.to_string());
        let fresh = FleetId::try_from(format!("fleet-{:016x}", ids.random()))
            .expect("letters, digits and a dash are a fleet id");
        let fleet =
            store.write(move |tx| meta::fleet_id(tx, &fresh)).await.map_err(|error| store_error(&error))?;
        let domain = Arc::new(FleetDomain { engine, fleet: fleet.clone(), presence: settings.presence });
        let kept = reapply_known(&store, &domain, &clock, Event::KINDS)
            .await
            .map_err(|error| store_error(&error))?;
        if kept > 0 {
            tracing::info!(kept, "applied events that an earlier version could not read");
        }
        let wakes = self.signals.runner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let wakes = wakes.ok_or(ControllerError::Ended("the saga runner"))?;
        let router = Router {
            store: store.clone(),
            domain,
            transport: self.transport,
            clock: Arc::clone(&clock),
            ids,
            fleet,
            software: settings.software.clone(),
            directory,
        };
        let mut parts = JoinSet::new();
        let runner =
            Runner::new(store.clone(), engine, Arc::clone(&clock), wakes).with_pulse(self.saga_timer);
        parts.spawn(async move {
            runner.run().await;
            "the saga runner"
        });
        let presence_period = settings.presence;
        parts.spawn(async move {
            presence::watch(store, clock, presence_period).await;
            "the presence watch"
        });
        let incoming = self.incoming;
        parts.spawn(async move {
            router.run(incoming).await;
            "the router"
        });
        match parts.join_next().await {
            Some(Ok(part)) => Err(ControllerError::Ended(part)),
            Some(Err(error)) => Err(ControllerError::Store(error.to_string())),
            None => Ok(()),
        }
    }
}
