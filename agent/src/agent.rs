//! The agent as a service: its parts, wired.

use crate::adb::Adb;
use crate::host::Kernel;
use crate::link::domain::AgentDomain;
use crate::link::presence::Speaker;
use crate::link::route;
use crate::orphan::Report;
use crate::orphan::round::Inspector;
use crate::phone::context::{Context, Edges};
use crate::phone::supervisor::Supervisor;
use crate::phone::tally::Tally;
use crate::phone::watch::Watch;
use crate::port::PortPool;
use crate::progress::Pulses;
use crate::recording::supervisor::Supervisor as RecordingSupervisor;
use crate::recording::tally::Tally as RecordingTally;
use crate::recording::{Recorder, Videos};
use crate::runtime::Engine;
use crate::settings::Settings;
use crate::status::{Board, LinkState, Part, Snapshot, StatusSource};
use crate::store::port_lease::{self, Holder, PortLease};
use crate::store::recording::{self, RecordingRow};
use crate::store::{AgentStore, CONTROLLER, Notice, device, meta, outbox};
use async_trait::async_trait;
use phonefleet_link::conversation::{begin_log, reapply_known};
use phonefleet_link::retention::prune;
use phonefleet_link::transport::{Incoming, Transport};
use phonefleet_link::{
    Conversation, ConversationError, ConversationHandle, ConversationOptions, ConversationStatus, Domain,
};
use phonefleet_protocol::command::Command;
use phonefleet_protocol::facts::{DeviceFacts, Reason};
use phonefleet_protocol::host::{Heartbeat, HostReport};
use phonefleet_protocol::id::{DeviceId, FleetId, IdSource};
use phonefleet_protocol::item::Item;
use phonefleet_protocol::recording::{RecordingFacts, RecordingProgress};
use phonefleet_protocol::stream::Epoch;
use phonefleet_protocol::stream::message::{Introduction, PROTOCOL};
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_protocol::topic::Channel;
use phonefleet_service::Proof;
use phonefleet_store::damage::{is_damage, look};
use phonefleet_store::stream_log::EVENT_OUTBOX;
use phonefleet_store::{ReadError, Store, WriteError, rusqlite};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Between two looks at the database and its disk.
const STORE_LOOK: Duration = Duration::from_secs(5);

/// Everything that is replaceable, each real or simulated.
pub struct Parts {
    /// The database: [`crate::store::open`].
    pub store: AgentStore,
    /// The container engine.
    pub engine: Arc<dyn Engine>,
    /// Access to phones.
    pub adb: Arc<dyn Adb>,
    /// The machine.
    pub kernel: Arc<dyn Kernel>,
    /// Recorders on phones.
    pub recorder: Arc<dyn Recorder>,
    /// The videos that the host keeps.
    pub videos: Arc<dyn Videos>,
    /// The sending half of the broker connection.
    pub transport: Arc<dyn Transport>,
    /// What comes from the broker; subscribed to the host's `down` topic.
    pub incoming: mpsc::Receiver<Incoming>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub ids: Arc<dyn IdSource>,
    /// The host's description in the first hello; [`AgentHandle::set_report`] replaces it.
    pub report: HostReport,
    /// Processor, memory and disk for a heartbeat. The agent fills in what it knows itself:
    /// phones, outbox, recordings.
    pub heartbeat: Arc<dyn Fn() -> Heartbeat + Send + Sync>,
}

/// Why the agent ended by itself. Whoever runs it starts it again.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The database cannot be used any more.
    #[error("the agent's database: {0}")]
    Store(String),
    /// The conversation with the controller cannot go on.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// A part of the agent ended or panicked: a bug.
    #[error("{0} ended unexpectedly")]
    Ended(String),
}

/// The agent as a service.
pub struct Agent {
    settings: Settings,
    parts: Parts,
    board: Board,
    pulses: Pulses,
    shared: Arc<Shared>,
}

/// What a running agent shows to its handles.
struct Shared {
    store: Store<Notice>,
    set_aside: u32,
    clock: Arc<dyn Clock>,
    running: OnceLock<Running>,
    report: Mutex<HostReport>,
}

struct Running {
    context: Arc<Context>,
    inspector: Arc<Inspector>,
    conversation: ConversationHandle,
    introduction: Introduction,
}

/// A cheap handle to a running agent.
#[derive(Clone)]
pub struct AgentHandle {
    shared: Arc<Shared>,
}

impl AgentHandle {
    /// Replaces the host's description, for the next hello.
    pub fn set_report(&self, report: HostReport) {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&report);
        if let Some(running) = self.shared.running.get() {
            let introduction = Introduction { report: Some(report), ..running.introduction.clone() };
            running.conversation.introduce(introduction);
        }
    }

    /// How the conversation with the controller stands; `None` before the agent runs.
    pub fn conversation(&self) -> Option<ConversationStatus> {
        self.shared.running.get().map(|running| running.conversation.status())
    }

    /// What each device that cannot go on waits for.
    pub fn waiting(&self) -> BTreeMap<DeviceId, Reason> {
        self.shared.running.get().map(|running| running.context.waiting()).unwrap_or_default()
    }
}

#[async_trait]
impl StatusSource for AgentHandle {
    async fn snapshot(&self) -> Result<Snapshot, String> {
        let heard = self.conversation().map_or(0, |status| status.acknowledged);
        let read = self.shared.store.read(move |connection| {
            let devices = device::all(connection)?.iter().map(device::DeviceRow::facts).collect();
            let recordings = recording::active(connection)?.iter().map(RecordingRow::facts).collect();
            Ok((devices, recordings, outbox::pending(connection, heard)?, port_lease::all(connection)?))
        });
        let read = timeout(Duration::from_secs(1), read).await;
        let read = read.map_err(|_| "the database does not answer".to_owned())?;
        let read = read.map_err(|error| error.to_string())?;
        let (devices, recordings, (outbox_pending, outbox_oldest), ports): Rows = read;
        let now = self.shared.clock.now();
        let tally = self.shared.running.get().map(|running| Arc::clone(&running.context.tally));
        let tally = tally.unwrap_or_default();
        let leased = ports.iter().filter(|lease| matches!(lease.holder, Holder::Leased(_))).count();
        let quarantined = ports
            .iter()
            .filter(|lease| matches!(lease.holder, Holder::Quarantined(until) if until > now))
            .count();
        Ok(Snapshot {
            devices,
            outbox_pending,
            outbox_oldest,
            ports_leased: leased as u64,
            ports_quarantined: quarantined as u64,
            recordings: progress(recordings, &tally.progress()),
            recording_counts: tally.counts(),
        })
    }

    fn phones(&self) -> Tally {
        self.shared.running.get().map(|running| running.context.phones.clone()).unwrap_or_default()
    }

    fn waiting(&self) -> BTreeMap<DeviceId, Reason> {
        Self::waiting(self)
    }

    fn databases_set_aside(&self) -> u32 {
        self.shared.set_aside
    }

    fn link(&self) -> Option<LinkState> {
        let status = self.conversation()?;
        Some(LinkState {
            open: status.open,
            acknowledged: status.acknowledged,
            dropped: status.dropped,
            malformed: status.malformed,
            refused: status.refused,
            unknown: status.unknown,
            last_error: status.last_error,
        })
    }

    async fn orphans(&self, now: bool) -> Report {
        match self.shared.running.get() {
            Some(running) if now => running.inspector.report_now().await,
            Some(running) => running.inspector.report(),
            None => Report::default(),
        }
    }
}

/// Devices, active recordings, what is pending since when, ports.
type Rows = (Vec<DeviceFacts>, Vec<RecordingFacts>, (u64, Option<Timestamp>), Vec<PortLease>);

/// Recordings with the size that each has reached.
fn progress(recordings: Vec<RecordingFacts>, progress: &[RecordingProgress]) -> Vec<RecordingFacts> {
    let reached = |id| progress.iter().find(|known| known.recording_id == id).map(|known| known.bytes);
    let fill = |facts: RecordingFacts| RecordingFacts { bytes: reached(facts.recording_id), ..facts };
    recordings.into_iter().map(fill).collect()
}

/// How a part of the agent ended.
type Ended = Result<(), AgentError>;

impl Agent {
    /// Wires the parts; nothing happens before [`Self::run`].
    pub fn new(settings: Settings, parts: Parts) -> (Self, AgentHandle) {
        let shared = Arc::new(Shared {
            store: parts.store.store.clone(),
            set_aside: parts.store.times_set_aside,
            clock: Arc::clone(&parts.clock),
            running: OnceLock::new(),
            report: Mutex::new(parts.report.clone()),
        });
        let board = Board::new(Arc::clone(&parts.clock));
        let pulses = Pulses::unheard();
        (Self { settings, parts, board, pulses, shared: Arc::clone(&shared) }, AgentHandle { shared })
    }

    /// Reports engine, broker and store to this board.
    #[must_use]
    pub fn report_to(self, board: Board) -> Self {
        Self { board, ..self }
    }

    /// With proofs that it makes progress, once it runs, for whoever watches over it.
    #[must_use]
    pub fn proving(self) -> (Self, Vec<Proof>) {
        let (pulses, proofs) = Pulses::heard(self.parts.store.store.clone());
        (Self { pulses, ..self }, proofs)
    }

    /// Runs until `shutdown` resolves, or the database fails. Dropping the future at any
    /// moment is the same as a crash: nothing is lost. No phone is touched by either.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), AgentError> {
        let Self { settings, parts, board, pulses, shared } = self;
        let settings = Arc::new(settings);
        let host = settings.container.host.clone();
        let AgentStore { store, notices, announce, .. } = parts.store;
        let domain = Arc::new(AgentDomain::new(host.clone()));
        let opened = open(&store, &domain, &*parts.clock, &*parts.ids).await?;
        board.ready(Part::Store, "");
        reapply_known(&store, &domain, &parts.clock, Command::KINDS)
            .await
            .map_err(|error| store_failed(&error))?;

        let report = shared.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let introduction = Introduction {
            protocol: PROTOCOL,
            capabilities: Vec::new(),
            software: settings.software.clone(),
            host_id: host.clone(),
            machine_id: Some(settings.machine_id.clone()),
            fleet_id: opened.fleet,
            report: Some(report),
        };
        let options = ConversationOptions {
            peer: CONTROLLER.to_owned(),
            send_topic: Channel::Up.of(&host),
            introduction: introduction.clone(),
            regression: Regression::Replay,
        };
        let transport = Arc::clone(&parts.transport);
        let (conversation, handle) = Conversation::new(
            options,
            store.clone(),
            Arc::clone(&domain),
            transport,
            Arc::clone(&parts.clock),
            Arc::clone(&parts.ids),
        );
        let context = Arc::new(Context::new(
            Arc::clone(&settings),
            store.clone(),
            Edges {
                engine: parts.engine,
                adb: parts.adb,
                kernel: parts.kernel,
                recorder: parts.recorder,
                videos: parts.videos,
            },
            Arc::clone(&parts.clock),
            PortPool::new(settings.ports.clone(), &opened.leases),
        ));
        let inspector = Arc::new(Inspector::new(Arc::clone(&context)));
        let running = Running {
            context: Arc::clone(&context),
            inspector: Arc::clone(&inspector),
            conversation: handle.clone(),
            introduction,
        };
        // Set once: an agent runs once.
        let _ = shared.running.set(running);

        let mut watcher = Watch::new(Arc::clone(&context), announce, board.clone(), pulses.engine_watch);
        if opened.fresh {
            watcher.first_look().await.map_err(AgentError::Store)?;
            begin_again(&store, domain, &*parts.clock, &*parts.ids).await?;
        }

        let speaker = Arc::new(Speaker {
            host: host.clone(),
            instance: settings.instance.clone(),
            transport: parts.transport,
            store: store.clone(),
            conversation: handle.clone(),
            heartbeat: with_recordings(parts.heartbeat, Arc::clone(&context.tally)),
        });
        let (connected, connection) = watch::channel(0);
        let mut rooms: JoinSet<(&'static str, Ended)> = JoinSet::new();
        rooms.spawn(async move { ("conversation", conversation.run().await.map_err(AgentError::from)) });
        let grew = handle.clone();
        let (hint, hints) = mpsc::unbounded_channel();
        let recordings = RecordingSupervisor::new(Arc::clone(&context), pulses.recordings);
        rooms.spawn(async move { ("recordings", recordings.run(hints).await.map_err(AgentError::Store)) });
        let supervisor = Supervisor::new(context, pulses.reconciler);
        rooms.spawn(async move {
            let ended = supervisor.run(notices, move || grew.log_grew(), hint).await;
            ("reconciler", ended.map_err(AgentError::Store))
        });
        rooms.spawn(async move { ("orphans", inspector.run().await.map_err(AgentError::Store)) });
        rooms.spawn(async move { ("engine watch", watcher.run().await.map_err(AgentError::Store)) });
        let (incoming, routed, routing_board) = (parts.incoming, handle, board.clone());
        rooms.spawn(async move {
            route(&host, incoming, routed, connected, routing_board).await;
            ("broker connection", Ok(()))
        });
        let speaking = Arc::clone(&speaker);
        rooms.spawn(async move {
            speaking.run(connection).await;
            ("presence", Ok(()))
        });
        if !store.is_inline() {
            let (watched, watching) = (store.clone(), board.clone());
            rooms.spawn(async move { ("database", watch_store(&watched, &watching).await) });
        }
        let retention = settings.retention;
        rooms.spawn(async move {
            prune(store, EVENT_OUTBOX, retention, parts.clock).await;
            ("retention", Ok(()))
        });

        tokio::select! {
            biased;
            () = shutdown => {
                speaker.goodbye().await;
                Ok(())
            }
            Some(ended) = rooms.join_next() => {
                let error = match ended {
                    Ok((_, Err(error))) => error,
                    Ok((room, Ok(()))) => AgentError::Ended(room.to_owned()),
                    Err(error) => AgentError::Ended(error.to_string()),
                };
                board.missing(Part::Store, error.to_string());
                Err(error)
            }
        }
    }
}

/// Tells whether the disk has room, and ends when the database is gone or damaged, also while
/// nothing happens on this host.
async fn watch_store(store: &Store<Notice>, board: &Board) -> Ended {
    loop {
        let written = store.write(|_| Ok::<_, rusqlite::Error>(())).await;
        if let Err(error @ (WriteError::Closed | WriteError::Unknown(_))) = written {
            return Err(store_failed(&error));
        }
        match store.read(look).await {
            Err(ReadError::Sqlite(error)) if is_damage(&error) => return Err(store_failed(&error)),
            Err(error) => board.missing(Part::Store, format!("the database cannot be read: {error}")),
            Ok(()) if store.is_short_of_room() => {
                let text = "the disk of `state_dir` is full: make room; no new phones meanwhile";
                board.missing(Part::Store, text);
            }
            Ok(()) => board.ready(Part::Store, ""),
        }
        tokio::time::sleep(STORE_LOOK).await;
    }
}

/// A heartbeat that tells of recordings, too.
fn with_recordings(
    beat: Arc<dyn Fn() -> Heartbeat + Send + Sync>,
    tally: Arc<RecordingTally>,
) -> Arc<dyn Fn() -> Heartbeat + Send + Sync> {
    Arc::new(move || Heartbeat {
        orphan_recorders: tally.counts().orphans,
        recordings: tally.progress(),
        ..beat()
    })
}

/// What an agent starts from.
struct Opened {
    /// The database is new: the host may have phones that it does not know.
    fresh: bool,
    fleet: Option<FleetId>,
    leases: Vec<PortLease>,
}

fn store_failed(error: &impl ToString) -> AgentError {
    AgentError::Store(error.to_string())
}

/// Begins the log of events, if there is none, and reads what the agent starts from.
async fn open(
    store: &Store<Notice>,
    domain: &Arc<AgentDomain>,
    clock: &dyn Clock,
    ids: &dyn IdSource,
) -> Result<Opened, AgentError> {
    let (domain, epoch, now) = (Arc::clone(domain), Epoch(ids.random()), clock.now());
    let opened = store
        .write(move |tx| {
            let fresh = begin_log(tx, &*domain, CONTROLLER, epoch, now)?;
            Ok::<_, rusqlite::Error>((fresh, meta::get(tx, meta::FLEET)?, port_lease::all(tx)?))
        })
        .await;
    let (fresh, fleet, leases) = opened.map_err(|error| store_failed(&error))?;
    let fleet = fleet.map(FleetId::try_from).transpose().map_err(|error| store_failed(&error))?;
    Ok(Opened { fresh, fleet, leases })
}

/// Begins the log anew, with what the first look has found. Nobody has seen the first one.
async fn begin_again(
    store: &Store<Notice>,
    domain: Arc<AgentDomain>,
    clock: &dyn Clock,
    ids: &dyn IdSource,
) -> Result<(), AgentError> {
    let (epoch, now) = (Epoch(ids.random()), clock.now());
    let begun = store.write(move |tx| {
        EVENT_OUTBOX.open(tx, CONTROLLER, epoch, now)?;
        for item in domain.snapshot(tx, CONTROLLER, now)? {
            EVENT_OUTBOX.append(tx, CONTROLLER, item.labels(), &item.item, now)?;
        }
        Ok::<_, rusqlite::Error>(())
    });
    begun.await.map_err(|error| store_failed(&error))
}
