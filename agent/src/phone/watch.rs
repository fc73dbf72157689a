//! What happens in the engine: its events as hints, and a full list now and then, because
//! hints are lost. Containers and data that no row knows are parked.

use super::context::{Context, Hindrance};
use super::desire::{self, Found};
use crate::port::Hold;
use crate::runtime::redroid::labelled_port;
use crate::runtime::{Container, ContainerState, EngineEvent};
use crate::status::{Board, Part};
use crate::store::port_lease::PortKind;
use crate::store::{Notice, device};
use phonefleet_protocol::facts::Ports;
use phonefleet_protocol::id::DeviceId;
use phonefleet_service::Pulse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Between two full lists.
const LIST_EVERY: Duration = Duration::from_mins(1);
/// Between two looks at the disk for data that no row knows.
const DATA_EVERY: Duration = Duration::from_hours(1);
/// How long a host without a database looks for phones before it speaks.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// First wait for an engine that does not answer; doubles up to [`AGAIN_MOST`].
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_MOST: Duration = Duration::from_secs(10);
/// More than any call of the engine or any pause in here may take: beyond it, something hangs.
const OUTSIDE: Duration = Duration::from_mins(1);

/// Watches the engine for as long as it is polled.
pub(crate) struct Watch {
    context: Arc<Context>,
    tell: mpsc::UnboundedSender<Notice>,
    board: Board,
    seen: BTreeMap<DeviceId, (String, ContainerState)>,
    /// When the disk is read again for data that no row knows.
    data_at: Instant,
    pulse: Pulse,
}

impl Watch {
    pub fn new(
        context: Arc<Context>,
        tell: mpsc::UnboundedSender<Notice>,
        board: Board,
        pulse: Pulse,
    ) -> Self {
        Self { context, tell, board, seen: BTreeMap::new(), data_at: Instant::now(), pulse }
    }

    /// Runs for ever.
    ///
    /// # Errors
    /// The text of a database failure that the agent cannot go on after.
    pub async fn run(mut self) -> Result<(), String> {
        let mut again = AGAIN_FIRST;
        loop {
            let followed = self.follow().await;
            self.context.engine_was_lost();
            match followed {
                Ok(()) => again = AGAIN_FIRST,
                Err(Hindrance::Fatal(why)) => return Err(why),
                Err(Hindrance::Trouble(reason)) => {
                    self.board.missing(Part::Engine, reason.detail);
                    self.pulse.through(OUTSIDE, sleep(again)).await;
                    again = (again * 2).min(AGAIN_MOST);
                    continue;
                }
            }
            // The stream ended though the engine answers: an engine that restarts.
            self.pulse.through(OUTSIDE, sleep(again)).await;
        }
    }

    /// Parks what a host without a database finds, before it speaks for the first time: its
    /// first inventory then names its phones. An engine that is away is not waited for.
    ///
    /// # Errors
    /// The text of a database failure that the agent cannot go on after.
    pub async fn first_look(&mut self) -> Result<(), String> {
        match timeout(FIRST_LOOK, self.list()).await {
            Ok(Err(Hindrance::Fatal(why))) => Err(why),
            Ok(Err(Hindrance::Trouble(reason))) => {
                tracing::warn!(%reason, "cannot see yet which phones this host has");
                Ok(())
            }
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Lists everything, then follows the events until their stream ends.
    async fn follow(&mut self) -> Result<(), Hindrance> {
        let engine = Arc::clone(&self.context.engine);
        let host = self.context.settings.container.host.clone();
        // From before the list: what happens while it is read is told again.
        let since = self.context.now();
        self.list().await?;
        let events = self.pulse.through(OUTSIDE, engine.watch(&host, since)).await;
        let mut events = events.map_err(|error| Hindrance::trouble("ENGINE_UNAVAILABLE", &error))?;
        let info = self.pulse.through(OUTSIDE, engine.info()).await;
        let version = info.map(|info| info.version).unwrap_or_default();
        self.board.ready(Part::Engine, version);
        let mut list_at = Instant::now() + LIST_EVERY;
        loop {
            let event = tokio::select! {
                biased;
                () = self.pulse.asked() => continue,
                event = timeout_at(list_at, events.recv()) => event,
            };
            match event {
                Ok(None) => return Ok(()),
                Ok(Some(EngineEvent::Container(device))) => self.hint(device),
                Ok(Some(EngineEvent::Resync)) | Err(_) => {
                    self.list().await?;
                    list_at = Instant::now() + LIST_EVERY;
                }
            }
        }
    }

    fn hint(&self, device: DeviceId) {
        // The supervisor is gone only when the agent ends.
        let _ = self.tell.send(Notice::Device(device));
    }

    async fn list(&mut self) -> Result<(), Hindrance> {
        // The rows come first: a container that none of them knows then is no newborn.
        let known = self.context.read(device::ids).await?;
        let known: BTreeSet<DeviceId> = known.into_iter().collect();
        let host = &self.context.settings.container.host;
        let listed = self.pulse.through(OUTSIDE, self.context.engine.list(host)).await;
        let listed = listed.map_err(|error| Hindrance::trouble("ENGINE_UNAVAILABLE", &error))?;
        let mut seen = BTreeMap::new();
        for container in listed {
            let Some(device) = container.device().filter(|device| self.context.owns(&container, *device))
            else {
                tracing::warn!(
                    container = container.id,
                    "a container of this host names no device; left alone"
                );
                continue;
            };
            if !known.contains(&device) {
                self.park(device, &container.id).await?;
            }
            seen.insert(device, (container.id, container.state));
        }
        let changed: Vec<_> = seen
            .iter()
            .filter(|(device, now)| self.seen.get(device) != Some(now))
            .map(|(device, _)| *device)
            .chain(self.seen.keys().filter(|device| !seen.contains_key(device)).copied())
            .collect();
        self.seen = seen;
        for device in changed {
            self.hint(device);
        }
        if self.data_at <= Instant::now() {
            self.park_data(&known).await?;
            self.data_at = Instant::now() + DATA_EVERY;
        }
        Ok(())
    }

    /// A container that no row knows: the database was lost, or is another one.
    async fn park(&mut self, device: DeviceId, id: &str) -> Result<(), Hindrance> {
        let container = self.pulse.through(OUTSIDE, self.context.engine.inspect(id)).await;
        let container = container.map_err(|error| Hindrance::trouble("ENGINE_UNAVAILABLE", &error))?;
        let Some(container) = container else { return Ok(()) };
        let holds = self.label_ports(&container);
        let ports = holds.as_ref().map(|(adb, webrtc)| Ports { adb: adb.port(), webrtc: webrtc.port() });
        let generation = container.generation().unwrap_or(0);
        let runs = container.state == ContainerState::Running;
        let found = Found { device, generation, container_id: Some(container.id), runs, ports };
        if self.write_parked(found).await? {
            if let Some((adb, webrtc)) = holds {
                adb.keep();
                webrtc.keep();
            }
            tracing::warn!(%device, "parked a container that no row knows");
        }
        Ok(())
    }

    /// The ports that its labels name, if this host may lease them and nobody has them.
    fn label_ports(&self, container: &Container) -> Option<(Hold, Hold)> {
        let hold = |kind: PortKind| self.context.ports.hold_exactly(kind, labelled_port(container, kind)?);
        Some((hold(PortKind::Adb)?, hold(PortKind::Webrtc)?))
    }

    async fn park_data(&self, known: &BTreeSet<DeviceId>) -> Result<(), Hindrance> {
        let with_data = match self.context.kernel.devices_with_data().await {
            Ok(devices) => devices,
            Err(error) => {
                tracing::warn!(%error, "cannot see which devices have data");
                return Ok(());
            }
        };
        for device in with_data.into_iter().filter(|device| !known.contains(device)) {
            let found = Found { device, generation: 0, container_id: None, runs: false, ports: None };
            if self.write_parked(found).await? {
                tracing::warn!(%device, "parked data that no row knows");
            }
        }
        Ok(())
    }

    async fn write_parked(&self, found: Found) -> Result<bool, Hindrance> {
        let now = self.context.now();
        self.context.write(move |tx| desire::park(tx, &found, now)).await
    }
}
