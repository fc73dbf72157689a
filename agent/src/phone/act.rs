//! How each action is done. The row says what is about to happen before it happens.

use super::context::Hindrance;
use super::memory::{Doubt, Shutdown};
use super::plan::Action;
use super::task::{DeviceTask, Next, View, built_from};
use super::transition;
use crate::port::QUARANTINE;
use crate::recording::desire;
use crate::runtime::redroid::{container_spec, image_allowed};
use crate::runtime::{Container, EngineError};
use crate::store::port_lease::{self, PortKind};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::{Phase, Reason};
use phonefleet_protocol::mutant::{Mutant, planted};
use std::time::Duration;
use tokio::time::Instant;

/// How long Android may take to shut down. Its own watchdog may hurt the host when it is
/// left hanging for longer: the container is killed after that.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// How long the shutdown command itself may take.
const SHUTDOWN_COMMAND: Duration = Duration::from_secs(5);
/// How long the end of a phone waits for what records on it: as long as its recorder may
/// need, killed if need be (10 s, 5 s), and some more to fetch the file.
const RECORDING: Duration = Duration::from_secs(20);
/// Between two looks at it; its end wakes the device's task.
const RECORDING_LOOK: Duration = Duration::from_secs(1);
/// Between two looks at a container that is shutting down.
const SHUTDOWN_LOOK: Duration = Duration::from_secs(1);

/// The engine could not do it, and it may work later.
fn unavailable(error: &EngineError) -> Hindrance {
    Hindrance::trouble("ENGINE_UNAVAILABLE", error)
}

impl DeviceTask {
    pub(super) async fn act(&mut self, view: &View, action: Action) -> Result<Next, Hindrance> {
        match action {
            Action::Rest | Action::RestUntil(_) => {}
            Action::LeasePorts => self.lease_ports(view).await?,
            Action::Create => self.create(view).await?,
            Action::Start => self.start(view).await?,
            Action::Boot => return self.boot(view).await,
            Action::Probe => self.probe(view).await?,
            Action::FinishRecording => return self.finish_recording().await,
            Action::Stop { graceful } => return self.stop(view, graceful).await,
            Action::RemoveContainer => self.remove_container(view).await?,
            Action::EraseData => {
                self.remove_data(None).await?;
                self.memory.erased = true;
            }
            Action::EraseOldData => {
                let (question, epoch) = (view.question, view.row.desired.data_epoch);
                self.remove_data(Some(epoch)).await?;
                self.context
                    .write(move |tx| transition::update(tx, question, |row| row.applied_data_epoch = epoch))
                    .await?;
            }
            Action::Settle(phase) => self.settle(view, phase).await?,
            Action::Fail(reason) => self.fail(view, reason, false).await?,
            Action::Died(reason) => self.died(view, reason, false).await?,
            Action::Report(reason) => self.report(view, reason).await?,
        }
        Ok(Next::Now)
    }

    pub(super) async fn settle(&mut self, view: &View, phase: Phase) -> Result<(), Hindrance> {
        if view.row.phase == Phase::Stopping {
            // It shut down by itself: the adb server still knocks at its port.
            self.disconnect(view).await;
        }
        let (question, now) = (view.question, self.context.now());
        let id = view.container.as_ref().map(|container| container.id.clone());
        let released =
            self.context.write(move |tx| transition::settle(tx, question, phase, id.as_deref(), now)).await?;
        if view.row.answer.is_none() {
            self.context.phones.reached(view.row.desired.wish, self.memory.asked_at.elapsed());
        }
        for port in released {
            self.context.ports.free(port);
        }
        self.memory.no_setback();
        // When it is removed once more, there is something again.
        self.memory.erased = false;
        tracing::info!(device = %self.device, generation = question.generation, phase = phase.name(), "reached");
        Ok(())
    }

    pub(super) async fn fail(
        &mut self,
        view: &View,
        reason: Reason,
        retryable: bool,
    ) -> Result<(), Hindrance> {
        tracing::warn!(device = %self.device, generation = view.question.generation, %reason, "failed");
        if view.row.answer == Some(Outcome::Reached) {
            self.memory.setback();
        }
        let (question, now, code) = (view.question, self.context.now(), reason.code.clone());
        let failed =
            self.context.write(move |tx| transition::fail(tx, question, &reason, retryable, now)).await?;
        if failed && view.row.desired.wish == Wish::Running {
            self.context.phones.boot_failed(&code);
        }
        Ok(())
    }

    pub(super) async fn died(&mut self, view: &View, reason: Reason, runs: bool) -> Result<(), Hindrance> {
        tracing::warn!(device = %self.device, %reason, "the phone died");
        self.disconnect(view).await;
        let (question, now, code) = (view.question, self.context.now(), reason.code.clone());
        if self.context.write(move |tx| transition::died(tx, question, &reason, runs, now)).await? {
            if view.row.booted {
                self.context.phones.died(&code);
            } else {
                self.context.phones.boot_failed(&code);
            }
        }
        self.memory.container_changed();
        Ok(())
    }

    pub(super) async fn report(&mut self, view: &View, reason: Option<Reason>) -> Result<(), Hindrance> {
        tracing::info!(device = %self.device, ?reason, "changed");
        let (question, now) = (view.question, self.context.now());
        self.context.write(move |tx| transition::report(tx, question, reason.as_ref(), now)).await?;
        Ok(())
    }

    /// Leases what is missing, then tests what is new, and all of it while no container of
    /// the device can hold it.
    async fn lease_ports(&mut self, view: &View) -> Result<(), Hindrance> {
        let device = self.device;
        if view.row.ports.is_none() && view.row.answer.is_none() && self.context.store.is_short_of_room() {
            let text = "the disk of this host's `state_dir` is full: no new phones until there is room";
            return self.fail(view, Reason::new("DISK_FULL", text), true).await;
        }
        for kind in [PortKind::Adb, PortKind::Webrtc] {
            loop {
                let known = self
                    .context
                    .read(move |connection| port_lease::of_kind(connection, device, kind))
                    .await?;
                let port = match known {
                    // Its own container may hold it.
                    Some(_) if view.container.is_some() => break,
                    Some(port) => port,
                    None => match self.lease_port(view, kind).await? {
                        Some(port) if view.labelled_port(kind) == Some(port) => break,
                        Some(port) => port,
                        None => return Ok(()),
                    },
                };
                if self.context.kernel.port_is_free(self.context.settings.container.bind, port) {
                    break;
                }
                self.quarantine(view, port, false).await?;
            }
        }
        self.memory.ports_tested = true;
        Ok(())
    }

    /// One more port; `None`: there is none, and whoever waits was told, or the question is
    /// not asked any more.
    async fn lease_port(&mut self, view: &View, kind: PortKind) -> Result<Option<u16>, Hindrance> {
        let now = self.context.now();
        // A container that is older than its row, which a lost database took along, keeps its own.
        let labelled = view.labelled_port(kind);
        let own = labelled.and_then(|port| self.context.ports.hold_exactly(kind, port));
        let Some(hold) = own.or_else(|| self.context.ports.hold(kind, now)) else {
            let text = format!("every {} port of this host is leased or held by something else", kind.name());
            let reason = Reason::new("NO_PORTS", text);
            if view.row.answer.is_some() {
                return Err(Hindrance::Trouble(reason));
            }
            self.fail(view, reason, true).await?;
            return Ok(None);
        };
        let (question, port) = (view.question, hold.port());
        let leased = self
            .context
            .write(move |tx| {
                let Some(row) = question.row(tx)? else { return Ok(false) };
                port_lease::lease(tx, port, kind, row.id(), question.generation, now)?;
                Ok(true)
            })
            .await?;
        if !leased {
            return Ok(None);
        }
        hold.keep();
        Ok(Some(port))
    }

    /// Something else holds this port: it is left alone for a while. `started`: that came out
    /// at a start, which was none, then.
    async fn quarantine(&mut self, view: &View, port: u16, started: bool) -> Result<(), Hindrance> {
        let until = self.context.now().after(QUARANTINE);
        tracing::warn!(device = %self.device, port, "something else holds a leased port; taking another");
        let question = view.question;
        self.context
            .write(move |tx| {
                port_lease::quarantine(tx, port, until)?;
                transition::update(tx, question, |row| {
                    if started {
                        row.starts = row.starts.saturating_sub(1);
                        row.phase = Phase::Stopped;
                    }
                })
            })
            .await?;
        self.context.ports.quarantine(port, until);
        // Whatever answers there now is not this phone.
        self.disconnect_port(port).await;
        Ok(())
    }

    async fn create(&mut self, view: &View) -> Result<(), Hindrance> {
        let (Some(spec), Some(ports)) = (&view.row.desired.spec, view.row.ports) else { return Ok(()) };
        let settings = &self.context.settings;
        let image = spec.image.as_deref().unwrap_or(&settings.container.default_image);
        if !image_allowed(image, &settings.container.default_image, &settings.allowed_images) {
            let text = format!("image {image} is not allowed here; add it to `[runtime] allowed_images`");
            return self.fail(view, Reason::new("IMAGE_NOT_ALLOWED", text), false).await;
        }
        let data = self.context.kernel.prepare_data(self.device, view.row.desired.data_epoch).await;
        let data = data.map_err(|error| Hindrance::trouble("DATA_UNAVAILABLE", &error))?;
        let built =
            container_spec(&settings.container, self.device, view.question.generation, spec, ports, &data);
        let created = {
            let _turn = self.context.engine_turn().await;
            self.context.engine.create(&built).await
        };
        self.memory.container_changed();
        let fault = match created {
            Ok(id) => {
                let (question, hash) = (view.question, built_from(&view.row));
                self.context
                    .write(move |tx| {
                        transition::update(tx, question, |row| {
                            row.container_id = Some(id.clone());
                            row.built.clone_from(&hash);
                        })
                    })
                    .await?;
                return Ok(());
            }
            Err(error) => error,
        };
        match fault {
            EngineError::ImageMissing(_) => {
                self.fail(view, Reason::new("IMAGE_MISSING", fault.to_string()), false).await
            }
            EngineError::NameTaken(_) if view.stranger => {
                let text = format!("{fault}, and it is not this host's; remove or rename it");
                self.fail(view, Reason::new("NAME_TAKEN", text), false).await
            }
            // It came from an earlier call whose answer was lost: the next look adopts it.
            EngineError::NameTaken(_) => Ok(()),
            EngineError::PortTaken { port, .. } => self.port_taken(view, port, false).await,
            EngineError::Refused(_) => {
                self.fail(view, Reason::new("CREATE_REFUSED", fault.to_string()), false).await
            }
            EngineError::Unavailable(_) | EngineError::NotFound(_) => Err(unavailable(&fault)),
        }
    }

    async fn start(&mut self, view: &View) -> Result<(), Hindrance> {
        let Some(container) = &view.container else { return Ok(()) };
        let question = view.question;
        if !self.context.write(move |tx| transition::starting(tx, question)).await? {
            return Ok(());
        }
        self.memory.container_changed();
        let started = {
            let _turn = self.context.engine_turn().await;
            self.context.engine.start(&container.id).await
        };
        match started {
            Ok(()) => {
                // One start after each loss of the engine is in doubt, and the next is not.
                let echo = self.memory.echo_until.take().is_some_and(|until| Instant::now() < until);
                self.memory.start_seen = !echo;
                self.memory.started_at = Some(Instant::now());
                let why = self.memory.doubt.map_or(Doubt::EngineLost, |(why, _)| why);
                self.memory.doubt = echo.then(|| (why, Instant::now()));
                Ok(())
            }
            Err(EngineError::NotFound(_)) => Ok(()),
            Err(EngineError::PortTaken { port, .. }) => self.port_taken(view, port, true).await,
            Err(fault @ EngineError::ImageMissing(_)) => {
                self.fail(view, Reason::new("IMAGE_MISSING", fault.to_string()), false).await
            }
            // An engine that died in the middle of a start stumbles over what is left of it, in
            // words of every kind. Once: a container that was made anew is in no doubt.
            Err(fault @ EngineError::Refused(_)) if self.memory.doubt.take().is_some() => {
                tracing::warn!(device = %self.device, %fault, "the start was in doubt; the container is made anew");
                self.remove_container(view).await
            }
            Err(fault @ (EngineError::Refused(_) | EngineError::NameTaken(_))) => {
                self.fail(view, Reason::new("START_REFUSED", fault.to_string()), false).await
            }
            Err(fault @ EngineError::Unavailable(_)) => Err(unavailable(&fault)),
        }
    }

    /// The engine says that a port is held: only the ADB port is published, so it is that one
    /// whatever number the engine has told. The container is made anew with the next port.
    async fn port_taken(&mut self, view: &View, told: u16, started: bool) -> Result<(), Hindrance> {
        let Some(ports) = view.row.ports else { return Ok(()) };
        if told != 0 && told != ports.adb {
            tracing::warn!(device = %self.device, told, leased = ports.adb, "the engine names a port that is not leased");
        }
        self.quarantine(view, ports.adb, started).await
    }

    /// Asks what records on the phone to end; its task does it, and wakes this one.
    async fn finish_recording(&mut self) -> Result<Next, Hindrance> {
        let (device, now) = (self.device, self.context.now());
        let ends_by = *self.memory.recording_ends_by.get_or_insert_with(|| Instant::now() + RECORDING);
        let waits = self.context.write(move |tx| desire::end_for_device(tx, device, now)).await?;
        if !waits {
            return Ok(Next::Now);
        }
        let left = ends_by.saturating_duration_since(Instant::now());
        Ok(Next::After(if left.is_zero() { RECORDING_LOOK } else { left.min(RECORDING_LOOK) }))
    }

    async fn stop(&mut self, view: &View, graceful: bool) -> Result<Next, Hindrance> {
        let Some(container) = &view.container else { return Ok(Next::Now) };
        if !matches!(view.row.phase, Phase::Stopping | Phase::Error) {
            let question = view.question;
            let ready = self.memory.recording_ends_by.is_some();
            if !self.context.write(move |tx| transition::stopping(tx, question, ready)).await? {
                return Ok(Next::Now);
            }
        }
        if graceful && let Some(wait) = self.shut_down(view, container).await {
            return Ok(Next::After(wait));
        }
        self.disconnect(view).await;
        self.kill(container).await?;
        Ok(Next::Now)
    }

    pub(super) async fn kill(&mut self, container: &Container) -> Result<(), Hindrance> {
        let killed = {
            let _turn = self.context.engine_turn().await;
            self.context.engine.kill(&container.id).await
        };
        self.memory.container_changed();
        match killed {
            Ok(()) | Err(EngineError::NotFound(_)) => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Asks Android to shut down, once; returns how long to wait, `None` when it had its time
    /// or does not hear.
    async fn shut_down(&mut self, view: &View, container: &Container) -> Option<Duration> {
        if let Some(shutdown) = self.memory.shutdown.as_ref().filter(|known| known.container == container.id)
        {
            let left = shutdown.kill_at.saturating_duration_since(Instant::now());
            return (!left.is_zero()).then(|| left.min(SHUTDOWN_LOOK));
        }
        let address = self.context.adb_address(view.row.ports?.adb);
        // After a restart of the engine or of this agent the connection may be a dead one: what
        // was never heard would be waited for in vain.
        if let Err(error) = self.context.adb.connect(address, SHUTDOWN_COMMAND).await {
            tracing::warn!(device = %self.device, %error, "cannot be reached to shut down; killing it");
            return None;
        }
        let asked = self.context.adb.shell(address, "svc power shutdown", SHUTDOWN_COMMAND).await;
        match asked {
            // An end of the connection or a silence may be the shutdown at work.
            Ok(_) | Err(crate::adb::AdbError::Timeout(_) | crate::adb::AdbError::Offline(_)) => {}
            Err(error) => {
                tracing::warn!(device = %self.device, %error, "cannot be asked to shut down; killing it");
                return None;
            }
        }
        let kill_at = Instant::now() + SHUTDOWN;
        self.memory.shutdown = Some(Shutdown { container: container.id.clone(), kill_at });
        Some(SHUTDOWN_LOOK)
    }

    pub(super) async fn remove_container(&mut self, view: &View) -> Result<(), Hindrance> {
        let Some(container) = &view.container else { return Ok(()) };
        let question = view.question;
        let ready = self.memory.recording_ends_by.is_some();
        if view.row.phase != Phase::Stopping
            && !self.context.write(move |tx| transition::stopping(tx, question, ready)).await?
        {
            return Ok(());
        }
        self.disconnect(view).await;
        let removed = {
            let _turn = self.context.engine_turn().await;
            if planted(Mutant::ReleasePortEarly) && view.row.desired.wish == Wish::Absent {
                let device = self.device;
                let released = self.context.write(move |tx| port_lease::release(tx, device)).await?;
                for port in released {
                    self.context.ports.free(port);
                }
            }
            self.context.engine.remove(&container.id).await
        };
        self.memory.container_changed();
        self.memory.erased = false;
        self.memory.ports_tested = false;
        match removed {
            Ok(()) | Err(EngineError::NotFound(_)) => {}
            Err(error) => return Err(unavailable(&error)),
        }
        self.context
            .write(move |tx| {
                transition::update(tx, question, |row| {
                    row.container_id = None;
                    row.built = None;
                    row.booted = false;
                })
            })
            .await?;
        Ok(())
    }

    /// Lets the adb server forget the phone, so that it does not knock at a port that will
    /// be another's. Best effort.
    async fn disconnect(&self, view: &View) {
        if let Some(ports) = view.row.ports {
            self.disconnect_port(ports.adb).await;
        }
    }

    async fn disconnect_port(&self, port: u16) {
        if let Err(error) = self.context.adb.disconnect(self.context.adb_address(port)).await {
            tracing::debug!(device = %self.device, port, %error, "adb could not forget the phone");
        }
    }

    async fn remove_data(&self, keep_from: Option<u32>) -> Result<(), Hindrance> {
        let removed = self.context.kernel.remove_data(self.device, keep_from).await;
        removed.map_err(|error| Hindrance::trouble("DATA_UNAVAILABLE", &error))
    }
}
