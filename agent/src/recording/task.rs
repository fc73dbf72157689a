//! The loop of one recording: look, plan, act, wait. As with devices, nothing is carried from
//! one round to the next but what may be forgotten.

mod collection;

use super::phone_state::phone_state;
use super::plan::{ANSWER_PATIENCE, Action, LOOK_AGAIN, PhoneState, ProcessState, Sight, plan};
use super::transition::{self, Launching, Signals};
use super::{Phone, Place, Recorded, RecorderError, Sighting};
use crate::phone::context::{Context, Hindrance};
use crate::phone::memory::Wake;
use crate::runtime::ContainerState;
use crate::runtime::redroid::container_name;
use crate::store::recording::{self, RecordingRow, StopSignal};
use crate::store::{device, device::DeviceRow};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::recording::RecordingPhase;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Longest wait after failures in a row.
const AGAIN_MOST: Duration = Duration::from_secs(5);
/// How long an engine is waited for: one that hangs must not hold up an end that is due.
const ENGINE_PATIENCE: Duration = Duration::from_secs(2);

/// When the next round begins.
enum Next {
    Now,
    After(Duration),
    /// It is over.
    Never,
}

/// What is known in this round.
struct View {
    row: RecordingRow,
    device: Option<DeviceRow>,
    phone: PhoneState,
    /// How it is reached, while its container runs.
    reach: Option<Phone>,
}

/// One recording's task.
pub(crate) struct RecordingTask {
    context: Arc<Context>,
    recording: RecordingId,
    wake: Arc<Wake>,
    /// What the last action saw, good for the next round.
    fresh: Option<Sighting>,
    /// Failures in a row.
    tries: u32,
    collecting_since: Option<Instant>,
    /// Since when the phone could not be asked.
    unanswered_since: Option<Instant>,
    /// Since when it refuses what would keep the recorder from being launched.
    refused_since: Option<Instant>,
    /// How old the recorder was, and when that was seen.
    age: Option<(Duration, Instant)>,
    /// The newest signal, and since when it is known here.
    signalled: Option<(StopSignal, Instant)>,
    signals: Signals,
    /// The newest trouble, for the operator.
    trouble: Option<String>,
}

impl RecordingTask {
    pub fn new(context: Arc<Context>, recording: RecordingId, wake: Arc<Wake>) -> Self {
        Self {
            context,
            recording,
            wake,
            fresh: None,
            tries: 0,
            collecting_since: None,
            unanswered_since: None,
            refused_since: None,
            age: None,
            signalled: None,
            signals: Signals::Arrived,
            trouble: None,
        }
    }

    /// Runs until the recording is over.
    ///
    /// # Errors
    /// The text of a database failure that the agent cannot go on after.
    pub async fn run(mut self) -> Result<(), String> {
        loop {
            self.wake.take();
            let next = match self.round().await {
                Ok(next) => next,
                Err(Hindrance::Fatal(why)) => return Err(why),
                Err(Hindrance::Trouble(reason)) => Next::After(self.trouble(&reason)),
            };
            match next {
                Next::Now => tokio::task::yield_now().await,
                Next::After(wait) => {
                    let _ = timeout(wait, self.wake.raised()).await;
                }
                Next::Never => {
                    self.context.tally.over(self.recording);
                    return Ok(());
                }
            }
        }
    }

    fn trouble(&mut self, reason: &Reason) -> Duration {
        let text = reason.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(recording = %self.recording, %reason, "waiting");
            self.trouble = Some(text);
        }
        let wait = LOOK_AGAIN.saturating_mul(1 << self.tries.min(4)).min(AGAIN_MOST);
        self.tries = self.tries.saturating_add(1);
        wait
    }

    async fn round(&mut self) -> Result<Next, Hindrance> {
        let id = self.recording;
        let read = self.context.read(move |connection| {
            let Some(row) = recording::get(connection, id)? else { return Ok(None) };
            let device = device::get(connection, row.device())?;
            Ok(Some((row, device)))
        });
        let Some((row, device)) = read.await? else { return Ok(Next::Never) };
        if row.phase.is_terminal() {
            return Ok(Next::Never);
        }
        let view = self.look(row, device).await;
        let (process, hindrance) = match self.process(&view).await {
            Ok(Some(process)) => (process, None),
            // Something happened meanwhile: everything is looked at again.
            Ok(None) => return Ok(Next::Now),
            Err(hindrance) => (self.unanswered(), Some(hindrance)),
        };
        if let ProcessState::Seen(sighting) = process {
            self.unanswered_since = None;
            self.age = sighting.age.map(|age| (age, Instant::now()));
        }
        let sight = Sight {
            phone: view.phone,
            process,
            age: self.age.map(|(age, seen)| age + seen.elapsed()),
            signalled: self.signalled(&view.row),
            now: self.context.now(),
        };
        let action = plan(&view.row, &sight);
        match (&action, hindrance) {
            // It would have been asked, and could not be.
            (Action::Rest(_), Some(hindrance)) => return Err(hindrance),
            (Action::Wait(_) | Action::Rest(_), None) => {}
            _ => tracing::debug!(recording = %id, ?action, "next"),
        }
        let next = self.act(&view, action).await?;
        self.tries = 0;
        Ok(next)
    }

    /// How the phone is. An engine that does not answer says nothing about it.
    async fn look(&self, row: RecordingRow, device: Option<DeviceRow>) -> View {
        let mut phone = phone_state(device.as_ref());
        let name = container_name(row.device());
        let found = timeout(ENGINE_PATIENCE, self.context.engine.inspect(&name)).await;
        if let Ok(Ok(found)) = found {
            let container = found.filter(|found| self.context.owns(found, row.device()));
            phone = match (container.map(|container| container.state), phone) {
                (Some(ContainerState::Running), phone) => match phone {
                    PhoneState::Down { .. } => PhoneState::Down { container_runs: true },
                    other => other,
                },
                (Some(ContainerState::Paused), PhoneState::Ready | PhoneState::Unsettled) => {
                    PhoneState::Unsettled
                }
                (Some(ContainerState::Paused), PhoneState::Down { .. }) => {
                    PhoneState::Down { container_runs: true }
                }
                _ => PhoneState::Down { container_runs: false },
            };
        }
        let reach = device
            .as_ref()
            .and_then(|device| device.ports)
            .map(|ports| Phone { device: row.device(), address: self.context.adb_address(ports.adb) });
        let reach = reach.filter(|_| phone != PhoneState::Down { container_runs: false });
        View { row, device, phone, reach }
    }

    /// How the recorder is; `None` when something else happened before that was known.
    async fn process(&mut self, view: &View) -> Result<Option<ProcessState>, Hindrance> {
        if let Some(fresh) = self.fresh.take() {
            return Ok(Some(ProcessState::Seen(fresh)));
        }
        if view.row.launched_at.is_none() || view.row.ended_at.is_some() {
            return Ok(Some(ProcessState::Unknown(Duration::ZERO)));
        }
        let Some(phone) = view.reach else { return Ok(Some(self.unanswered())) };
        let place = place(&view.row);
        let look = self.context.recorder.look(phone, &place, view.row.process);
        Ok(self.or_woken(look).await?.map(ProcessState::Seen))
    }

    /// How long the newest signal is known here.
    fn signalled(&mut self, row: &RecordingRow) -> Duration {
        let Some((signal, _)) = row.signal else { return Duration::ZERO };
        match self.signalled {
            Some((known, since)) if known == signal => since.elapsed(),
            _ => {
                // Noted by an agent that may have died before it was sent.
                self.signals = Signals::Doubtful;
                self.signalled = Some((signal, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn unanswered(&mut self) -> ProcessState {
        let since = *self.unanswered_since.get_or_insert_with(Instant::now);
        ProcessState::Unknown(since.elapsed())
    }

    /// What the phone says; `None` when something else happened meanwhile.
    async fn or_woken<T>(
        &self,
        asked: impl Future<Output = Result<T, RecorderError>>,
    ) -> Result<Option<T>, Hindrance> {
        tokio::select! {
            biased;
            answer = asked => answer.map(Some).map_err(|error| Hindrance::trouble("PHONE_UNREACHABLE", &error)),
            () = self.wake.raised() => Ok(None),
        }
    }

    async fn act(&mut self, view: &View, action: Action) -> Result<Next, Hindrance> {
        let (id, now) = (self.recording, self.context.now());
        match action {
            Action::Done => return Ok(Next::Never),
            Action::Rest(wait) => return Ok(Next::After(wait)),
            Action::Launch => return self.launch(view).await,
            Action::Adopt(sighting) => {
                let Recorded::Runs(process) = sighting.recorder else { return Ok(Next::Now) };
                let began =
                    self.context.write(move |tx| transition::adopt(tx, id, &sighting, process, now)).await?;
                self.context.tally.reached(id, sighting.bytes);
                if began {
                    self.context.tally.started();
                    tracing::info!(recording = %id, device = %view.row.device(), pid = process.pid, "recording");
                }
                self.fresh = Some(sighting);
            }
            Action::Wait(most) => return self.wait(view, most).await,
            Action::Finish(cause) => {
                self.context.write(move |tx| transition::due(tx, id, cause, now)).await?;
            }
            Action::Signal(signal) => self.signal(view, signal).await?,
            Action::Ended(cause) => {
                self.context.write(move |tx| transition::ended(tx, id, cause, now)).await?;
            }
            Action::GiveUp(reason) => {
                self.context.write(move |tx| transition::given_up(tx, id, reason.clone(), now)).await?;
            }
            Action::Forbid => return self.forbid(view).await,
            Action::Collect => return self.collect(view).await,
            Action::Fail(reason) => self.fail(view, reason).await?,
        }
        Ok(Next::Now)
    }

    async fn fail(&mut self, view: &View, reason: Reason) -> Result<(), Hindrance> {
        let (id, now) = (self.recording, self.context.now());
        tracing::warn!(recording = %id, %reason, "failed");
        self.context.write(move |tx| transition::fail_open(tx, id, reason.clone(), now)).await?;
        self.context.tally.ended(RecordingPhase::Failed, view.row.end_cause);
        Ok(())
    }

    async fn launch(&mut self, view: &View) -> Result<Next, Hindrance> {
        let (id, now, spec) = (self.recording, self.context.now(), view.row.desired.spec);
        let Some(phone) = view.reach else { return Ok(Next::After(LOOK_AGAIN)) };
        let free = self.context.videos.free_bytes().await;
        let free = free.map_err(|error| Hindrance::trouble("DISK_UNAVAILABLE", &error))?;
        let spare = self.context.settings.recording.min_free_bytes;
        let room = free.saturating_sub(spare);
        let written = self.context.tally.progress().into_iter();
        let written: BTreeMap<_, _> = written.map(|known| (known.recording_id, known.bytes)).collect();
        let noted = self.context.write(move |tx| transition::launching(tx, id, room, &written, now)).await?;
        match noted {
            Launching::Noted => {}
            Launching::NotNow => return Ok(Next::After(LOOK_AGAIN)),
            Launching::NoRoom { needed } => {
                let (free, needed) = (free >> 20, spare.saturating_add(needed) >> 20);
                let text = format!("{free} MiB are free on this host, and {needed} MiB are needed");
                self.fail(view, Reason::new("DISK_FULL", text)).await?;
                return Ok(Next::Now);
            }
        }
        match self.context.recorder.launch(phone, &place(&view.row), &spec).await {
            Ok(sighting) => {
                self.fresh = Some(sighting);
                Ok(Next::Now)
            }
            Err(RecorderError::Refused(why)) => {
                self.fail(view, Reason::new("RECORDER_FAILED", why)).await?;
                Ok(Next::Now)
            }
            Err(error) => Err(Hindrance::trouble("PHONE_UNREACHABLE", &error)),
        }
    }

    async fn wait(&mut self, view: &View, most: Duration) -> Result<Next, Hindrance> {
        let (Some(phone), Some(process)) = (view.reach, view.row.process) else {
            return Ok(Next::After(most));
        };
        let place = place(&view.row);
        let waited = self.context.recorder.wait(phone, &place, process, most);
        if let Some(sighting) = self.or_woken(waited).await? {
            self.context.tally.reached(self.recording, sighting.bytes);
            self.fresh = Some(sighting);
        }
        Ok(Next::Now)
    }

    async fn signal(&mut self, view: &View, signal: StopSignal) -> Result<(), Hindrance> {
        let (id, now) = (self.recording, self.context.now());
        let (Some(phone), Some(process)) = (view.reach, view.row.process) else { return Ok(()) };
        if !self.context.write(move |tx| transition::signalling(tx, id, signal, now)).await? {
            return Ok(());
        }
        if signal > StopSignal::Interrupt {
            tracing::warn!(recording = %id, pid = process.pid, signal = signal.name(), "the recorder does not end");
        }
        self.signalled = Some((signal, Instant::now()));
        let sent = self.context.recorder.signal(phone, process, signal).await;
        if sent.is_err() {
            self.signals = Signals::Doubtful;
        }
        sent.map_err(|error| Hindrance::trouble("PHONE_UNREACHABLE", &error))
    }

    async fn forbid(&mut self, view: &View) -> Result<Next, Hindrance> {
        let Some(phone) = view.reach else { return Ok(Next::After(LOOK_AGAIN)) };
        let refusal = match self.context.recorder.forbid(phone, &place(&view.row)).await {
            Ok(true) => None,
            // What is there now is seen by the next look, unless somebody there plays with it.
            Ok(false) => {
                self.refused_since = None;
                return Ok(Next::After(LOOK_AGAIN));
            }
            Err(RecorderError::Refused(why)) => {
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() < ANSWER_PATIENCE {
                    return Err(Hindrance::trouble("RECORDER_FAILED", &why));
                }
                // A launch that came now would be refused as well.
                Some(why)
            }
            Err(error) => return Err(Hindrance::trouble("PHONE_UNREACHABLE", &error)),
        };
        let reason = super::plan::obstacle(&view.row, view.phone, self.context.now());
        let mut reason = reason.unwrap_or_else(|| {
            Reason::new("NEVER_STARTED", "the phone could not be reached in time to begin")
        });
        if let Some(why) = refusal {
            reason = Reason::new(&reason.code, format!("{}; {why}", reason.detail));
        }
        self.fail(view, reason).await?;
        Ok(Next::Now)
    }
}

fn place(row: &RecordingRow) -> Place {
    Place { recording: row.id(), folder: row.folder.clone() }
}
