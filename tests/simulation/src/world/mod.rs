//! The whole fleet in one thread on virtual time: the real controller with its API and real
//! agents, over a simulated network and simulated machines, their databases in files.
//!
//! | module | what lives there |
//! |---|---|
//! | [`daemon`] | a daemon under its supervisor, its crashes, disk and backups |
//! | [`controller`], [`agent`] | one life of each |
//! | [`network`] | the broker, and what becomes of messages |
//! | [`clock`] | the wall clock of one daemon |
//! | [`office`] | the users of the API |
//! | [`trouble`] | faults, as they happen, and their end |

pub mod agent;
pub mod clock;
pub mod controller;
pub mod daemon;
pub mod network;
pub mod office;
pub mod trouble;

use crate::moment::believed_wrongly;
use crate::scenario::{Side, host_name};
use crate::trace::Trace;
use crate::watch::Watch;
use agent::Identity;
use clock::DaemonClock;
use daemon::{Daemon, begin_from};
use network::Network;
use office::Office;
use phonefleet_agent::runtime::{ContainerSpec, LABEL_HOST, Privilege};
use phonefleet_protocol::id::{HostId, MachineId};
use phonefleet_tests::simulation::Machine;
use phonefleet_tests::simulation::time::{SeededIds, VirtualClock};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch as channel;
use tokio::time::sleep;

/// The port that somebody else's container on each machine has.
pub const FOREIGN_PORT: u16 = 20_005;

/// A host: the machine that it is now, and its agent.
pub struct Site {
    /// Its id.
    pub id: HostId,
    /// The machine, which may be exchanged.
    pub identity: Arc<Mutex<Identity>>,
    /// Its agent.
    pub agent: Daemon,
}

impl Site {
    /// The machine that it is now.
    pub fn machine(&self) -> Machine {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).machine.clone()
    }
}

/// The world of one run.
pub struct World {
    /// What happened.
    pub trace: Trace,
    /// What looks at every instant.
    pub watch: Arc<Watch>,
    /// The network.
    pub network: Network,
    /// The controller.
    pub controller: Daemon,
    /// The hosts.
    pub sites: Vec<Site>,
    /// The users.
    pub office: Arc<Office>,
    ids: Arc<SeededIds>,
    clock: VirtualClock,
    directory: tempfile::TempDir,
    templates: PathBuf,
}

impl World {
    /// A controller and so many hosts, starting up. `templates` holds migrated databases.
    ///
    /// # Errors
    /// No temporary directory can be made.
    pub fn new(seed: u64, hosts: usize, templates: &Path, trace: Trace) -> std::io::Result<Self> {
        let directory = scratch()?;
        let network = Network::new(seed, trace.clone());
        let clock = VirtualClock::start();
        let ids = Arc::new(SeededIds::new(seed));
        let watch = Arc::new(Watch::new(trace.clone()));
        let (door, behind) = channel::channel(None);
        let door = Arc::new(door);
        let database = directory.path().join("controller.db");
        begin_from(&templates.join("controller.db"), &database);
        let controller = {
            let (network, ids, watch) = (network.clone(), Arc::clone(&ids), Arc::clone(&watch));
            Daemon::start(
                "controller",
                database,
                DaemonClock::new(clock.clone()),
                trace.clone(),
                move |life| {
                    let (network, ids) = (network.clone(), Arc::clone(&ids));
                    controller::live(life, network, ids, Arc::clone(&watch), Arc::clone(&door))
                },
            )
        };
        let office = Office::new(behind, trace.clone());
        let templates = templates.to_owned();
        let mut world = Self {
            trace,
            watch,
            network,
            controller,
            sites: Vec::new(),
            office,
            ids,
            clock,
            directory,
            templates,
        };
        for index in 0..hosts {
            let name = host_name(index);
            let id: HostId = name.parse().expect("letters, a dash and a number are a host id");
            let machine = world.machine(index);
            let machine_id = machine_id(&format!("machine-of-{name}"));
            let identity = Identity { host: id.clone(), client: name.clone(), machine_id, machine };
            let identity = Arc::new(Mutex::new(identity));
            let agent = world.agent(&name, Arc::clone(&identity));
            world.sites.push(Site { id, identity, agent });
        }
        Ok(world)
    }

    /// An empty machine with a stranger's container on it, watched as that of a host.
    fn machine(&self, host: usize) -> Machine {
        let machine = Machine::default();
        machine.add_foreign(foreign());
        let watch = Arc::clone(&self.watch);
        machine.on_change(move |device, change| watch.container(host, device, change));
        machine
    }

    fn agent(&self, name: &str, identity: Arc<Mutex<Identity>>) -> Daemon {
        let database = self.directory.path().join(format!("{name}.db"));
        let (network, ids, watch) = (self.network.clone(), Arc::clone(&self.ids), Arc::clone(&self.watch));
        let template = self.templates.join("agent.db");
        let clock = DaemonClock::new(self.clock.clone());
        Daemon::start(name, database, clock, self.trace.clone(), move |life| {
            begin_from(&template, &life.database);
            let identity = identity.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let host = identity.host.as_str();
            let witness = crate::ports::commits_of(&watch, host, &identity.machine, &life.database);
            agent::live(life, identity, network.clone(), Arc::clone(&ids), witness, Arc::clone(&watch))
        })
    }

    /// Counts every commit and effect of every daemon: while it stays, no database changes.
    pub fn pulse(&self) -> u64 {
        let sites: u64 = self.sites.iter().map(|site| site.agent.crash.passed()).sum();
        self.controller.crash.passed() + sites
    }

    /// Looks now and then whether anything is believed wrongly, until it is dropped. Not of
    /// the hosts `except`.
    pub async fn listen(&self, every: Duration, except: &BTreeSet<String>) {
        let mut seen = 0;
        loop {
            sleep(every).await;
            let pulse = self.pulse();
            if pulse != std::mem::replace(&mut seen, pulse) {
                // A database that is being exchanged says nothing.
                for words in believed_wrongly(self, except).unwrap_or_default() {
                    self.watch.convict(format!("told: {words}"));
                }
            }
        }
    }

    /// The daemon of a side.
    pub fn daemon(&self, side: Side) -> &Daemon {
        match side {
            Side::Controller => &self.controller,
            Side::Agent(host) => &self.sites[host].agent,
        }
    }
}

/// In memory, where the system has that: databases are written thousands of times.
fn scratch() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir())
    } else {
        tempfile::tempdir()
    }
}

fn machine_id(text: &str) -> MachineId {
    text.parse().expect("letters and dashes are a machine id")
}

/// Somebody else's container: of another host that shares the engine.
pub fn foreign() -> ContainerSpec {
    ContainerSpec {
        name: "of-somebody-else".to_owned(),
        image: "of/somebody:else".to_owned(),
        command: Vec::new(),
        labels: [(LABEL_HOST.to_owned(), "another-host".to_owned())].into(),
        memory_bytes: 0,
        nano_cpus: 0,
        pids_limit: 0,
        shm_bytes: 0,
        open_files: (0, 0),
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        adb_port: FOREIGN_PORT,
        data_dir: PathBuf::new(),
        privilege: Privilege::None,
    }
}

/// Migrated, empty databases, made once for all runs of this process.
///
/// # Errors
/// The directory cannot be made, or a database not be opened.
pub fn templates() -> std::io::Result<tempfile::TempDir> {
    let directory = scratch()?;
    let mode = || phonefleet_store::Mode::Inline { gate: None };
    let agent = directory.path().join("agent.db");
    let controller = directory.path().join("controller.db");
    phonefleet_agent::store::open(&agent, mode()).map_err(std::io::Error::other)?;
    phonefleet_controller::store::open(&controller, mode(), Arc::new(|_| {}))
        .map_err(std::io::Error::other)?;
    Ok(directory)
}
