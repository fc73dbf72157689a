//! Machine, broker, controller, and an agent that can be killed.

use crate::controller::Controller;
use phonefleet_agent::agent::{Agent, AgentHandle};
use phonefleet_agent::host::Kernel;
use phonefleet_agent::status::StatusSource as _;
use phonefleet_agent::store;
use phonefleet_link::MemoryBroker;
use phonefleet_protocol::desired::{DesiredDevice, Wish};
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::facts::{DeviceFacts, Phase};
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::id::{DeviceId, HostId, IdSource, RecordingId};
use phonefleet_protocol::recording::{
    DesiredRecording, RecordingFacts, RecordingPhase, RecordingSpec, RecordingWish,
};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_protocol::topic::Channel;
use phonefleet_store::Mode;
use phonefleet_store::rusqlite::{Connection, OpenFlags};
use phonefleet_tests::simulation::agent::{self, Surroundings};
use phonefleet_tests::simulation::time::{SeededIds, VirtualClock};
use phonefleet_tests::simulation::{CrashPoint, Machine};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Longest that anything may take, in virtual time.
const PATIENCE: Duration = Duration::from_secs(1800);

pub struct World {
    pub machine: Machine,
    pub broker: MemoryBroker,
    pub controller: Controller,
    pub crash: CrashPoint,
    pub adb_ports: RangeInclusive<u16>,
    pub kernel: Option<Arc<dyn Kernel>>,
    pub default_image: String,
    pub threaded: bool,
    pub handle: Option<AgentHandle>,
    directory: TempDir,
    pub wall: VirtualClock,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    agent: Option<JoinHandle<()>>,
}

fn host() -> HostId {
    "h1".parse().unwrap()
}

impl World {
    /// A world with an agent that runs.
    pub async fn start() -> Self {
        let mut world = Self::without_agent();
        world.start_agent().await;
        world
    }

    pub fn without_agent() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let wall = VirtualClock::start();
        let clock: Arc<dyn Clock> = Arc::new(wall.clone());
        let ids: Arc<dyn IdSource> = Arc::new(SeededIds::new(1));
        let broker = MemoryBroker::new();
        let controller = Controller::start(
            directory.path(),
            "fleet-1",
            &host(),
            &broker,
            Arc::clone(&clock),
            Arc::clone(&ids),
        );
        Self {
            machine: Machine::default(),
            broker,
            controller,
            crash: CrashPoint::default(),
            adb_ports: 20_000..=20_009,
            kernel: None,
            default_image: "phonefleet/phonesim:dev".into(),
            threaded: false,
            handle: None,
            directory,
            wall,
            clock,
            ids,
            agent: None,
        }
    }

    /// Another controller takes the place of this one, with an empty database.
    pub fn replace_controller(&mut self, fleet: &str) {
        let (clock, ids) = (Arc::clone(&self.clock), Arc::clone(&self.ids));
        self.controller = Controller::start(self.directory.path(), fleet, &host(), &self.broker, clock, ids);
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("agent.db")
    }

    pub async fn start_agent(&mut self) {
        let inline = Mode::Inline { gate: Some(Arc::new(self.crash.clone())) };
        let mode = if self.threaded { Mode::Threaded } else { inline };
        let began = Instant::now();
        let store = loop {
            match store::open(&self.database(), mode.clone()) {
                Ok(store) => break store,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
            }
            sleep(Duration::from_millis(10)).await;
        };
        let (transport, incoming) = self.broker.connect("h1", &[&Channel::Down.of(&host())], None);
        let machine_id = "machine-1".parse().unwrap();
        let mut settings = agent::settings(host(), machine_id, self.adb_ports.clone(), &*self.ids);
        settings.container.default_image.clone_from(&self.default_image);
        let surroundings = Surroundings {
            store,
            machine: self.machine.clone(),
            crash: self.crash.clone(),
            transport,
            incoming,
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
        };
        let mut parts = agent::parts(&settings, HostReport::default(), surroundings);
        if let Some(kernel) = &self.kernel {
            parts.kernel = Arc::clone(kernel);
        }
        let (agent, handle) = Agent::new(settings, parts);
        self.handle = Some(handle);
        self.agent = Some(tokio::spawn(async move {
            agent.run(std::future::pending()).await.unwrap();
        }));
    }

    /// `kill -9`.
    pub async fn kill_agent(&mut self) {
        self.handle = None;
        if let Some(agent) = self.agent.take() {
            agent.abort();
            let ended = agent.await;
            assert!(ended.is_err_and(|error| error.is_cancelled()), "the agent had ended by itself");
        }
        self.crash.disarm();
    }

    pub async fn restart_agent(&mut self) {
        self.kill_agent().await;
        self.start_agent().await;
    }

    /// Waits until `done` gives something.
    pub async fn until<T>(&self, what: &str, mut done: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{what} did not come; heard {:#?}; left {:?}",
                self.controller.events(),
                self.left()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for the newest answer to a word.
    pub async fn answer(&self, desired: &DesiredDevice) -> (Outcome, DeviceFacts) {
        self.until("an answer", |world| world.answers(desired).last().cloned()).await
    }

    pub fn answers(&self, desired: &DesiredDevice) -> Vec<(Outcome, DeviceFacts)> {
        let mine = |event| match event {
            Event::Answer { generation, attempt, outcome, facts, .. }
                if (facts.device_id, generation, attempt)
                    == (desired.device_id, desired.generation, desired.attempt) =>
            {
                Some((outcome, facts))
            }
            _ => None,
        };
        self.controller.events().into_iter().filter_map(mine).collect()
    }

    /// What was told about a recording, in order.
    pub fn tales(&self, recording: RecordingId) -> Vec<RecordingFacts> {
        let tales = self.controller.events().into_iter().filter_map(|event| match event {
            Event::RecordingChanged { facts, .. } if facts.recording_id == recording => Some(facts),
            _ => None,
        });
        tales.collect()
    }

    /// Waits until a recording is told to be in this phase.
    pub async fn told(&self, recording: RecordingId, phase: RecordingPhase) -> RecordingFacts {
        self.until(&format!("{phase:?}"), |world| {
            world.tales(recording).into_iter().find(|facts| facts.phase == phase)
        })
        .await
    }

    /// Waits until a recording is over.
    pub async fn over(&self, recording: RecordingId) -> RecordingFacts {
        self.until("the end of a recording", |world| {
            world.tales(recording).into_iter().find(|facts| facts.phase.is_terminal())
        })
        .await
    }

    /// A recording of device 1 that runs for a while, on a phone that does.
    pub async fn recording(&self, number: u128, arguments: &[&str]) -> DesiredRecording {
        self.reach(&wish_with(1, 1, Wish::Running, arguments)).await;
        let desired = self.record(number, 60);
        self.controller.record(&desired).await;
        self.told(desired.recording_id, RecordingPhase::Recording).await;
        sleep(Duration::from_secs(3)).await;
        desired
    }

    /// A word about a recording of device 1.
    pub fn record(&self, number: u128, seconds: u32) -> DesiredRecording {
        DesiredRecording {
            recording_id: recording(number),
            device_id: device(1),
            wish: RecordingWish::Recording,
            not_after: self.now().after(Duration::from_secs(30)),
            spec: RecordingSpec { max_duration_seconds: seconds, ..RecordingSpec::default() },
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What a scraper would be told of phones.
    pub fn phone_numbers(&self) -> String {
        let mut registry = Registry::default();
        self.handle.as_ref().unwrap().phones().register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    /// Says it and waits for the answer.
    pub async fn ask(&self, desired: &DesiredDevice) -> (Outcome, DeviceFacts) {
        self.controller.desire(desired).await;
        self.answer(desired).await
    }

    /// Says it and expects that it is reached.
    pub async fn reach(&self, desired: &DesiredDevice) -> DeviceFacts {
        let (outcome, facts) = self.ask(desired).await;
        assert_eq!(outcome, Outcome::Reached, "{desired:?}: {facts:?}");
        facts
    }

    /// What changed about a device, in order.
    pub fn changes(&self, device: DeviceId) -> Vec<DeviceFacts> {
        let changes = self.controller.events().into_iter().filter_map(|event| match event {
            Event::Changed { facts, .. } if facts.device_id == device => Some(facts),
            _ => None,
        });
        changes.collect()
    }

    /// Waits for a change to this phase, for this reason, behind the first `known` changes.
    pub async fn change(&self, device: DeviceId, known: usize, phase: Phase, code: &str) -> DeviceFacts {
        self.until(&format!("{phase:?} {code}"), |world| {
            world.changes(device).into_iter().skip(known).find(|facts| {
                facts.phase == phase && facts.reason.as_ref().map_or("", |reason| &reason.code) == code
            })
        })
        .await
    }

    pub fn count(&self, sql: &str) -> i64 {
        let connection =
            Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// What is left of all devices, in words.
    pub fn left(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.machine.phones().iter().map(|phone| format!("container {}", phone.container.name)).collect();
        left.extend(self.machine.recordings().iter().map(|found| format!("on a phone {found:?}")));
        left.extend(self.machine.data().iter().map(|data| format!("data {data:?}")));
        for (what, sql) in [
            ("port leases", "SELECT count(*) FROM port_lease WHERE state = 'LEASED'"),
            ("devices", "SELECT count(*) FROM device"),
            ("active recordings", "SELECT count(*) FROM recording WHERE finished_at IS NULL"),
        ] {
            let count = self.count(sql);
            if count > 0 {
                left.push(format!("{count} {what}"));
            }
        }
        left
    }

    /// Waits until nothing is left of any device.
    pub async fn until_clean(&self) {
        self.until("a clean slate", |world| world.left().is_empty().then_some(())).await;
    }
}

/// A device from its number.
pub fn device(number: u128) -> DeviceId {
    DeviceId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number))
}

/// A recording from its number.
pub fn recording(number: u128) -> RecordingId {
    RecordingId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_9000_0000_0000_0000 + number))
}

/// A word about a device: first attempt, default spec.
pub fn wish(number: u128, generation: u64, wish: Wish) -> DesiredDevice {
    DesiredDevice {
        device_id: device(number),
        generation,
        attempt: 1,
        question: None,
        wish,
        spec: (wish != Wish::Absent).then(DeviceSpec::default),
        boot_count: 0,
        data_epoch: 0,
    }
}

/// The same with boot arguments.
pub fn wish_with(number: u128, generation: u64, kind: Wish, arguments: &[&str]) -> DesiredDevice {
    let mut desired = wish(number, generation, kind);
    if let Some(spec) = &mut desired.spec {
        spec.boot_args = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }
    desired
}

/// The reason's code of a failed outcome, and whether it may be retried.
pub fn failure(outcome: &Outcome) -> (&str, bool) {
    match outcome {
        Outcome::Failed { reason, retryable } => (&reason.code, *retryable),
        other => panic!("{other:?} is no failure"),
    }
}

/// Times of events, for order.
pub fn at(event: &Event) -> Option<Timestamp> {
    match event {
        Event::Answer { at, .. } | Event::Changed { at, .. } => Some(*at),
        _ => None,
    }
}
