//! Containers, phones, ports and data of one machine.

use super::recorder::OnPhone;
use phonefleet_agent::recording::KeptVideo;
use phonefleet_agent::runtime::{Container, ContainerSpec, ContainerState, EngineEvent, LABEL_HOST};
use phonefleet_protocol::id::{DeviceId, RecordingId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How the engine fails one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineFault {
    /// Does nothing and says that it is not available.
    Unavailable,
    /// Does the work and then says that it is not available.
    DoneButUnavailable,
    /// Does nothing and refuses for good.
    Refused,
    /// Does nothing and does not answer for so long; then it is not available.
    Hang(Duration),
}

/// Which call of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Create a container.
    Create,
    /// Start it.
    Start,
    /// Kill it.
    Kill,
    /// Remove it.
    Remove,
    /// Look at it.
    Inspect,
    /// List all.
    List,
}

/// What became of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was created.
    Created,
    /// It was started.
    Started,
    /// It ended, with this code.
    Ended(i64),
    /// It was removed; whether it ran until then.
    Removed(bool),
}

type Witness = Arc<dyn Fn(Option<DeviceId>, Change) + Send + Sync>;

/// Who sees every change of a container, as it happens.
#[derive(Clone, Default)]
pub(super) struct Journal(Option<Witness>);

impl std::fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Journal").field(&self.0.is_some()).finish()
    }
}

impl Journal {
    pub fn write(&self, device: Option<DeviceId>, change: Change) {
        if let Some(witness) = &self.0 {
            witness(device, change);
        }
    }
}

/// One machine; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub containers: BTreeMap<String, Phone>,
    pub containers_ever: u64,
    pub engine_down: bool,
    pub faults: Vec<(Call, u64, EngineFault)>,
    pub calls: BTreeMap<Call, u64>,
    pub watchers: Vec<(String, mpsc::UnboundedSender<EngineEvent>)>,
    pub strangers: BTreeSet<u16>,
    pub data: BTreeSet<(DeviceId, u32)>,
    pub starts: BTreeMap<DeviceId, u64>,
    pub recordings: BTreeMap<RecordingId, OnPhone>,
    /// Folders that were deleted on a phone, which does not end their recorders.
    pub deleted_recordings: BTreeMap<RecordingId, OnPhone>,
    /// Phones on which no folder can be made.
    pub without_folders: BTreeSet<DeviceId>,
    pub videos: BTreeMap<RecordingId, KeptVideo>,
    pub free_bytes: Option<u64>,
    pub video_disk_refuses: bool,
    /// Videos that the disk does not let go.
    pub undeletable: BTreeSet<RecordingId>,
    pub signals_get_lost: bool,
    pub pids: u64,
    pub slow: Duration,
    pub journal: Journal,
    boots: Vec<Instant>,
}

/// A container and the phone in it.
#[derive(Clone, Debug)]
pub struct Phone {
    /// As the engine shows it.
    pub container: Container,
    /// What it was created from.
    pub spec: ContainerSpec,
    /// When it was started last.
    pub started: Option<Instant>,
    /// Its adbd does not answer.
    pub hung: bool,
}

impl Phone {
    /// The value of a boot argument.
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.spec.command.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether the fault was ordered; with its parameter.
    pub fn fault(&self, name: &str) -> Option<Option<u64>> {
        self.argument("androidboot.phonesim_fault")?.split(',').find_map(|fault| {
            let (known, parameter) = fault.split_once(':').unwrap_or((fault, ""));
            (known == name).then(|| parameter.parse().ok())
        })
    }

    /// How long its boot takes.
    pub fn boot_time(&self) -> Duration {
        let given = self.argument("androidboot.phonesim_boot_ms").and_then(|text| text.parse().ok());
        Duration::from_millis(given.unwrap_or(1500))
    }

    /// Whether its boot is complete.
    pub fn has_booted(&self) -> bool {
        self.fault("boot_hang").is_none()
            && self.is_running()
            && self.started.is_some_and(|at| at.elapsed() >= self.boot_time())
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.container.state == ContainerState::Running
    }

    /// Whether it is frozen.
    pub fn is_paused(&self) -> bool {
        self.container.state == ContainerState::Paused
    }
}

impl Machine {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine goes away, or comes back. Containers run on.
    pub fn set_engine_down(&self, down: bool) {
        let mut state = self.lock();
        state.engine_down = down;
        if down {
            state.watchers.clear();
        }
    }

    /// The `nth` call of that kind from now on, counted from 1, fails like this.
    pub fn fail(&self, call: Call, nth: u64, fault: EngineFault) {
        let mut state = self.lock();
        let number = state.calls.get(&call).copied().unwrap_or(0) + nth;
        state.faults.push((call, number, fault));
    }

    /// Something that is none of ours takes a port.
    pub fn occupy(&self, port: u16) {
        self.lock().strangers.insert(port);
    }

    /// Every such thing lets its port go.
    pub fn vacate(&self) {
        self.lock().strangers.clear();
    }

    /// Every call of the engine takes so much longer from now on.
    pub fn set_slow(&self, longer: Duration) {
        self.lock().slow = longer;
    }

    /// No ordered fault of the engine is left.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// `witness` is called at every change of a container, and must not ask the machine.
    pub fn on_change(&self, witness: impl Fn(Option<DeviceId>, Change) + Send + Sync + 'static) {
        self.lock().journal = Journal(Some(Arc::new(witness)));
    }

    /// Somebody else's container runs on this engine.
    pub fn add_foreign(&self, spec: ContainerSpec) {
        let mut state = self.lock();
        let id = format!("foreign-{}", spec.name);
        let container = Container {
            id: id.clone(),
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            state: ContainerState::Running,
        };
        let phone = Phone { container, spec, started: Some(Instant::now()), hung: false };
        state.containers.insert(id, phone);
    }

    /// Every container, whoever's it is.
    pub fn phones(&self) -> Vec<Phone> {
        self.lock().containers.values().cloned().collect()
    }

    /// Devices of a host whose containers run, and the ADB port of each.
    pub fn running(&self, host: &str) -> Vec<(String, u16)> {
        let state = self.lock();
        let own = state.containers.values().filter(|phone| {
            phone.is_running() && phone.container.labels.get(LABEL_HOST).is_some_and(|label| label == host)
        });
        own.filter_map(|phone| Some((phone.container.device()?.to_string(), phone.spec.adb_port))).collect()
    }

    /// The running phone behind an ADB port.
    pub(super) fn phone_at(&self, adb_port: u16) -> Option<Phone> {
        let state = self.lock();
        let mut phones = state.containers.values();
        phones.find(|phone| phone.is_running() && phone.spec.adb_port == adb_port).cloned()
    }

    /// The container of a device.
    pub fn phone(&self, device: DeviceId) -> Option<Phone> {
        self.lock().containers.values().find(|phone| phone.container.device() == Some(device)).cloned()
    }

    /// Devices that have data, with their data epochs.
    pub fn data(&self) -> Vec<(DeviceId, u32)> {
        self.lock().data.iter().copied().collect()
    }

    /// Somebody puts data of a device back.
    pub fn put_data_back(&self, device: DeviceId, epoch: u32) {
        self.lock().data.insert((device, epoch));
    }

    /// Somebody removes a device's data behind our back.
    pub fn remove_data_behind_back(&self, device: DeviceId) {
        self.lock().data.retain(|(owner, _)| *owner != device);
    }

    /// Ports that containers have bound.
    pub fn bound_ports(&self) -> Vec<u16> {
        self.lock().bound_ports()
    }

    /// How often the containers of a device were started.
    pub fn starts(&self, device: DeviceId) -> u64 {
        self.lock().starts.get(&device).copied().unwrap_or(0)
    }

    /// Somebody removes a device's container behind our back.
    pub fn remove_behind_back(&self, device: DeviceId) {
        let mut state = self.lock();
        state.settle_recorders();
        let ran = state.containers.values().any(|phone| {
            phone.container.device() == Some(device) && (phone.is_running() || phone.is_paused())
        });
        state.containers.retain(|_, phone| phone.container.device() != Some(device));
        state.settle_recorders();
        state.journal.write(Some(device), Change::Removed(ran));
        state.tell(&device.to_string(), device);
    }

    /// A phone's adbd stops answering, or answers again.
    pub fn set_hung(&self, device: DeviceId, hung: bool) {
        let mut state = self.lock();
        for phone in state.containers.values_mut() {
            if phone.container.device() == Some(device) {
                phone.hung = hung;
            }
        }
    }

    /// Somebody pauses a phone's container, or lets it go on.
    pub fn set_paused(&self, device: DeviceId, paused: bool) {
        let mut state = self.lock();
        let (from, to) = if paused {
            (ContainerState::Running, ContainerState::Paused)
        } else {
            (ContainerState::Paused, ContainerState::Running)
        };
        for phone in state.containers.values_mut() {
            if phone.container.device() == Some(device) && phone.container.state == from {
                phone.container.state = to.clone();
            }
        }
        state.tell(&device.to_string(), device);
    }

    /// A phone's container dies with this exit code.
    pub fn die(&self, device: DeviceId, code: i64) {
        let id = self.phone(device).map(|phone| phone.container.id);
        if let Some(id) = id {
            self.exit(&id, None, code);
        }
    }

    /// Ends a container, if it still runs since `started`.
    pub(super) fn exit(&self, id: &str, started: Option<Instant>, code: i64) {
        let mut state = self.lock();
        state.settle_recorders();
        let Some(phone) = state.containers.get_mut(id) else { return };
        let paused = phone.container.state == ContainerState::Paused && started.is_none();
        if !(phone.is_running() || paused) || started.is_some_and(|at| phone.started != Some(at)) {
            return;
        }
        phone.container.state = ContainerState::Exited { code, out_of_memory: false };
        let device = phone.container.device();
        state.settle_recorders();
        state.journal.write(device, Change::Ended(code));
        let Some(phone) = state.containers.get(id) else { return };
        let host = phone.container.labels.get(LABEL_HOST).cloned().unwrap_or_default();
        if let Some(device) = phone.container.device() {
            state.tell(&host, device);
        }
    }
}

impl State {
    /// A number that one start of one phone has, and no other.
    pub fn boot_mark(&mut self, started: Instant) -> u64 {
        let known = self.boots.iter().position(|boot| *boot == started);
        known.unwrap_or_else(|| {
            self.boots.push(started);
            self.boots.len() - 1
        }) as u64
    }

    pub fn bound_ports(&self) -> Vec<u16> {
        self.containers.values().filter(|phone| phone.is_running()).map(|phone| phone.spec.adb_port).collect()
    }

    /// Tells whoever watches that a container changed. An unknown host is told to all.
    pub fn tell(&mut self, host: &str, device: DeviceId) {
        let known = self.watchers.iter().any(|(watched, _)| watched == host);
        self.watchers.retain(|(watched, watcher)| {
            (known && watched != host) || watcher.send(EngineEvent::Container(device)).is_ok()
        });
    }
}
