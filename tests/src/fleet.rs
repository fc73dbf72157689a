//! A whole fleet in one thread, on virtual time: the real controller and real agents over
//! an in-memory broker and simulated machines, their databases in files that outlive them.
//!
//! Every daemon runs under a supervisor that starts it again, as systemd would: when it
//! ended by itself, when it was killed, and when it reached its crash point.

use crate::simulation::agent::{self, Surroundings};
use crate::simulation::time::{SeededIds, VirtualClock};
use crate::simulation::{CrashPoint, Machine};
use phonefleet_agent::agent::Agent;
use phonefleet_controller::controller::{Controller, Handle, Parts, Settings, Signals};
use phonefleet_controller::fleet::forget;
use phonefleet_controller::order::{self, Accepted, NewDevice, OrderError, Verb};
use phonefleet_controller::store::device::{DeviceRow, Filter};
use phonefleet_controller::store::saga::SagaRow;
use phonefleet_controller::store::{self, device as devices, host, quota, saga as sagas, totals};
use phonefleet_link::memory::MemoryBroker;
use phonefleet_protocol::host::Capacity;
use phonefleet_protocol::id::{DeviceId, HostId, MachineId, SagaId, UserId};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::time::Clock;
use phonefleet_protocol::topic::Channel;
use phonefleet_store::rusqlite::{Connection, OpenFlags};
use phonefleet_store::{Mode, WriteError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Longest that anything may take, in virtual time.
pub const PATIENCE: Duration = Duration::from_secs(3600);
/// From a daemon's end to its next start.
const RESTART: Duration = Duration::from_millis(500);

/// A daemon under its supervisor.
pub struct Daemon {
    /// Counts its commits and effects, and kills it at the armed one.
    pub crash: CrashPoint,
    /// Its database.
    pub database: PathBuf,
    kill: Arc<Notify>,
    hold: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Daemon {
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

    /// A number out of its database file, read beside it.
    pub fn count(&self, sql: &str) -> i64 {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(&self.database, flags)
            .and_then(|connection| connection.query_row(sql, [], |row| row.get(0)))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One host: a machine and its agent.
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// What outlives the agent.
    pub machine: Machine,
    /// The agent.
    pub agent: Daemon,
}

/// The fleet.
pub struct Fleet {
    /// What is between the daemons.
    pub broker: MemoryBroker,
    /// The controller.
    pub controller: Daemon,
    /// The hosts.
    pub hosts: Vec<Host>,
    handle: watch::Receiver<Option<Handle>>,
    clock: Arc<VirtualClock>,
    ids: Arc<SeededIds>,
    directory: tempfile::TempDir,
}

/// What a host of the fleet offers; changed by tests that need another.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// What it takes on.
    pub capacity: Capacity,
    /// Ports of each kind; a hundred if 0.
    pub ports: u16,
}

impl Fleet {
    /// A controller and `hosts` hosts that have all said hello.
    pub async fn start(hosts: usize) -> Self {
        let mut fleet = Self::empty();
        for _ in 0..hosts {
            fleet.add_host(&HostOptions::default());
        }
        fleet.until_online().await;
        fleet
    }

    /// A controller without hosts.
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = MemoryBroker::new();
        let clock = Arc::new(VirtualClock::start());
        let ids = Arc::new(SeededIds::new(1));
        let (publish, handle) = watch::channel(None);
        let database = directory.path().join("controller.db");
        let controller = {
            let (broker, clock, ids) = (broker.clone(), Arc::clone(&clock), Arc::clone(&ids));
            supervise(database, move |path, crash| {
                let (broker, clock, ids) = (broker.clone(), Arc::clone(&clock), Arc::clone(&ids));
                let publish = publish.clone();
                async move { run_controller(&path, crash, &broker, clock, ids, &publish).await }
            })
        };
        Self { broker, controller, hosts: Vec::new(), handle, clock, ids, directory }
    }

    /// One more host.
    pub fn add_host(&mut self, options: &HostOptions) {
        let number = self.hosts.len() + 1;
        let id: HostId = format!("host-{number}").parse().expect("a host id");
        let machine = Machine::default();
        let database = self.directory.path().join(format!("{id}.db"));
        let agent = {
            let (broker, clock, ids) = (self.broker.clone(), Arc::clone(&self.clock), Arc::clone(&self.ids));
            let (id, machine, options) = (id.clone(), machine.clone(), options.clone());
            supervise(database, move |path, crash| {
                let (broker, clock, ids) = (broker.clone(), Arc::clone(&clock), Arc::clone(&ids));
                let (id, machine, options) = (id.clone(), machine.clone(), options.clone());
                async move { run_agent(&path, crash, &broker, clock, ids, &id, machine, &options).await }
            })
        };
        self.hosts.push(Host { id, machine, agent });
    }

    /// Waits until every host is online at the controller.
    pub async fn until_online(&self) {
        for host in &self.hosts {
            let id = host.id.clone();
            self.until("a host is online", || async {
                let id = id.clone();
                self.read(move |connection| host::find(connection, &id)).await.is_some_and(|row| row.online)
            })
            .await;
        }
    }

    /// Waits until the controller misses every host.
    pub async fn until_away(&self) {
        self.until("all hosts are away", || async {
            self.controller.count("SELECT max(online) FROM host") == 0
        })
        .await;
    }

    /// The running controller's handle; waits while it is down.
    pub async fn handle(&self) -> Handle {
        let mut handle = self.handle.clone();
        let found = handle.wait_for(Option::is_some).await.expect("the supervisor lives");
        found.clone().expect("waited for it")
    }

    /// Reads the controller's database through the running controller.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl Fn(&Connection) -> store::Result<T> + Clone + Send + 'static,
    ) -> T {
        loop {
            match self.handle().await.store.read(job.clone()).await {
                Ok(value) => return value,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Orders a device, as the API does.
    pub async fn try_create(&self, name: &str, spec: DeviceSpec) -> Result<Accepted, OrderError> {
        let order = NewDevice {
            name: name.to_owned(),
            user_id: user(),
            spec,
            host_id: None,
            labels: std::collections::BTreeMap::new(),
        };
        let handle = self.handle().await;
        let (policy, ids, now) = (handle.settings.quota, Arc::clone(&self.ids), self.clock.now());
        match handle.store.write(move |tx| order::create(tx, policy, &order, &*ids, now)).await {
            Ok(accepted) => Ok(accepted),
            Err(WriteError::Refused(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    /// Orders a device that must be accepted.
    pub async fn create(&self, name: &str, spec: DeviceSpec) -> Accepted {
        self.try_create(name, spec).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// A verb on a device, as the API does.
    pub async fn try_verb(&self, device: DeviceId, verb: Verb) -> Result<Accepted, OrderError> {
        let handle = self.handle().await;
        let (engine, policy) = (handle.engine, handle.settings.quota);
        let (ids, now) = (Arc::clone(&self.ids), self.clock.now());
        let job = move |tx: &mut store::Tx<'_>| order::verb(tx, &engine, policy, device, verb, &*ids, now);
        match handle.store.write(job).await {
            Ok(accepted) => Ok(accepted),
            Err(WriteError::Refused(error)) => Err(error),
            Err(error) => panic!("{error}"),
        }
    }

    /// A verb that must be accepted.
    pub async fn verb(&self, device: DeviceId, verb: Verb) -> Accepted {
        self.try_verb(device, verb).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// An operator gives up a host.
    pub async fn forget(&self, host: &HostId) -> usize {
        let handle = self.handle().await;
        let (engine, host, now) = (handle.engine, host.clone(), self.clock.now());
        handle.store.write(move |tx| forget::forget(&engine, tx, &host, now)).await.expect("it is forgotten")
    }

    /// A device's row.
    pub async fn device(&self, device: DeviceId) -> DeviceRow {
        self.read(move |connection| devices::find(connection, device)).await.expect("a device row")
    }

    /// A saga's row.
    pub async fn saga(&self, saga: &SagaId) -> SagaRow {
        let saga = saga.clone();
        self.read(move |connection| sagas::find(connection, &saga)).await.expect("a saga row")
    }

    /// Waits until a saga has ended, and returns how.
    pub async fn ended(&self, saga: &SagaId) -> SagaRow {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = self.saga(saga).await;
            if row.status.is_terminal() {
                return row;
            }
            assert!(Instant::now() < deadline, "still not ended: {row:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for a condition, with a deadline on virtual time.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "still not: {what}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until nothing is left anywhere, and says what is if that never comes. Asks the
    /// machines, the agents' databases and the controller's; not what anybody believes.
    pub async fn until_clean(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.left_behind().await;
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:#?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Everything that a fleet without devices should not have.
    pub async fn left_behind(&self) -> Vec<String> {
        let mut left = Vec::new();
        let living = self.read(|connection| devices::page(connection, &Filter::default(), "", 10)).await;
        left.extend(living.iter().map(|device| format!("controller: device {device:?}")));
        let usage = self.read(|connection| quota::usage(connection, &user())).await;
        if usage != quota::Usage::default() {
            left.push(format!("controller: quota {usage:?}"));
        }
        let totals = self.read(totals::wrong).await;
        left.extend(totals.iter().map(|whose| format!("controller: totals of {whose} are not its sums")));
        let ports = self.read(|connection| devices::ports(connection, None)).await;
        left.extend(ports.iter().map(|port| format!("controller: port {port:?}")));
        let rows = |daemon: &Daemon, who: &str, what: &str, sql: &str| {
            let rows = daemon.count(sql);
            (rows != 0).then(|| format!("{who}: {rows} {what}"))
        };
        for (what, sql) in [
            ("dead letters", "SELECT count(*) FROM inbox_dead_letter"),
            ("unfinished sagas", "SELECT count(*) FROM saga_state WHERE ended_at IS NULL"),
            ("reservations", "SELECT count(*) FROM quota_reservation"),
            (
                "unacknowledged commands",
                "SELECT count(*) FROM device WHERE command_seq IS NOT NULL OR command_dirty",
            ),
        ] {
            left.extend(rows(&self.controller, "controller", what, sql));
        }
        for host in &self.hosts {
            let who = host.id.as_str();
            for (what, sql) in [
                ("port leases", "SELECT count(*) FROM port_lease WHERE state = 'LEASED'"),
                ("devices", "SELECT count(*) FROM device WHERE phase <> 'absent'"),
                ("dead letters", "SELECT count(*) FROM inbox_dead_letter"),
            ] {
                left.extend(rows(&host.agent, who, what, sql));
            }
            let last = host.agent.count("SELECT coalesce(max(seq), 0) FROM event_outbox");
            let applied = self.controller.count(&format!(
                "SELECT coalesce((SELECT through FROM inbox_cursor WHERE peer = '{who}'), 0)"
            ));
            if last > applied {
                left.push(format!("{who}: event {last} is not applied, only {applied}"));
            }
        }
        for host in &self.hosts {
            let who = host.id.as_str();
            left.extend(host.machine.phones().iter().map(|phone| format!("{who}: container {phone:?}")));
            left.extend(host.machine.data().iter().map(|data| format!("{who}: data {data:?}")));
            left.extend(host.machine.bound_ports().iter().map(|port| format!("{who}: port {port} bound")));
        }
        left
    }
}

/// The one user of the tests.
pub fn user() -> UserId {
    "alice".parse().expect("a user id")
}

/// A spec whose phone boots in half a second, with further boot arguments.
pub fn spec(arguments: &[&str]) -> DeviceSpec {
    let mut boot_args = vec!["androidboot.phonesim_boot_ms=500".to_owned()];
    boot_args.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    DeviceSpec { cpu_cores: 1.0, memory_mb: 128, boot_args, ..DeviceSpec::default() }
}

fn supervise<F, Run>(database: PathBuf, run: F) -> Daemon
where
    F: Fn(PathBuf, CrashPoint) -> Run + Send + 'static,
    Run: Future<Output = ()> + Send,
{
    let crash = CrashPoint::default();
    let kill = Arc::new(Notify::new());
    let (hold, mut held) = watch::channel(false);
    let task = {
        let (crash, kill, database) = (crash.clone(), Arc::clone(&kill), database.clone());
        tokio::spawn(async move {
            loop {
                if held.wait_for(|held| !held).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = run(database.clone(), crash.clone()) => {}
                    () = crash.fired() => crash.disarm(),
                    () = kill.notified() => {}
                }
                sleep(RESTART).await;
            }
        })
    };
    Daemon { crash, database, kill, hold, task }
}

async fn run_controller(
    path: &Path,
    crash: CrashPoint,
    broker: &MemoryBroker,
    clock: Arc<VirtualClock>,
    ids: Arc<SeededIds>,
    publish: &watch::Sender<Option<Handle>>,
) {
    publish.send_replace(None);
    let signals = Signals::new(Arc::new(|_| {}));
    let mode = Mode::Inline { gate: Some(Arc::new(crash)) };
    // The lock of the one that was killed is gone when its last task is.
    let Ok(store) = store::open(path, mode, signals.on_commit()) else { return };
    let filters = [Channel::Up, Channel::Presence, Channel::Telemetry].map(Channel::of_all);
    let filters = filters.each_ref().map(String::as_str);
    let (transport, incoming) = broker.connect("controller", &filters, None);
    let parts = Parts { store, signals, transport, incoming, clock, ids };
    let controller = Controller::new(Settings::default(), parts);
    publish.send_replace(Some(controller.handle()));
    let _guard = Unpublish(publish);
    let _ = controller.run().await;
}

/// Takes the handle back when the controller is killed.
struct Unpublish<'a>(&'a watch::Sender<Option<Handle>>);

impl Drop for Unpublish<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

#[allow(clippy::too_many_arguments, reason = "what one agent is made of")]
async fn run_agent(
    path: &Path,
    crash: CrashPoint,
    broker: &MemoryBroker,
    clock: Arc<VirtualClock>,
    ids: Arc<SeededIds>,
    id: &HostId,
    machine: Machine,
    options: &HostOptions,
) {
    let mode = Mode::Inline { gate: Some(Arc::new(crash.clone())) };
    let Ok(store) = phonefleet_agent::store::open(path, mode) else { return };
    let machine_id: MachineId = format!("machine-of-{id}").parse().expect("a machine id");
    let (transport, incoming) = broker.connect(id.as_str(), &[&Channel::Down.of(id)], None);
    let ports = if options.ports == 0 { 100 } else { options.ports };
    let settings = agent::settings(id.clone(), machine_id, 20_000..=19_999 + ports, &*ids);
    let report = agent::report(&settings, options.capacity.clone());
    let surroundings = Surroundings { store, machine, crash, transport, incoming, clock, ids };
    let parts = agent::parts(&settings, report, surroundings);
    let (agent, _handle) = Agent::new(settings, parts);
    let _ = agent.run(std::future::pending()).await;
}
