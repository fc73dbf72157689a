//! The agent's engine trait over a simulated machine. Durations are those measured on a
//! real engine, roughly.

use super::CrashPoint;
use super::machine::{Call, Change, EngineFault, Machine, Phone};
use async_trait::async_trait;
use phonefleet_agent::runtime::{
    Container, ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, EngineInfo, LABEL_HOST,
};
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// One agent's access to the machine's engine.
#[derive(Clone, Debug)]
pub struct SimulatedEngine {
    machine: Machine,
    crash: CrashPoint,
}

/// What a call must do before and after its work.
struct Admitted {
    fails_after: bool,
}

impl SimulatedEngine {
    /// Access for an agent that dies at `crash`.
    pub fn new(machine: Machine, crash: CrashPoint) -> Self {
        Self { machine, crash }
    }

    async fn begin(&self, call: Call, takes: Duration) -> Result<Admitted, EngineError> {
        let unavailable = |why: &str| EngineError::Unavailable(why.to_owned());
        let (fault, slow) = {
            let mut state = self.machine.lock();
            let number = state.calls.entry(call).or_default();
            *number += 1;
            let number = *number;
            if state.engine_down {
                return Err(unavailable("connection refused"));
            }
            let found = state.faults.iter().position(|(kind, nth, _)| (*kind, *nth) == (call, number));
            (found.map(|index| state.faults.remove(index).2), state.slow)
        };
        match fault {
            Some(EngineFault::Unavailable) => return Err(unavailable("500 ordered by the test")),
            Some(EngineFault::Refused) => {
                return Err(EngineError::Refused("ordered by the test".to_owned()));
            }
            Some(EngineFault::Hang(time)) => {
                sleep(time).await;
                return Err(unavailable("timeout"));
            }
            Some(EngineFault::DoneButUnavailable) | None => {}
        }
        sleep(takes + slow).await;
        if self.machine.lock().engine_down {
            return Err(unavailable("connection reset"));
        }
        Ok(Admitted { fails_after: fault.is_some() })
    }

    async fn end<T>(&self, admitted: &Admitted, value: T) -> Result<T, EngineError> {
        self.crash.after_effect().await;
        if admitted.fails_after {
            return Err(EngineError::Unavailable("500 after the work was done".to_owned()));
        }
        Ok(value)
    }
}

#[async_trait]
impl Engine for SimulatedEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        if self.machine.lock().engine_down {
            return Err(EngineError::Unavailable("connection refused".to_owned()));
        }
        Ok(EngineInfo { version: "simulated".to_owned(), cpus: 64, memory_bytes: 1 << 40 })
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let admitted = self.begin(Call::Create, Duration::from_millis(20)).await?;
        let id = {
            let mut state = self.machine.lock();
            if spec.image.contains("missing") {
                return Err(EngineError::ImageMissing(spec.image.clone()));
            }
            if state.containers.values().any(|phone| phone.container.name == spec.name) {
                return Err(EngineError::NameTaken(spec.name.clone()));
            }
            state.containers_ever += 1;
            let id = format!("container-{:06}", state.containers_ever);
            let container = Container {
                id: id.clone(),
                name: spec.name.clone(),
                labels: spec.labels.clone(),
                state: ContainerState::Created,
            };
            let phone = Phone { container, spec: spec.clone(), started: None, hung: false };
            state.journal.write(phone.container.device(), Change::Created);
            state.containers.insert(id.clone(), phone);
            id
        };
        self.end(&admitted, id).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let admitted = self.begin(Call::Start, Duration::from_millis(200)).await?;
        let started = Instant::now();
        let exit = {
            let mut state = self.machine.lock();
            let bound = state.bound_ports();
            let strangers = state.strangers.clone();
            let Some(phone) = state.containers.get_mut(id) else {
                return Err(EngineError::NotFound(id.to_owned()));
            };
            if phone.is_running() {
                return Ok(());
            }
            let port = phone.spec.adb_port;
            if strangers.contains(&port) || bound.contains(&port) {
                return Err(EngineError::PortTaken { port, detail: "address already in use".to_owned() });
            }
            phone.container.state = ContainerState::Running;
            phone.started = Some(started);
            let boot = phone.boot_time();
            let exit = match (phone.fault("exit_129"), phone.fault("crash_after_ms")) {
                (Some(_), _) => Some(boot / 2),
                (None, Some(after)) => Some(boot + Duration::from_millis(after.unwrap_or(0))),
                (None, None) => None,
            };
            let device = phone.container.device();
            let host = phone.container.labels.get(LABEL_HOST).cloned().unwrap_or_default();
            if let Some(device) = device {
                *state.starts.entry(device).or_default() += 1;
                state.journal.write(Some(device), Change::Started);
                state.tell(&host, device);
            }
            exit
        };
        if let Some(after) = exit {
            let (machine, id) = (self.machine.clone(), id.to_owned());
            tokio::spawn(async move {
                sleep(after).await;
                machine.exit(&id, Some(started), 129);
            });
        }
        self.end(&admitted, ()).await
    }

    async fn kill(&self, id: &str) -> Result<(), EngineError> {
        let admitted = self.begin(Call::Kill, Duration::from_millis(40)).await?;
        if !self.machine.lock().containers.contains_key(id) {
            return Err(EngineError::NotFound(id.to_owned()));
        }
        self.machine.exit(id, None, 137);
        self.end(&admitted, ()).await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let admitted = self.begin(Call::Remove, Duration::from_millis(80)).await?;
        {
            let mut state = self.machine.lock();
            if let Some(phone) = state.containers.remove(id)
                && let Some(device) = phone.container.device()
            {
                let host = phone.container.labels.get(LABEL_HOST).cloned().unwrap_or_default();
                state.journal.write(Some(device), Change::Removed(phone.is_running() || phone.is_paused()));
                state.tell(&host, device);
            }
        }
        self.end(&admitted, ()).await
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError> {
        self.begin(Call::Inspect, Duration::from_millis(1)).await?;
        let state = self.machine.lock();
        let found =
            state.containers.values().find(|phone| phone.container.id == id || phone.container.name == id);
        Ok(found.map(|phone| phone.container.clone()))
    }

    async fn list(&self, host: &HostId) -> Result<Vec<Container>, EngineError> {
        self.begin(Call::List, Duration::from_millis(2)).await?;
        let state = self.machine.lock();
        let mine = |phone: &&Phone| {
            phone.container.labels.get(LABEL_HOST).map(String::as_str) == Some(host.as_str())
        };
        Ok(state.containers.values().filter(mine).map(|phone| phone.container.clone()).collect())
    }

    async fn watch(&self, host: &HostId, _: Timestamp) -> Result<mpsc::Receiver<EngineEvent>, EngineError> {
        if self.machine.lock().engine_down {
            return Err(EngineError::Unavailable("connection refused".to_owned()));
        }
        let (told, mut queue) = mpsc::unbounded_channel();
        self.machine.lock().watchers.push((host.as_str().to_owned(), told));
        let (events, watched) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(event) = queue.recv().await {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
        Ok(watched)
    }
}
