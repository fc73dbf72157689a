//! What all tasks of devices and recordings share.

use crate::adb::Adb;
use crate::host::Kernel;
use crate::phone;
use crate::port::PortPool;
use crate::recording::sweeps::Sweeps;
use crate::recording::tally::Tally;
use crate::recording::{Recorder, Videos};
use crate::runtime::{Container, Engine, LABEL_HOST};
use crate::settings::Settings;
use crate::store::{Notice, Tx};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_store::damage::is_damage;
use phonefleet_store::{ReadError, Store, WriteError, rusqlite};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

/// Engine calls that change something, at once: two cores are full at four, and more only
/// makes each slower.
const ENGINE_WORK: usize = 4;

/// How often a read that has to be is tried again, and when: handles or memory that are short
/// are there again by then, or the agent had better begin anew.
const READS: u32 = 20;
const READ_AGAIN: Duration = Duration::from_millis(250);

/// Why an action did not come to its end.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// It may work later: the reason is what the operator sees meanwhile.
    Trouble(Reason),
    /// The database is gone: the agent has to end.
    Fatal(String),
}

impl Hindrance {
    pub fn trouble(code: &str, error: &impl ToString) -> Self {
        Self::Trouble(Reason::new(code, error.to_string()))
    }
}

/// What stands between the agent and the world.
pub(crate) struct Edges {
    pub engine: Arc<dyn Engine>,
    pub adb: Arc<dyn Adb>,
    pub kernel: Arc<dyn Kernel>,
    pub recorder: Arc<dyn Recorder>,
    pub videos: Arc<dyn Videos>,
}

pub(crate) struct Context {
    pub settings: Arc<Settings>,
    pub store: Store<Notice>,
    pub engine: Arc<dyn Engine>,
    pub adb: Arc<dyn Adb>,
    pub kernel: Arc<dyn Kernel>,
    pub clock: Arc<dyn Clock>,
    pub ports: PortPool,
    pub recorder: Arc<dyn Recorder>,
    pub videos: Arc<dyn Videos>,
    pub tally: Arc<Tally>,
    pub sweeps: Sweeps,
    pub phones: phone::tally::Tally,
    engine_work: Semaphore,
    engine_losses: AtomicU64,
    waiting: Mutex<BTreeMap<DeviceId, Reason>>,
}

impl Context {
    pub fn new(
        settings: Arc<Settings>,
        store: Store<Notice>,
        edges: Edges,
        clock: Arc<dyn Clock>,
        ports: PortPool,
    ) -> Self {
        let Edges { engine, adb, kernel, recorder, videos } = edges;
        Self {
            settings,
            store,
            engine,
            adb,
            kernel,
            clock,
            ports,
            recorder,
            videos,
            tally: Arc::default(),
            sweeps: Sweeps::default(),
            phones: phone::tally::Tally::default(),
            engine_work: Semaphore::new(ENGINE_WORK),
            engine_losses: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The engine went away: what becomes of a container now may be its doing.
    pub fn engine_was_lost(&self) {
        self.engine_losses.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the engine went away so far.
    pub fn engine_losses(&self) -> u64 {
        self.engine_losses.load(Ordering::Relaxed)
    }

    /// A turn at the engine, in order of asking.
    pub async fn engine_turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.engine_work.acquire().await.ok()
    }

    /// Where a phone's published ADB port is reached from this machine.
    pub fn adb_address(&self, port: u16) -> SocketAddr {
        let bind = match self.settings.container.bind {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        SocketAddr::new(bind, port)
    }

    /// Whether a container is this host's, of this device: a name alone proves nothing.
    pub fn owns(&self, container: &Container, device: DeviceId) -> bool {
        container.labels.get(LABEL_HOST).map(String::as_str) == Some(self.settings.container.host.as_str())
            && container.device() == Some(device)
    }

    /// A write whose failure says what the caller may do.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnMut(&mut Tx<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Hindrance> {
        self.store.write(job).await.map_err(|error| match error {
            WriteError::Unknown(_) | WriteError::Closed => Hindrance::Fatal(error.to_string()),
            // The next agent sets it aside.
            WriteError::Refused(damaged) if is_damage(&damaged) => Hindrance::Fatal(damaged.to_string()),
            _ => Hindrance::trouble("DATABASE_UNAVAILABLE", &error),
        })
    }

    /// A read, the same.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&rusqlite::Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Hindrance> {
        self.store.read(job).await.map_err(|error| match error {
            ReadError::Closed => Hindrance::Fatal(error.to_string()),
            ReadError::Sqlite(damaged) if is_damage(&damaged) => Hindrance::Fatal(damaged.to_string()),
            ReadError::Sqlite(_) => Hindrance::trouble("DATABASE_UNAVAILABLE", &error),
        })
    }

    /// A read for those who have nobody to tell that it comes later: tried for some seconds.
    ///
    /// # Errors
    /// The text of a failure that the agent cannot go on after.
    pub async fn read_in_the_end<T: Send + 'static>(
        &self,
        job: impl Fn(&rusqlite::Connection) -> Result<T, rusqlite::Error> + Clone + Send + 'static,
    ) -> Result<T, String> {
        let mut tries = 0;
        loop {
            match self.read(job.clone()).await {
                Ok(value) => return Ok(value),
                Err(Hindrance::Fatal(why)) => return Err(why),
                Err(Hindrance::Trouble(reason)) if tries == READS => return Err(reason.to_string()),
                Err(Hindrance::Trouble(reason)) => {
                    tracing::warn!(%reason, "reading again");
                    tries += 1;
                    sleep(READ_AGAIN).await;
                }
            }
        }
    }

    /// Notes what a device waits for, for the operator; `None`: nothing any more.
    pub fn waits_for(&self, device: DeviceId, reason: Option<&Reason>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => waiting.insert(device, reason.clone()),
            None => waiting.remove(&device),
        };
    }

    /// What each waiting device waits for.
    pub fn waiting(&self) -> BTreeMap<DeviceId, Reason> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
