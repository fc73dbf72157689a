//! The loop of one device: look, plan, act, wait.
//!
//! Nothing is carried from one round to the next but what may be forgotten: every round
//! reads the row and asks the engine, so that a crash, a command in the middle of a boot
//! and somebody else's hands in the engine are all the same case.

use super::context::{Context, Hindrance};
use super::memory::{Doubt, Memory, Wake};
use super::plan::{Action, ActiveRecording, Sight, plan};
use super::transition::{self, Question};
use crate::runtime::redroid::{
    LABEL_PORT_ADB, LABEL_PORT_WEBRTC, container_name, container_spec, labelled_port,
};
use crate::runtime::{Container, ContainerState, LABEL_SPEC_HASH};
use crate::store::device::{self, DeviceRow};
use crate::store::port_lease::PortKind;
use crate::store::recording::{self, RecordingRow};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::{Phase, Reason};
use phonefleet_protocol::id::DeviceId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use xxhash_rust::xxh3::xxh3_64;

/// Longest rest without another look, should an event ever be lost.
const LONGEST_REST: Duration = Duration::from_mins(5);

/// When the next round begins.
pub(super) enum Next {
    /// At once.
    Now,
    /// When something happens, or after this time.
    After(Duration),
}

/// How long an engine that came back may tell of what was before.
const ECHO: Duration = Duration::from_secs(30);

/// What is known of the phone in this round.
pub(super) struct View {
    pub row: DeviceRow,
    pub question: Question,
    pub container: Option<Container>,
    /// The name is taken by a container that is none of this host's.
    pub stranger: bool,
}

impl View {
    /// The port of this kind that the phone's own container names.
    pub fn labelled_port(&self, kind: PortKind) -> Option<u16> {
        labelled_port(self.container.as_ref()?, kind)
    }
}

/// One device's task.
pub(crate) struct DeviceTask {
    pub(super) context: Arc<Context>,
    pub(super) device: DeviceId,
    pub(super) wake: Arc<Wake>,
    pub(super) memory: Memory,
}

impl DeviceTask {
    pub fn new(context: Arc<Context>, device: DeviceId, wake: Arc<Wake>) -> Self {
        Self { context, device, wake, memory: Memory::new() }
    }

    /// Runs until the device's row is gone.
    ///
    /// # Errors
    /// The text of a database failure that the agent cannot go on after.
    pub async fn run(mut self) -> Result<(), String> {
        loop {
            self.wake.take();
            let next = match self.round().await {
                Ok(None) => {
                    self.context.waits_for(self.device, None);
                    return Ok(());
                }
                Ok(Some(next)) => next,
                Err(Hindrance::Fatal(why)) => return Err(why),
                Err(Hindrance::Trouble(reason)) => match self.trouble(reason).await {
                    Ok(wait) => Next::After(wait),
                    Err(Hindrance::Fatal(why)) => return Err(why),
                    Err(Hindrance::Trouble(_)) => Next::After(self.memory.back_off()),
                },
            };
            match next {
                // Others get a turn between two rounds, whatever the actions do.
                Next::Now => tokio::task::yield_now().await,
                Next::After(wait) => {
                    let _ = timeout(wait, self.wake.raised()).await;
                }
            }
        }
    }

    async fn round(&mut self) -> Result<Option<Next>, Hindrance> {
        let device = self.device;
        let read = self.context.read(move |connection| {
            Ok((device::get(connection, device)?, recording::active_of(connection, device)?))
        });
        let (Some(row), recording) = read.await? else {
            return Ok(None);
        };
        if row.parked {
            return Ok(Some(Next::After(LONGEST_REST)));
        }
        self.memory.hear(Question::of(&row));
        let view = self.look(row).await?;
        let fits = self.fits(&view).await?;
        let recording = self.recording(recording.as_ref());
        let action = plan(&view.row, &self.sight(&view, fits, recording));
        let pause = self.memory.pause().filter(|_| action.builds());
        let next = match (action, pause) {
            (_, Some(pause)) => Next::After(pause),
            (Action::Rest, None) => Next::After(self.rest(&view)),
            (Action::RestUntil(at), None) => {
                Next::After(at.since(self.context.now()).max(Duration::from_millis(1)))
            }
            (action, None) => {
                tracing::debug!(%device, ?action, generation = view.question.generation, "next");
                self.act(&view, action).await?
            }
        };
        self.memory.tries = 0;
        if self.memory.trouble.take().is_some() {
            self.context.waits_for(device, None);
        }
        Ok(Some(next))
    }

    /// Asks the engine for the device's container.
    async fn look(&mut self, row: DeviceRow) -> Result<View, Hindrance> {
        let found = self.context.engine.inspect(&container_name(self.device)).await;
        let found = found.map_err(|error| {
            self.context.engine_was_lost();
            Hindrance::trouble("ENGINE_UNAVAILABLE", &error)
        })?;
        let stranger = found.as_ref().is_some_and(|found| !self.context.owns(found, self.device));
        let container = found.filter(|_| !stranger);
        let runs = container.as_ref().is_some_and(|container| container.state == ContainerState::Running);
        // An engine that dies may take a container down that it was starting: that is no
        // failed boot, and the phone is simply started again.
        let losses = self.context.engine_losses();
        match self.memory.engine_losses.replace(losses) {
            Some(known) if known == losses => {}
            None if row.phase != Phase::Starting => {}
            known => {
                let doubt = if known.is_some() { Doubt::EngineLost } else { Doubt::NotSeen };
                self.memory.start_seen = false;
                self.memory.doubt = Some((doubt, Instant::now()));
                self.memory.echo_until = Some(Instant::now() + ECHO);
            }
        }
        if runs && row.phase == Phase::Starting && self.memory.doubt.is_none() {
            self.memory.start_seen = true;
        }
        let id = container.as_ref().filter(|_| runs).map(|container| container.id.as_str());
        if self.memory.verified.as_deref().is_some_and(|verified| Some(verified) != id) {
            self.memory.verified = None;
        }
        Ok(View { question: Question::of(&row), row, container, stranger })
    }

    /// How the recording that is not over stands to the phone's end.
    fn recording(&mut self, active: Option<&RecordingRow>) -> Option<ActiveRecording> {
        let Some(row) = active else {
            self.memory.recording_ends_by = None;
            return None;
        };
        let had_its_time = self.memory.recording_ends_by.is_some_and(|by| by <= Instant::now());
        Some(ActiveRecording { had_its_time, data_epoch: row.launched_at.map(|_| row.data_epoch) })
    }

    fn sight<'a>(&self, view: &'a View, fits: bool, recording: Option<ActiveRecording>) -> Sight<'a> {
        Sight {
            container: view.container.as_ref(),
            fits,
            ports_tested: self.memory.ports_tested,
            start_seen: self.memory.start_seen,
            verified: self.memory.verified.is_some(),
            probe_due: self.memory.probe_at <= Instant::now(),
            erased: self.memory.erased,
            recording,
            now: self.context.now(),
        }
    }

    fn rest(&self, view: &View) -> Duration {
        let runs = view.container.as_ref().is_some_and(|found| found.state == ContainerState::Running);
        if runs && view.row.phase == Phase::Running {
            self.memory.probe_at.saturating_duration_since(Instant::now()).min(LONGEST_REST)
        } else {
            LONGEST_REST
        }
    }

    /// Whether the container is built from what the row asks for. The row remembers what it
    /// was built from, so that another default image of the host rebuilds no phone; only
    /// where the row does not know is the container's own label compared.
    async fn fits(&self, view: &View) -> Result<bool, Hindrance> {
        let (Some(container), Some(spec), Some(ports)) =
            (&view.container, &view.row.desired.spec, view.row.ports)
        else {
            return Ok(true);
        };
        if view.row.desired.wish < Wish::Stopped {
            return Ok(true);
        }
        let built = built_from(&view.row);
        // A row of a restored database knows another container than the one that is there.
        let known = view.row.container_id.as_ref() == Some(&container.id);
        if known && view.row.built == built {
            return Ok(true);
        }
        let epoch = view.row.desired.data_epoch;
        let data = self.context.kernel.prepare_data(self.device, epoch).await;
        let data = data.map_err(|error| Hindrance::trouble("DATA_UNAVAILABLE", &error))?;
        let settings = &self.context.settings.container;
        let wanted =
            container_spec(settings, self.device, view.question.generation, spec, ports, &data).labels;
        let same = [LABEL_SPEC_HASH, LABEL_PORT_ADB, LABEL_PORT_WEBRTC]
            .iter()
            .all(|label| container.labels.get(*label) == wanted.get(*label));
        if same {
            let (question, id) = (view.question, container.id.clone());
            self.context
                .write(move |tx| {
                    transition::update(tx, question, |row| {
                        row.built.clone_from(&built);
                        row.container_id = Some(id.clone());
                    })
                })
                .await?;
        }
        Ok(same)
    }

    /// Something stands in the way: notes it, answers when the question is open for too
    /// long, and returns when to try again.
    async fn trouble(&mut self, reason: Reason) -> Result<Duration, Hindrance> {
        tracing::warn!(device = %self.device, %reason, tries = self.memory.tries, "waiting");
        self.context.waits_for(self.device, Some(&reason));
        self.memory.trouble = Some(reason.clone());
        let wait = self.memory.back_off();
        let left = self.context.settings.answer_deadline.saturating_sub(self.memory.asked_at.elapsed());
        if !left.is_zero() {
            return Ok(wait.min(left));
        }
        let Some(question) = self.memory.question else { return Ok(wait) };
        let now = self.context.now();
        self.context
            .write(move |tx| match question.row(tx)? {
                Some(row) if row.answer.is_none() => {
                    let outcome = Outcome::Failed { reason: reason.clone(), retryable: true };
                    transition::answer(tx, row, outcome, now)
                }
                _ => Ok(()),
            })
            .await?;
        Ok(wait)
    }
}

/// Hash of what a container is built from, by the controller's word alone.
pub(super) fn built_from(row: &DeviceRow) -> Option<String> {
    let text = serde_json::to_string(&(&row.desired.spec, row.ports, row.desired.data_epoch)).ok()?;
    Some(format!("{:016x}", xxh3_64(text.as_bytes())))
}
