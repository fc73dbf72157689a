//! Phones as processes, for machines without a container engine: each is a `phonesim` with
//! namespaces of its own, on the leased port, with the device's data directory as its `/data`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`record`] | what is on disk of a phone: what it is made of, and how it is |
//! | [`supervisor`] | the program, and its first words |
//! | [`events`] | changes, reduced to "look at this device" |
//! | [`kernel`] | ends and stops of processes |
//!
//! ```text
//!   create   a folder below <state_dir>/processes
//!   start    phonesim supervise: holds the port, a lock, and the phone as its child
//!   inspect  the lock says whether it runs; a file, how it ended
//!   kill     SIGKILL to the phone's PID 1, by number and start time, never by a name
//! ```
//!
//! Nothing is remembered here: phones of an earlier run of the agent are looked at, watched
//! and ended exactly as those of this one. A supervisor is no business of the agent's end;
//! whoever stops the agent must leave it alone (systemd: `KillMode=process`).
//!
//! Unlike in a container, limits of memory, processors and processes are not enforced, so
//! nothing is ever told as killed for its memory; the network is the host's; and every image
//! whose name says `phonesim` is the one program.

mod events;
mod kernel;
mod record;
mod supervisor;

use super::redroid::Profile;
use super::{
    Container, ContainerSpec, ContainerState, Engine, EngineError, EngineEvent, EngineInfo, LABEL_HOST,
};
use async_trait::async_trait;
use nix::sys::signal::Signal;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::time::Timestamp;
use record::{Found, Record, Records};
use std::path::{Path, PathBuf};
use std::time::Duration;
use supervisor::{Program, Started};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep};

/// From SIGKILL to the end of a phone, at most: only the kernel can be slow.
const END: Duration = Duration::from_secs(10);
/// How long a supervisor may take to have a phone that can be killed.
const BEGINNING: Duration = Duration::from_secs(2);
/// Between two looks at a phone that ends.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Changes that may wait for a watcher; one that has missed some looks at everything.
const CHANGES: usize = 64;

/// The phones of one host that are processes of this machine.
pub struct Processes {
    records: Records,
    program: Program,
    host: HostId,
    /// Something was done to some phone.
    changes: broadcast::Sender<()>,
}

impl Processes {
    /// Phones below `state_dir`. `program` is phonesim's path; without one it is looked for
    /// beside this program, then in PATH, at every start.
    pub fn new(state_dir: &Path, program: Option<PathBuf>, host: HostId) -> Self {
        let records = Records::new(&state_dir.join("processes"));
        Self { records, program: Program(program), host, changes: broadcast::channel(CHANGES).0 }
    }

    /// Work on files, off the threads that must not wait.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Records) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let records = self.records.clone();
        let done = tokio::task::spawn_blocking(move || work(&records)).await;
        done.unwrap_or_else(|error| Err(EngineError::Unavailable(error.to_string())))
    }

    async fn find(&self, id: &str) -> Result<Option<Found>, EngineError> {
        let id = id.to_owned();
        self.blocking(move |records| records.find(&id)).await
    }

    /// Refuses to touch a phone of somebody else.
    async fn own(&self, id: &str) -> Result<Option<Found>, EngineError> {
        let found = self.find(id).await?;
        if let Some(found) = &found
            && found.record.labels.get(LABEL_HOST).map(String::as_str) != Some(self.host.as_str())
        {
            return Err(EngineError::Refused(format!(
                "{} does not carry {LABEL_HOST}={}: it is not this agent's to touch",
                found.record.name, self.host
            )));
        }
        Ok(found)
    }

    fn changed(&self) {
        // Without a watcher nobody needs to know.
        let _ = self.changes.send(());
    }

    /// Kills a phone and waits until its supervisor has written that down.
    async fn end(&self, found: &Found) -> Result<(), EngineError> {
        let began = Instant::now();
        let mut found = found.clone();
        while let Some(supervisor) = found.supervisor {
            if began.elapsed() > END {
                return Err(EngineError::Unavailable(format!(
                    "{} was killed and is not gone after {} s",
                    found.record.name,
                    END.as_secs()
                )));
            }
            match found.init.filter(|init| init.is_alive()) {
                Some(init) => drop(init.signal(Signal::SIGKILL)),
                // It never gets as far as a phone; the kernel takes the rest with it.
                None if began.elapsed() > BEGINNING => drop(supervisor.signal(Signal::SIGKILL)),
                None => {}
            }
            sleep(LOOK_AGAIN).await;
            match self.find(&found.record.id).await? {
                Some(now) => found = now,
                None => break,
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for Processes {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let version = self.program.version().await?;
        self.blocking(Records::prepare).await?;
        let cpus = std::thread::available_parallelism().map_or(0, |count| count.get() as u32);
        Ok(EngineInfo { version, cpus, memory_bytes: 0 })
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        if Profile::of_image(&spec.image) != Profile::Phonesim {
            return Err(EngineError::ImageMissing(spec.image.clone()));
        }
        let record = Record::of(spec);
        let created = self.blocking(move |records| records.create(&record)).await?;
        self.changed();
        Ok(created)
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let Some(found) = self.own(id).await? else { return Err(EngineError::NotFound(id.to_owned())) };
        match (&found.state, found.init) {
            (ContainerState::Running, _) => return Ok(()),
            (ContainerState::Paused, Some(init)) => {
                kernel::resume_namespace(init);
                self.changed();
                return Ok(());
            }
            _ => {}
        }
        let started = self.program.supervise(&found.folder, &found.record).await?;
        self.changed();
        match started {
            Started::Runs => Ok(()),
            Started::PortTaken(detail) => Err(EngineError::PortTaken { port: found.record.adb_port, detail }),
            Started::Refused(why) => Err(EngineError::Refused(why)),
        }
    }

    async fn kill(&self, id: &str) -> Result<(), EngineError> {
        let Some(found) = self.own(id).await? else { return Ok(()) };
        let ended = self.end(&found).await;
        self.changed();
        ended
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let Some(found) = self.own(id).await? else { return Ok(()) };
        self.end(&found).await?;
        let removed = self.blocking(move |records| records.remove(&found)).await;
        self.changed();
        removed
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError> {
        Ok(self.find(id).await?.map(Found::into_container))
    }

    async fn list(&self, host: &HostId) -> Result<Vec<Container>, EngineError> {
        let host = host.clone();
        let found = self.blocking(move |records| records.all(&host)).await?;
        Ok(found.into_iter().map(Found::into_container).collect())
    }

    async fn watch(
        &self,
        host: &HostId,
        since: Timestamp,
    ) -> Result<mpsc::Receiver<EngineEvent>, EngineError> {
        events::watch(self.records.clone(), host.clone(), since, self.changes.subscribe()).await
    }
}
