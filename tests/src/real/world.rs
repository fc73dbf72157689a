//! One installation: broker, controller, agents; made for a test and gone with it.

use super::adb::Adb;
use super::broker::{Broker, free_port};
use super::engine::{Container, Engine};
use super::fake_clock::FakeClock;
use super::http::{Api, Reply};
use super::lossy_disk::LossyDisk;
use super::network::Network;
use super::process_table;
use super::processes::Processes;
use super::program::{Program, built, signal};
use super::small_disk::SmallDisk;
use super::until;
use nix::sys::signal::Signal;
use phonefleet_store::rusqlite::types::FromSql;
use phonefleet_store::rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Worlds share engine and ports: one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The user of the tests.
pub const USER: &str = "alice";

/// What a world is made like.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// `maxDevices` of everybody.
    pub max_devices: u64,
    /// Further lines of controller.toml.
    pub controller: String,
    /// Addresses beside the loopback that the broker listens on.
    pub broker_addresses: Vec<String>,
    /// Kibibytes of a disk of its own for the controller's database.
    pub controller_disk: Option<u32>,
    /// The controller's database and the agents' state are each on a disk whose power can be cut.
    pub lossy_disks: bool,
    /// The controller and all agents have a clock that can be set: see [`World::clock`].
    pub clock: bool,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            max_devices: 1000,
            controller: String::new(),
            broker_addresses: Vec::new(),
            controller_disk: None,
            lossy_disks: false,
            clock: false,
        }
    }
}

/// What a host is made like.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Its engine; the environment's if none is given.
    pub engine: Option<Engine>,
    /// Its phones are processes, and its engine is not used.
    pub processes: bool,
    /// `none`, `reduced` or `privileged`.
    pub privilege: &'static str,
    /// Boots take so long at most.
    pub boot_timeout_seconds: u64,
    /// Images that orders may name beside the default one.
    pub allowed_images: Vec<String>,
    /// Further lines of agent.toml: sections that are not named above.
    pub further: String,
    /// Where its agent runs: namespace and the broker's address from there.
    pub network: Option<(Vec<std::ffi::OsString>, String)>,
    /// First ADB port; WebRTC ports begin 1000 above it, or behind the last ADB port.
    pub first_port: u16,
    /// Ports of each kind.
    pub ports: u16,
    /// Kibibytes of a disk of its own for its agent's state.
    pub disk: Option<u32>,
    /// Where its agent finds the broker, if not where the broker listens.
    pub broker: Option<String>,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            engine: None,
            processes: false,
            privilege: "none",
            boot_timeout_seconds: 60,
            allowed_images: Vec::new(),
            further: String::new(),
            network: None,
            first_port: 20_000,
            ports: 100,
            disk: None,
            broker: None,
        }
    }
}

/// One host: its agent, and where its things are.
#[derive(Debug)]
pub struct Host {
    /// Its id.
    pub id: String,
    /// The agent.
    pub agent: Program,
    /// Where its phones run, unless they are processes.
    pub engine: Engine,
    /// Its phones, if they are processes.
    pub processes: Option<Processes>,
    /// Its agent's state.
    pub state: PathBuf,
    /// Its agent's own API; not reachable if it has a network of its own.
    pub local_api: Api,
    /// Its ADB ports.
    pub adb_ports: std::ops::RangeInclusive<u16>,
    /// Whether it has a network of its own.
    pub far: bool,
    /// Its state's disk, if it has one of its own.
    pub disk: Option<SmallDisk>,
    /// The same, if its power can be cut.
    pub lossy_disk: Option<LossyDisk>,
}

/// The installation.
#[derive(Debug)]
pub struct World {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The controller.
    pub controller: Program,
    /// Its API.
    pub api: Api,
    /// What is between them.
    pub broker: Broker,
    /// The user's adb.
    pub adb: Adb,
    /// The disk of the controller's database, if its power can be cut.
    pub lossy_disk: Option<LossyDisk>,
    /// The daemons' clock, if it can be set.
    pub clock: Option<FakeClock>,
    /// Everything of this world.
    pub folder: PathBuf,
    /// The disk of the controller's database, if it has one of its own.
    pub disk: Option<SmallDisk>,
    database: PathBuf,
    _folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// A controller, a broker and one host with defaults, online. `None`, and a line that
    /// says so, outside the environment.
    pub fn start() -> Option<Self> {
        let mut world = Self::without_hosts(&WorldOptions::default())?;
        world.add_host(&HostOptions::default());
        Some(world)
    }

    /// A controller and a broker.
    pub fn without_hosts(options: &WorldOptions) -> Option<Self> {
        let Some(environment) = std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT") else {
            println!("skipped: run it with tests/environment/run");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Short, because unix sockets are below it.
        let temporary = tempfile::Builder::new().prefix("w").tempdir_in(environment).expect("a folder");
        let folder = temporary.path().to_owned();
        let broker = Broker::start(&folder, &options.broker_addresses);
        let disk = options.controller_disk.map(|size| SmallDisk::mount(&folder.join("c"), size));
        let lossy_disk = options.lossy_disks.then(|| LossyDisk::mount(&folder.join("p")));
        let own = disk.as_ref().map(|disk| &disk.folder);
        let own = own.or(lossy_disk.as_ref().map(|disk| &disk.folder));
        let database = own.unwrap_or(&folder).join("controller.db");
        let api = Api { address: SocketAddr::from(([127, 0, 0, 1], free_port())) };
        let text = format!(
            "listen = \"{}\"\ndatabase = \"{}\"\n[mqtt]\nurl = \"{}\"\n[quota]\ndefault_max_devices = {}\n{}\n",
            api.address,
            database.display(),
            broker.url(),
            options.max_devices,
            options.controller
        );
        let file = folder.join("controller.toml");
        std::fs::write(&file, text).expect("controller.toml");
        let program = built("phonefleet-controller");
        let command = [program.as_os_str(), "--config".as_ref(), file.as_os_str()];
        let clock = options.clock.then(|| FakeClock::at(&folder.join("clock")));
        let variables = clock.as_ref().map(FakeClock::variables);
        let variables = variables.as_ref().map_or(&[][..], |variables| variables);
        let log = folder.join("controller.log");
        let controller = Program::start_with("controller", command, &log, variables);
        let adb = Adb::start(&folder, Vec::new());
        let world = Self {
            hosts: Vec::new(),
            controller,
            api,
            broker,
            adb,
            lossy_disk,
            clock,
            folder,
            disk,
            database,
            _folder: temporary,
            _turn: turn,
        };
        world.until_ready();
        Some(world)
    }

    /// Waits until the controller has everything that it needs.
    pub fn until_ready(&self) {
        until("the controller is ready", Duration::from_secs(30), || {
            match self.api.try_call("GET", "/readyz", None, None) {
                Ok(Reply { status: 200, .. }) => Ok(()),
                Ok(reply) => Err(reply.text()),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// One more host, online.
    pub fn add_host(&mut self, options: &HostOptions) {
        let number = self.hosts.len() + 1;
        // Engines outlive a world, and labels tell what is whose.
        let id = format!("h{number}-{}", std::process::id());
        let state = self.folder.join(format!("a{number}"));
        let disk = options.disk.map(|size| SmallDisk::mount(&state, size));
        let lossy_disk = self.lossy_disk.is_some().then(|| LossyDisk::mount(&state));
        let engine = options.engine.clone().or_else(Engine::of_environment).expect("an engine");
        let local = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (prefix, broker) = match &options.network {
            None => (Vec::new(), options.broker.clone().unwrap_or_else(|| self.broker.url())),
            Some((prefix, address)) => (prefix.clone(), self.broker.url_at(address)),
        };
        let first = options.first_port;
        let (last, other) = (first + options.ports - 1, first + options.ports.max(1000));
        let text = format!(
            "host_id = \"{id}\"\nstate_dir = \"{state}\"\n[mqtt]\nurl = \"{broker}\"\n[runtime]\n\
             image = \"phonefleet/phonesim:dev\"\nallowed_images = {images:?}\ndocker_host = \"{docker}\"\n\
             privilege = \"{privilege}\"\nkind = \"{kind}\"\n[ports]\nadb = \"{first}-{last}\"\nwebrtc = \"{other}-{other_last}\"\n\
             [boot]\ntimeout_seconds = {boot}\n[local_api]\nlisten = \"{local}\"\n{further}\n",
            state = state.display(),
            images = options.allowed_images,
            docker = engine.url(),
            privilege = options.privilege,
            kind = if options.processes { "process" } else { "docker" },
            other_last = other + options.ports - 1,
            boot = options.boot_timeout_seconds,
            further = options.further,
        );
        let file = self.folder.join(format!("{id}.toml"));
        std::fs::write(&file, text).expect("agent.toml");
        let mut command = prefix;
        command.extend([built("phonefleet-agent").into_os_string(), "--config".into(), file.into()]);
        let variables = self.clock.as_ref().map(FakeClock::variables);
        let variables = variables.as_ref().map_or(&[][..], |variables| variables);
        let agent = Program::start_with(&id, command, &self.folder.join(format!("{id}.log")), variables);
        let host = Host {
            agent,
            engine,
            processes: options.processes.then(|| Processes::of(&state)),
            state,
            local_api: Api { address: local },
            adb_ports: first..=last,
            far: options.network.is_some(),
            disk,
            lossy_disk,
            id: id.clone(),
        };
        self.hosts.push(host);
        self.until_online(&id);
    }

    /// Waits until the controller counts a host as there.
    pub fn until_online(&self, id: &str) {
        until(&format!("host {id} is online"), Duration::from_secs(60), || {
            let reply = self.api.call("GET", &format!("/hosts/{id}"), None);
            if reply.status == 404 {
                return Err("not registered".to_owned());
            }
            let host = reply.data(200);
            if host["status"] == "ONLINE" { Ok(()) } else { Err(host.to_string()) }
        });
    }

    /// The first host.
    pub fn host(&self) -> &Host {
        &self.hosts[0]
    }

    /// The first host's agent.
    pub fn agent(&mut self) -> &mut Program {
        &mut self.hosts[0].agent
    }

    // ---- What a user does ----

    /// The body of an order: a small phone that boots in half a second.
    pub fn order_body(name: &str, boot_args: &[&str]) -> Value {
        let mut arguments = boot_args.to_vec();
        if !boot_args.iter().any(|argument| argument.starts_with("androidboot.phonesim_boot_ms=")) {
            arguments.push("androidboot.phonesim_boot_ms=500");
        }
        json!({
            "name": name, "userId": USER, "providerType": "REDROID",
            "cpuCores": 0.1, "memoryMB": 64, "bootArgs": arguments,
        })
    }

    /// Orders a phone that must be accepted; (saga, device).
    pub fn order(&self, body: &Value) -> (String, String) {
        let data = self.api.post("/devices", Some(body)).data(202);
        (text(&data["sagaId"]), text(&data["device"]["id"]))
    }

    /// A verb on a device that must be accepted; its saga.
    pub fn verb(&self, device: &str, verb: &str) -> String {
        let reply = match verb {
            "delete" => self.api.delete(&format!("/devices/{device}")),
            verb => self.api.post(&format!("/devices/{device}/{verb}"), None),
        };
        text(&reply.data(202)["sagaId"])
    }

    /// One saga as it is.
    pub fn saga(&self, saga: &str) -> Value {
        self.api.get(&format!("/sagas/{saga}"))
    }

    /// One device as it is.
    pub fn device(&self, device: &str) -> Value {
        self.api.get(&format!("/devices/{device}"))
    }

    /// Waits until a saga has ended, whatever way.
    pub fn ended(&self, saga: &str, patience: Duration) -> Value {
        until(&format!("saga {saga} ends"), patience, || {
            let state = self.saga(saga);
            if state["endedAt"].is_null() { Err(state.to_string()) } else { Ok(state) }
        })
    }

    /// Waits until a saga has ended well.
    pub fn completed(&self, saga: &str) -> Value {
        let state = self.ended(saga, Duration::from_secs(120));
        assert_eq!(state["status"], "COMPLETED", "{state}\n{}", self.story(saga));
        state
    }

    /// A verb, and its good end.
    pub fn do_verb(&self, device: &str, verb: &str) {
        let saga = self.verb(device, verb);
        self.completed(&saga);
    }

    /// What happened in a saga, a line an event.
    pub fn story(&self, saga: &str) -> String {
        let events = self.api.get(&format!("/sagas/{saga}/events?limit=1000"));
        let mut story = String::new();
        for event in events["items"].as_array().into_iter().flatten() {
            let _ =
                writeln!(story, "{} {} {} {}", event["at"], event["kind"], event["step"], event["detail"]);
        }
        story
    }

    /// Ids of the devices that exist.
    pub fn devices(&self) -> Vec<Value> {
        self.api.get("/devices?limit=1000")["items"].as_array().cloned().unwrap_or_default()
    }

    // ---- What is in the databases ----

    /// A value out of the controller's database, read beside it.
    pub fn controller_row<T: FromSql>(&self, sql: &str) -> T {
        row(&self.database, sql)
    }

    /// A column out of the controller's database.
    pub fn controller_column(&self, sql: &str) -> Vec<String> {
        column(&self.database, sql)
    }
}

impl Host {
    fn database(&self) -> PathBuf {
        until("the agent has a database", Duration::from_secs(30), || {
            let entries = std::fs::read_dir(&self.state).map_err(|error| error.to_string())?;
            let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
            let found = files.find(|path| path.extension().is_some_and(|kind| kind == "db"));
            found.ok_or_else(|| format!("none in {}", self.state.display()))
        })
    }

    /// A value out of its agent's database.
    pub fn row<T: FromSql>(&self, sql: &str) -> T {
        row(&self.database(), sql)
    }

    /// A column out of its agent's database, as text.
    pub fn column(&self, sql: &str) -> Vec<String> {
        column(&self.database(), sql)
    }

    /// Its containers, or what stands for them.
    pub fn containers(&self) -> Vec<Container> {
        match &self.processes {
            Some(processes) => processes.containers(),
            None => self.engine.containers(&self.id),
        }
    }

    /// (device, state) of each of its containers.
    ///
    /// # Errors
    /// Its engine is away.
    pub fn states(&self) -> std::io::Result<Vec<(String, String)>> {
        let Some(processes) = &self.processes else { return self.engine.states(&self.id) };
        let phones = processes.containers().into_iter();
        Ok(phones.map(|phone| (phone.device, phone.state)).collect())
    }

    /// The socket of its adb server.
    pub fn adb_socket(&self) -> PathBuf {
        self.state.join("adb.sock")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let agents = self.hosts.iter().map(|host| &host.agent);
            for program in agents.chain([&self.controller, self.broker.program()]) {
                eprintln!("---- last lines of {}\n{}", program.name(), program.last_lines(80));
            }
        }
        self.controller.kill();
        for host in &mut self.hosts {
            host.agent.kill();
            // An agent's adb server outlives it, by design.
            let socket = format!("localfilesystem:{}", host.adb_socket().display());
            for process in process_table::processes() {
                if process.is("adb") && process.mentions(&socket) {
                    signal(process.pid, Signal::SIGKILL);
                }
            }
            for supervisor in host.processes.iter().flat_map(Processes::supervisors) {
                if std::thread::panicking() {
                    eprintln!("---- left: {supervisor:?}");
                }
                // The phone goes with it.
                signal(supervisor.pid, Signal::SIGKILL);
            }
            let Ok(containers) = host.engine.states(&host.id) else { continue };
            for (device, state) in containers {
                if std::thread::panicking() {
                    eprintln!("---- left: container of {device}, {state}");
                }
                let path = format!("/containers/phonefleet-{device}?force=1&v=1");
                let _ = host.engine.call("DELETE", &path, None);
            }
        }
    }
}

fn open(path: &Path) -> Connection {
    until(&format!("{} can be read", path.display()), Duration::from_secs(10), || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.map_err(|error| error.to_string())?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(|error| error.to_string())?;
        Ok(connection)
    })
}

fn row<T: FromSql>(path: &Path, sql: &str) -> T {
    until(sql, Duration::from_secs(10), || {
        open(path).query_row(sql, [], |row| row.get(0)).map_err(|error| error.to_string())
    })
}

fn column(path: &Path, sql: &str) -> Vec<String> {
    until(sql, Duration::from_secs(10), || {
        let connection = open(path);
        let mut statement = connection.prepare(sql).map_err(|error| error.to_string())?;
        let rows =
            statement.query_map([], |row| row.get::<_, String>(0)).map_err(|error| error.to_string())?;
        rows.collect::<Result<_, _>>().map_err(|error| error.to_string())
    })
}

/// A JSON text as text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// A second network in which an agent can run, and its options.
pub fn far_host(network: &Network, engine: Engine) -> HostOptions {
    HostOptions {
        engine: Some(engine),
        network: Some((network.prefix(), Network::HERE.to_owned())),
        ..HostOptions::default()
    }
}
