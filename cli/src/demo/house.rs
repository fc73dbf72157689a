//! The demo's folder and the daemons in it: configured, started, waited for.

use super::Demo;
use super::child::{Child, number_here};
use super::claim::Claim;
use super::engine::Runtime;
use super::engine_socket::Running;
use super::files::Files;
use super::image::Image;
use super::lodging::Lodging;
use super::phones::Phone;
use super::surroundings::{Ports, needed, own_program};
use super::voice::Voice;
use crate::arguments::Global;
use crate::client::address::{Address, path};
use crate::client::call::Call;
use crate::configuration::{Configuration, Origin, Set};
use crate::failure::Failure;
use crate::session::Session;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Whose the demo's phones are.
pub const USER: &str = "demo";
/// From the start of a daemon to its first answer.
const START: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// From SIGTERM to SIGKILL.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The container engine.
    Engine,
    /// What builds the image.
    Builder,
    /// The MQTT broker.
    Broker,
    /// The controller.
    Controller,
    /// The agent.
    Agent,
    /// The user's own adb server.
    Adb,
}

/// What a fleet is made of, in the order in which it is started.
const DAEMONS: [Part; 3] = [Part::Broker, Part::Controller, Part::Agent];

impl Part {
    /// For people, and for the name of its log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine => "dockerd",
            Self::Builder => "image-build",
            Self::Broker => "mosquitto",
            Self::Controller => "controller",
            Self::Agent => "agent",
            Self::Adb => "adb",
        }
    }

    const fn extension(self) -> &'static str {
        if matches!(self, Self::Broker) { ".conf" } else { ".toml" }
    }
}

/// Everything that the demo has begun, and must end.
pub struct House {
    /// Name of this machine in the demo's fleet; containers carry it.
    pub host: String,
    /// What runs the phones, once that is known.
    pub runtime: Option<Runtime>,
    /// The ports, once they are chosen.
    pub ports: Option<Ports>,
    /// The controller, once it was started.
    pub session: Option<Session>,
    /// Whether phones could be ordered: whether there may be any.
    pub was_online: bool,
    /// Whether an engine was started here.
    pub own_engine: bool,
    /// The folder in which everything is.
    pub lodging: Lodging,
    /// What no other demo may have meanwhile.
    pub claims: Vec<Claim>,
    children: Vec<(Part, Child)>,
    global: Session,
}

impl House {
    /// An empty one.
    ///
    /// # Errors
    /// No room for a folder.
    pub fn new(demo: &Demo, global: &Global) -> Result<Self, Failure> {
        let lodging = Lodging::new(demo.keep_dir)?;
        let address = Address::parse("http://127.0.0.1:30002", "the demo")?;
        let set = |value: Address| Set { value, origin: Origin::Default };
        let configuration = Configuration {
            path: lodging.place().join("config.toml"),
            context: None,
            controller: set(address.clone()),
            user: Some(Set { value: USER.to_owned(), origin: Origin::Default }),
            agent: set(address),
        };
        Ok(Self {
            host: lodging.host(),
            runtime: None,
            ports: None,
            session: None,
            was_online: false,
            own_engine: false,
            global: Session::new(configuration, global.printer(), global.timeout),
            lodging,
            claims: Vec::new(),
            children: Vec::new(),
        })
    }

    /// Where everything is.
    pub fn folder(&self) -> &Path {
        self.lodging.place()
    }

    /// Where the agent's things are.
    pub fn agent_state(&self) -> PathBuf {
        self.folder().join("agent")
    }

    /// The controller's calls.
    ///
    /// # Errors
    /// Before it was started.
    pub fn session(&self) -> Result<&Session, Failure> {
        self.session.as_ref().ok_or_else(|| Failure::Failed("the controller was not started".to_owned()))
    }

    /// The agent's local API.
    ///
    /// # Errors
    /// Before it was started.
    pub fn agent_api(&self) -> Result<crate::client::Client, Failure> {
        let session = self.session()?;
        let address = session.configuration.agent.value.clone();
        Ok(crate::client::Client::new(address, session.time_limit))
    }

    /// Takes a child in.
    pub fn add(&mut self, part: Part, child: Child) {
        self.own_engine |= part == Part::Engine;
        self.children.push((part, child));
    }

    /// A child.
    pub fn child(&mut self, part: Part) -> Option<&mut Child> {
        self.children.iter_mut().find(|(own, _)| *own == part).map(|(_, child)| child)
    }

    /// Ends a child, if there is one. Whether it is gone.
    pub async fn remove(&mut self, part: Part) -> bool {
        let Some(child) = self.child(part) else { return true };
        let gone = child.end(if part == Part::Engine { Duration::ZERO } else { PATIENCE }).await;
        self.children.retain(|(own, _)| *own != part);
        gone
    }

    /// Ends an engine that did not start: phones are not its own.
    pub async fn give_up_engine(&mut self) {
        self.remove(Part::Engine).await;
        self.own_engine = false;
    }

    /// `kill -9` to a child, before everybody's eyes.
    pub async fn kill(&mut self, part: Part) {
        if let Some(child) = self.child(part) {
            child.kill().await;
        }
        self.children.retain(|(own, _)| *own != part);
    }

    /// A child's process number.
    pub fn pid(&self, part: Part) -> i32 {
        self.children.iter().find(|(own, _)| *own == part).map_or(0, |(_, child)| child.pid())
    }

    /// What a phone is in the eyes of whoever runs it.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub async fn process_of(&self, phone: &Phone) -> Result<Option<Running>, Failure> {
        match &self.runtime {
            None => Ok(None),
            Some(runtime) => {
                let mut running = runtime.running(&phone.container, &self.agent_state()).await?;
                // An engine in a namespace of its own counts processes from 1.
                if let Some(running) = running.as_mut().filter(|_| self.own_engine) {
                    running.pid = number_here(running.pid).map_or(running.pid, i64::from);
                }
                Ok(running)
            }
        }
    }

    /// Numbers of the children that run.
    pub fn pids(&self) -> Vec<i32> {
        self.children.iter().map(|(_, child)| child.pid()).collect()
    }

    /// A daemon that should run and does not, in words.
    pub fn fallen(&mut self) -> Option<String> {
        self.children.iter_mut().find_map(|(part, child)| {
            let ended = child.ended().filter(|_| *part != Part::Builder)?;
            Some(format!("{} ended by itself ({ended})", child.name))
        })
    }

    /// What the daemons said last, for a demo that cannot go on.
    pub fn tell_last_words(&mut self, voice: &mut Voice) {
        for (_, child) in &self.children {
            let words = child.last_words(6);
            if !words.is_empty() {
                voice.line(&format!("  the last lines of {}:", child.log.display()));
                for line in words.lines() {
                    voice.line(&format!("    {line}"));
                }
            }
        }
    }

    /// Leaves the folder; what of it cannot be removed.
    pub fn leave(&mut self) -> Option<String> {
        let left = self.lodging.leave();
        left.err().map(|error| format!("the folder {} ({error})", self.folder().display()))
    }

    /// Starts broker, controller and agent, and waits until this machine is in the fleet.
    ///
    /// # Errors
    /// Programs that are missing, and daemons that do not answer.
    pub async fn start_daemons(
        &mut self,
        image: &Image,
        phones: u16,
        voice: &mut Voice,
    ) -> Result<(), Failure> {
        for part in DAEMONS {
            program_of(part)?;
        }
        needed("adb", "adb")?;
        let (ports, claims) = Ports::find()?;
        self.claims.extend(claims);
        for note in &ports.notes {
            voice.line(&format!("Ports: {note}"));
        }
        let files =
            Files { place: self.folder(), host: &self.host, ports: &ports, agent_state: &self.agent_state() };
        files.write(image, self.runtime.as_ref(), phones)?;
        let address = |port| Address::parse(&format!("http://127.0.0.1:{port}"), "the demo");
        let mut session = self.global.clone();
        session.configuration.controller.value = address(ports.controller)?;
        session.configuration.agent.value = address(ports.agent)?;
        self.session = Some(Session::new(session.configuration, session.printer, session.time_limit));
        let controller = ports.controller;
        self.ports = Some(ports);
        for part in DAEMONS {
            self.start(part)?;
        }
        self.until_open("the controller answers", controller, voice).await?;
        self.until_online(voice).await
    }

    /// Starts a daemon, or starts it again.
    ///
    /// # Errors
    /// A program that is missing.
    pub fn start(&mut self, part: Part) -> Result<(), Failure> {
        let (name, file) = (part.name(), format!("{}{}", part.name(), part.extension()));
        let option = if part == Part::Broker { "-c" } else { "--config" };
        let file = self.folder().join(file).into_os_string();
        let command = [program_of(part)?.into_os_string(), option.into(), file];
        self.children.retain(|(own, _)| *own != part);
        let child = Child::start(name, &command, &[], self.folder())?;
        self.add(part, child);
        Ok(())
    }

    /// Starts those daemons again that have ended, as a service manager would; their names,
    /// and how they ended.
    ///
    /// # Errors
    /// Programs that are missing.
    pub fn revive(&mut self) -> Result<Vec<String>, Failure> {
        let mut revived = Vec::new();
        for part in DAEMONS {
            let ended = match self.child(part) {
                None => "it did not run".to_owned(),
                Some(child) => match child.ended() {
                    None => continue,
                    Some(ended) => ended.to_string(),
                },
            };
            self.start(part)?;
            revived.push(format!("{} ({ended})", part.name()));
        }
        Ok(revived)
    }

    /// Waits until the controller hears this machine's agent, and that has what it needs.
    ///
    /// # Errors
    /// Daemons that end, and the end of the time.
    pub async fn until_online(&mut self, voice: &mut Voice) -> Result<(), Failure> {
        let ports = self.ports.clone().ok_or_else(|| Failure::Failed("no ports are chosen".to_owned()))?;
        self.until_open("the agent answers", ports.agent, voice).await?;
        let (session, agent, host) = (self.session()?.clone(), self.agent_api()?, self.host.clone());
        self.until("agent and controller are ready", voice, async || {
            if session.client.json(Call::get("/readyz")).await.is_err()
                || agent.json(Call::get("/readyz")).await.is_err()
            {
                return Ok(None);
            }
            let known = session.client.data(Call::get(path(&["hosts", &host]))).await;
            Ok(known.is_ok_and(|host| host["status"] == "ONLINE").then_some(()))
        })
        .await?;
        self.was_online = true;
        Ok(())
    }

    async fn until_open(&mut self, what: &str, port: u16, voice: &mut Voice) -> Result<(), Failure> {
        self.until(what, voice, async || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok().then_some(()))
        })
        .await
    }

    /// Looks until there is an answer.
    ///
    /// # Errors
    /// Those of `look`, daemons that end meanwhile, and the end of the time.
    pub async fn until<T>(
        &mut self,
        what: &str,
        voice: &mut Voice,
        mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        loop {
            if let Some(value) = look().await? {
                voice.quiet();
                return Ok(value);
            }
            if let Some(fallen) = self.fallen() {
                return Err(Failure::Failed(format!("{fallen} while waiting until {what}")));
            }
            if began.elapsed() > START {
                return Err(Failure::TimedOut(format!("in vain for {} s: {what}", START.as_secs())));
            }
            voice.live(&format!("waiting until {what}, {:.0} s", began.elapsed().as_secs_f64()));
            sleep(LOOK).await;
        }
    }
}

fn program_of(part: Part) -> Result<PathBuf, Failure> {
    match part {
        Part::Broker => needed("mosquitto", "mosquitto"),
        Part::Controller => own_program("phonefleet-controller"),
        Part::Agent => own_program("phonefleet-agent"),
        Part::Engine | Part::Builder | Part::Adb => {
            Err(Failure::Failed(format!("{} is not started like this", part.name())))
        }
    }
}

/// A text of an answer.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}
