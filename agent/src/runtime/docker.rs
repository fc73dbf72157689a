//! The Docker engine through its API, over its unix socket.
//!
//! | module | what lives there |
//! |---|---|
//! | [`body`] | the create request: what every phone's container has in common |
//! | [`error`] | which of its errors mean what to the caller |
//! | [`events`] | the event stream, and its end when the engine hangs |
//! | [`limits`] | cutting a spec's limits down to what engine and machine allow |
//!
//! One client is shared. It is made, and the API version agreed on, at the first call and
//! again after any call that found the engine away; so a restart or an upgrade of the
//! engine needs nothing from the caller but to retry. Every call has a deadline that
//! includes making the client.

mod body;
mod error;
mod events;
mod limits;

use super::{
    Container, ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, EngineInfo, LABEL_HOST,
    PublishedPort,
};
use async_trait::async_trait;
use bollard::models::{
    ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum, NetworkDisconnectRequest,
};
use bollard::query_parameters as query;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::time::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, mpsc};

/// Agreeing on a version, and the test whether the engine answers at all.
const PING: Duration = Duration::from_secs(5);
/// Calls that only look.
const LOOK: Duration = Duration::from_secs(10);
/// Calls that change something, which a loaded engine may take long for.
const WORK: Duration = Duration::from_secs(60);
/// How often an event stream asks whether the engine still answers.
const EVENTS_PROBE: Duration = Duration::from_secs(10);
/// Creations, starts and removals at once: more than this only makes each slower
/// (two cores are full at four).
const WORK_AT_ONCE: usize = 4;

/// The Docker engine of this machine.
pub struct Docker {
    socket: PathBuf,
    host: HostId,
    client: Mutex<Option<bollard::Docker>>,
    work: Semaphore,
    /// What the engine can give, as it told last; `None` until it did.
    ceiling: std::sync::Mutex<Option<limits::Ceiling>>,
    warnings: limits::Warnings,
}

impl Docker {
    /// An engine at a unix socket, for the containers of one host. Nothing is connected yet.
    pub fn new(socket: &Path, host: HostId) -> Self {
        Self {
            socket: socket.to_owned(),
            host,
            client: Mutex::new(None),
            work: Semaphore::new(WORK_AT_ONCE),
            ceiling: std::sync::Mutex::new(None),
            warnings: limits::Warnings::default(),
        }
    }

    /// Where on this host a container's `/data` is; `None` without one, or without a container.
    ///
    /// # Errors
    /// As of every look.
    pub async fn data_folder(&self, id: &str) -> Result<Option<PathBuf>, EngineError> {
        self.call(LOOK, |client| async move {
            let found = match client.inspect_container(id, None).await {
                Ok(found) => found,
                Err(error) if error::status(&error) == Some(404) => return Ok(None),
                Err(error) => return Err(error::of_look(&error)),
            };
            let mounts = found.mounts.unwrap_or_default();
            let data = mounts.into_iter().find(|mount| mount.destination.as_deref() == Some("/data"));
            Ok(data.and_then(|mount| mount.source).map(PathBuf::from))
        })
        .await
    }

    async fn client(&self) -> Result<bollard::Docker, EngineError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let address = self.socket.to_string_lossy();
        let fresh = bollard::Docker::connect_with_unix(&address, 120, bollard::API_DEFAULT_VERSION)
            .map_err(|error| error::unavailable(&error))?;
        let fresh = match tokio::time::timeout(PING, fresh.negotiate_version()).await {
            Ok(Ok(fresh)) => fresh,
            Ok(Err(error)) => return Err(error::unavailable(&error)),
            Err(_) => return Err(error::silent(PING)),
        };
        tracing::info!(socket = %self.socket.display(), api = %fresh.client_version(), "connected to the container engine");
        *client = Some(fresh.clone());
        Ok(fresh)
    }

    /// Runs one call with its deadline. One that finds the engine away also makes the
    /// next call connect, and agree on a version, afresh.
    async fn call<T, F>(
        &self,
        deadline: Duration,
        call: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let whole = async { call(self.client().await?).await };
        let outcome = match tokio::time::timeout(deadline, whole).await {
            Ok(outcome) => outcome,
            Err(_) => Err(error::silent(deadline)),
        };
        if matches!(outcome, Err(EngineError::Unavailable(_))) {
            // Never wait here: a call that connects right now holds the lock.
            if let Ok(mut client) = self.client.try_lock() {
                *client = None;
            }
            // The next engine here may have other limits.
            *self.ceiling.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    /// The same for heavy work, of which only so much is done at once.
    async fn work<T, F>(&self, call: impl FnOnce(bollard::Docker) -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let Ok(Ok(_turn)) = tokio::time::timeout(WORK, self.work.acquire()).await else {
            return Err(EngineError::Unavailable(format!(
                "busy: no turn within {} s, {WORK_AT_ONCE} operations run already",
                WORK.as_secs()
            )));
        };
        self.call(WORK, call).await
    }

    /// Asks for a sign of life only, within 5 s.
    pub async fn ping(&self) -> Result<(), EngineError> {
        self.call(PING, |client| async move {
            client.ping().await.map(|_| ()).map_err(|error| error::of_look(&error))
        })
        .await
    }

    /// Sends a signal to a container's init; one that does not run is fine. Not queued
    /// behind creations: what is killed is often what makes the engine slow.
    pub async fn signal(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        self.call(WORK, |client| async move {
            if let Some(container) = self.own(&client, id).await? {
                thaw(&client, &container).await;
            }
            let options = query::KillContainerOptions { signal: signal.to_owned() };
            match client.kill_container(id, Some(options)).await {
                Ok(()) => Ok(()),
                Err(error) if error::is_not_running(&error) => Ok(()),
                Err(error) => Err(error::of_look(&error)),
            }
        })
        .await
    }

    /// Refuses to touch a container of somebody else. Gone is fine.
    async fn own(&self, client: &bollard::Docker, id: &str) -> Result<Option<Container>, EngineError> {
        let found = inspect(client, id).await?;
        if let Some(container) = &found
            && container.labels.get(LABEL_HOST).map(String::as_str) != Some(self.host.as_str())
        {
            return Err(EngineError::Refused(format!(
                "container {} does not carry {LABEL_HOST}={}: it is not this agent's to touch",
                container.name, self.host
            )));
        }
        Ok(found)
    }
}

#[async_trait]
impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let told = self
            .call(LOOK, |client| async move { client.info().await.map_err(|error| error::of_look(&error)) })
            .await?;
        let info = EngineInfo {
            version: told.server_version.unwrap_or_default(),
            cpus: told.ncpu.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            memory_bytes: told.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        };
        *self.ceiling.lock().unwrap_or_else(PoisonError::into_inner) = Some(limits::Ceiling {
            cpus: u64::from(info.cpus),
            memory_bytes: info.memory_bytes,
            open_files: limits::open_files(&self.socket),
        });
        Ok(info)
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let known = || *self.ceiling.lock().unwrap_or_else(PoisonError::into_inner);
        if known().is_none() {
            self.info().await?;
        }
        let ceiling = known().unwrap_or_default();
        let spec = self.warnings.clamp(spec, ceiling);
        let body = body::create(&spec);
        let options = query::CreateContainerOptions { name: Some(spec.name.clone()), ..Default::default() };
        self.work(|client| async move {
            let created = client
                .create_container(Some(options), body)
                .await
                .map_err(|error| error::of_create(&error, &spec))?;
            for warning in created.warnings {
                self.warnings.once(&warning);
            }
            Ok(created.id)
        })
        .await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.work(|client| async move {
            let own = self.own(&client, id).await?;
            match client.start_container(id, None).await {
                Ok(()) => Ok(()),
                Err(error) if error::is_paused(&error) => {
                    client.unpause_container(id).await.map_err(|error| error::of_start(&error, id))
                }
                Err(error) if error::is_leftover(&error) => {
                    if let Some(container) = own {
                        clear_leftovers(&client, &container).await?;
                    }
                    Err(error::unavailable(&error))
                }
                Err(error) => Err(error::of_start(&error, id)),
            }
        })
        .await
    }

    async fn kill(&self, id: &str) -> Result<(), EngineError> {
        self.signal(id, "KILL").await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.work(|client| async move {
            let Some(container) = self.own(&client, id).await? else { return Ok(()) };
            // From here on by the engine's id: the name may pass to another container.
            let id = container.id.as_str();
            thaw(&client, &container).await;
            let options = query::RemoveContainerOptions { force: true, v: true, link: false };
            match client.remove_container(id, Some(options)).await {
                Ok(()) => {}
                Err(error) if error::is_gone_or_going(&error) => {}
                Err(error) => return Err(error::of_remove(&error)),
            }
            // Also somebody else's removal is waited for. The deadline ends this loop.
            while inspect(&client, id).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        })
        .await
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError> {
        self.call(LOOK, |client| async move { inspect(&client, id).await }).await
    }

    async fn list(&self, host: &HostId) -> Result<Vec<Container>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{LABEL_HOST}={host}")])]);
        let options =
            query::ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        self.call(LOOK, |client| async move {
            let listed =
                client.list_containers(Some(options)).await.map_err(|error| error::of_look(&error))?;
            let mut containers = Vec::with_capacity(listed.len());
            for summary in listed {
                // Exit code and memory kill are not in the list.
                if summary.state == Some(ContainerSummaryStateEnum::EXITED) {
                    let id = summary.id.as_deref().unwrap_or_default();
                    containers.extend(inspect(&client, id).await?);
                } else {
                    containers.push(from_summary(summary));
                }
            }
            containers.retain(|container| {
                container.labels.get(LABEL_HOST).map(String::as_str) == Some(host.as_str())
            });
            Ok(containers)
        })
        .await
    }

    async fn published(&self) -> Result<Vec<PublishedPort>, EngineError> {
        self.call(LOOK, |client| async move {
            let options = query::ListContainersOptions::default();
            let listed =
                client.list_containers(Some(options)).await.map_err(|error| error::of_look(&error))?;
            Ok(listed.into_iter().flat_map(published_by).collect())
        })
        .await
    }

    async fn watch(
        &self,
        host: &HostId,
        since: Timestamp,
    ) -> Result<mpsc::Receiver<EngineEvent>, EngineError> {
        let client = self
            .call(PING, |client| async move {
                client.ping().await.map(|_| client).map_err(|error| error::of_look(&error))
            })
            .await?;
        Ok(events::watch(client, host, since))
    }
}

/// What is left of a start in which the engine was killed goes with the container, which
/// is made anew by the next round: under another id, and with an endpoint of its own. The
/// old endpoint can be removed by its name only while no container has that.
async fn clear_leftovers(client: &bollard::Docker, container: &Container) -> Result<(), EngineError> {
    tracing::warn!(container = %container.name, "the engine stumbles over an earlier start; the container is made anew");
    let options = query::RemoveContainerOptions { force: true, v: true, link: false };
    match client.remove_container(&container.id, Some(options)).await {
        Ok(()) => {}
        Err(error) if error::is_gone_or_going(&error) => {}
        Err(error) => return Err(error::of_remove(&error)),
    }
    let request = NetworkDisconnectRequest { container: container.name.clone(), force: Some(true) };
    match client.disconnect_network("bridge", request).await {
        Ok(()) => {}
        Err(error) if error::words(&error).contains("not found") => {}
        Err(error) => {
            tracing::warn!(container = %container.name, %error, "its old endpoint cannot be removed; restart the engine if this stays");
        }
    }
    Ok(())
}

/// A frozen container can neither be killed nor removed; if this fails the next call says so.
async fn thaw(client: &bollard::Docker, container: &Container) {
    if container.state == ContainerState::Paused
        && let Err(error) = client.unpause_container(&container.id).await
    {
        tracing::warn!(container = %container.name, %error, "cannot unpause");
    }
}

async fn inspect(client: &bollard::Docker, id: &str) -> Result<Option<Container>, EngineError> {
    let found = match client.inspect_container(id, None).await {
        Ok(found) => found,
        Err(error) if error::status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(error::of_look(&error)),
    };
    let state = found.state.unwrap_or_default();
    let state = match state.status {
        Some(ContainerStateStatusEnum::CREATED) => ContainerState::Created,
        Some(ContainerStateStatusEnum::RUNNING) => ContainerState::Running,
        Some(ContainerStateStatusEnum::PAUSED) => ContainerState::Paused,
        Some(ContainerStateStatusEnum::EXITED) => ContainerState::Exited {
            code: state.exit_code.unwrap_or(-1),
            out_of_memory: state.oom_killed.unwrap_or(false),
        },
        _ => ContainerState::Dead,
    };
    Ok(Some(Container {
        id: found.id.unwrap_or_default(),
        name: bare_name(found.name.as_deref()),
        labels: sorted(found.config.and_then(|config| config.labels)),
        state,
    }))
}

fn from_summary(summary: ContainerSummary) -> Container {
    let state = match summary.state {
        Some(ContainerSummaryStateEnum::CREATED) => ContainerState::Created,
        Some(ContainerSummaryStateEnum::RUNNING) => ContainerState::Running,
        Some(ContainerSummaryStateEnum::PAUSED) => ContainerState::Paused,
        _ => ContainerState::Dead,
    };
    let names = summary.names.unwrap_or_default();
    Container {
        id: summary.id.unwrap_or_default(),
        name: bare_name(names.first().map(String::as_str)),
        labels: sorted(summary.labels),
        state,
    }
}

fn published_by(summary: ContainerSummary) -> Vec<PublishedPort> {
    let ports = summary.ports.clone().unwrap_or_default();
    let container = from_summary(summary);
    let publish =
        |port| PublishedPort { port, container: container.name.clone(), labels: container.labels.clone() };
    ports.into_iter().filter_map(|port| port.public_port).map(publish).collect()
}

fn bare_name(name: Option<&str>) -> String {
    name.unwrap_or_default().trim_start_matches('/').to_owned()
}

fn sorted(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}
