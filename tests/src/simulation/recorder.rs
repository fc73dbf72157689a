//! The agent's recorder and video traits over a simulated machine.
//!
//! A recorder does what `screenrecord` does: it ends at its time limit, it finishes its file
//! at the first SIGINT or SIGHUP, which takes a moment, and is killed by the second; and it
//! dies with its phone. Faults are those of the stand-in: `record_refuse`, `record_fail`,
//! `record_hang`.

use super::CrashPoint;
use super::adb::SimulatedAdb;
use super::machine::{Machine, Phone as SimulatedPhone, State};
use async_trait::async_trait;
use phonefleet_agent::recording::mp4::{Flaw, Movie};
use phonefleet_agent::recording::{
    Collected, KeptVideo, Leftover, Phone, Place, Recorded, Recorder, RecorderError, Sighting, Source,
    VideoError, Videos,
};
use phonefleet_agent::store::recording::{PhoneProcess, StopSignal};
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::RecordingSpec;
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From the launch to the first frame.
const FIRST_FRAME: Duration = Duration::from_millis(100);
/// From the signal to a finished file.
const FINISHING: Duration = Duration::from_millis(150);

/// What happens in a recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Records,
    Refuses,
    Fails,
    Hangs,
}

/// A recording's folder on a phone.
#[derive(Clone, Debug)]
pub struct OnPhone {
    /// Of which device.
    pub device: DeviceId,
    /// How often a recorder was begun in it.
    pub launches: u32,
    /// Signals that reached its recorder.
    pub signals: Vec<StopSignal>,
    data_epoch: u32,
    container: String,
    boot: Option<Instant>,
    process: PhoneProcess,
    begun: Instant,
    limit: Duration,
    fate: Fate,
    /// When its recorder heard the first signal.
    finishing: Option<Instant>,
    /// It runs no more, since when; and how long its video is, if it is whole.
    ended: Option<(Instant, Option<Duration>)>,
}

impl OnPhone {
    /// Whether its recorder runs.
    pub fn runs(&self) -> bool {
        self.launches > 0 && self.ended.is_none()
    }

    /// Lets happen what must have happened by now.
    fn settle(&mut self, phones: &std::collections::BTreeMap<String, SimulatedPhone>, now: Instant) {
        if !self.runs() {
            return;
        }
        let natural = match (self.fate, self.finishing) {
            (Fate::Refuses, _) => Some((self.begun, None)),
            (Fate::Fails, _) => Some((self.begun + FIRST_FRAME * 3, None)),
            (Fate::Hangs, _) => None,
            (Fate::Records, Some(heard)) => Some((heard + FINISHING, Some(heard - self.begun))),
            (Fate::Records, None) => Some((self.begun + self.limit, Some(self.limit))),
        };
        let alive = phones
            .get(&self.container)
            .is_some_and(|phone| phone.started == self.boot && (phone.is_running() || phone.is_paused()));
        match natural {
            Some((at, whole)) if at <= now => self.ended = Some((at, whole)),
            _ if !alive => self.ended = Some((now, None)),
            _ => {}
        }
    }

    fn hear(&mut self, signal: StopSignal, now: Instant) {
        self.signals.push(signal);
        match (signal, self.fate, self.finishing) {
            (StopSignal::Kill, ..) | (_, Fate::Records | Fate::Fails, Some(_)) => {
                self.ended = Some((now, None));
            }
            (_, Fate::Records | Fate::Fails, None) => self.finishing = Some(now),
            (_, Fate::Hangs | Fate::Refuses, _) => {}
        }
    }

    fn bytes(&self, now: Instant) -> u64 {
        let end = self.ended.map_or(now, |(at, _)| at);
        let recorded = end.saturating_duration_since(self.begun);
        match self.fate {
            Fate::Refuses => 0,
            _ if self.launches == 0 || recorded < FIRST_FRAME => 0,
            _ => recorded.as_millis() as u64,
        }
    }
}

impl State {
    /// Lets happen to every recorder what must have happened by now.
    pub(super) fn settle_recorders(&mut self) {
        let now = Instant::now();
        for folder in self.recordings.values_mut().chain(self.deleted_recordings.values_mut()) {
            folder.settle(&self.containers, now);
        }
    }
}

impl Machine {
    /// Every recording's folder that is on a phone.
    pub fn recordings(&self) -> Vec<(RecordingId, OnPhone)> {
        let mut state = self.lock();
        state.settle_recorders();
        state.recordings.iter().map(|(id, folder)| (*id, folder.clone())).collect()
    }

    /// One of them.
    pub fn recording(&self, id: RecordingId) -> Option<OnPhone> {
        self.recordings().into_iter().find(|(known, _)| *known == id).map(|(_, folder)| folder)
    }

    /// Ids of the videos that the host keeps.
    pub fn videos(&self) -> Vec<RecordingId> {
        self.lock().videos.keys().copied().collect()
    }

    /// Somebody on the phone kills a recorder.
    pub fn kill_recorder(&self, id: RecordingId) {
        let mut state = self.lock();
        state.settle_recorders();
        if let Some(folder) = state.recordings.get_mut(&id)
            && folder.runs()
        {
            folder.hear(StopSignal::Kill, Instant::now());
        }
    }

    /// Somebody on the phone deletes a recording's folder: its recorder goes on.
    pub fn delete_recording_folder(&self, id: RecordingId) {
        let mut state = self.lock();
        if let Some(folder) = state.recordings.remove(&id) {
            state.deleted_recordings.insert(id, folder);
        }
    }

    /// Recorders that run, in whatever folder.
    pub fn recorders(&self) -> usize {
        let mut state = self.lock();
        state.settle_recorders();
        let folders = state.recordings.values().chain(state.deleted_recordings.values());
        folders.filter(|folder| folder.runs()).count()
    }

    /// Somebody deletes all folders of a phone, and sees to it that none can be made, or ends that.
    pub fn refuse_recording_folders(&self, device: DeviceId, refused: bool) {
        let mut state = self.lock();
        if refused {
            state.recordings.retain(|_, folder| folder.device != device);
            state.without_folders.insert(device);
        } else {
            state.without_folders.remove(&device);
        }
    }

    /// Signals to recorders do not arrive.
    pub fn lose_signals(&self, lost: bool) {
        self.lock().signals_get_lost = lost;
    }

    /// The disk on which videos are kept refuses everything.
    pub fn refuse_videos(&self, refused: bool) {
        self.lock().video_disk_refuses = refused;
    }

    /// The disk does not let these videos go.
    pub fn set_undeletable(&self, videos: impl IntoIterator<Item = RecordingId>) {
        self.lock().undeletable = videos.into_iter().collect();
    }

    /// Bytes that are free where videos are kept; `None` is plenty.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.lock().free_bytes = free;
    }
}

/// One agent's access to recorders on the machine's phones.
#[derive(Clone, Debug)]
pub struct SimulatedRecorder {
    machine: Machine,
    adb: SimulatedAdb,
    crash: CrashPoint,
}

impl SimulatedRecorder {
    /// Access for an agent that dies at `crash`.
    pub fn new(machine: Machine, crash: CrashPoint) -> Self {
        Self { adb: SimulatedAdb::new(machine.clone()), machine, crash }
    }

    async fn reach(&self, phone: Phone) -> Result<SimulatedPhone, RecorderError> {
        sleep(Duration::from_millis(5)).await;
        let reached = self.adb.reach(phone.address);
        let own = reached.filter(|found| found.container.device() == Some(phone.device));
        own.ok_or_else(|| RecorderError::Unreachable("device not found".to_owned()))
    }

    fn see(&self, phone: &SimulatedPhone, recording: RecordingId, known: Option<PhoneProcess>) -> Sighting {
        let mut state = self.machine.lock();
        state.settle_recorders();
        let runs_in = phone.started.map(|boot| state.boot_mark(boot));
        let deleted = state.deleted_recordings.get(&recording);
        if let Some(found) = deleted.filter(|found| found.runs() && known == Some(found.process)) {
            let (recorder, age) = (Recorded::Runs(found.process), Some(found.begun.elapsed()));
            return Sighting { recorder, launched_in: None, runs_in, bytes: 0, age };
        }
        let folder = state.recordings.get(&recording).cloned();
        let launched_in = folder.as_ref().and_then(|folder| folder.boot).map(|boot| state.boot_mark(boot));
        match folder {
            None => Sighting { recorder: Recorded::Never, launched_in: None, runs_in, bytes: 0, age: None },
            Some(folder) => Sighting {
                recorder: if folder.runs() { Recorded::Runs(folder.process) } else { Recorded::Ended },
                launched_in,
                runs_in,
                bytes: folder.bytes(Instant::now()),
                age: folder.runs().then(|| folder.begun.elapsed()),
            },
        }
    }
}

fn refused(state: &State, device: DeviceId) -> Result<(), RecorderError> {
    if state.without_folders.contains(&device) {
        return Err(RecorderError::Refused("no folder can be made".to_owned()));
    }
    Ok(())
}

#[async_trait]
impl Recorder for SimulatedRecorder {
    async fn launch(
        &self,
        phone: Phone,
        place: &Place,
        spec: &RecordingSpec,
    ) -> Result<Sighting, RecorderError> {
        let found = self.reach(phone).await?;
        {
            let mut state = self.machine.lock();
            refused(&state, phone.device)?;
            state.pids += 1;
            let pid = u32::try_from(100 + state.pids).unwrap_or(u32::MAX);
            let epoch =
                state.data.iter().filter(|(device, _)| *device == phone.device).map(|data| data.1).max();
            let fate = match () {
                () if found.fault("record_refuse").is_some() => Fate::Refuses,
                () if found.fault("record_fail").is_some() => Fate::Fails,
                () if found.fault("record_hang").is_some() => Fate::Hangs,
                () => Fate::Records,
            };
            state.recordings.entry(place.recording).or_insert(OnPhone {
                device: phone.device,
                launches: 1,
                signals: Vec::new(),
                data_epoch: epoch.unwrap_or(0),
                container: found.container.id.clone(),
                boot: found.started,
                process: PhoneProcess { pid, start_time: u64::from(pid) * 1000 },
                begun: Instant::now(),
                limit: Duration::from_secs(u64::from(spec.max_duration_seconds)),
                fate,
                finishing: None,
                ended: None,
            });
        }
        self.crash.after_effect().await;
        sleep(FIRST_FRAME).await;
        let found = self.reach(phone).await?;
        Ok(self.see(&found, place.recording, None))
    }

    async fn look(
        &self,
        phone: Phone,
        place: &Place,
        known: Option<PhoneProcess>,
    ) -> Result<Sighting, RecorderError> {
        let found = self.reach(phone).await?;
        Ok(self.see(&found, place.recording, known))
    }

    async fn wait(
        &self,
        phone: Phone,
        place: &Place,
        process: PhoneProcess,
        most: Duration,
    ) -> Result<Sighting, RecorderError> {
        let until = Instant::now() + most;
        loop {
            let found = self.reach(phone).await?;
            let sighting = self.see(&found, place.recording, Some(process));
            if !matches!(sighting.recorder, Recorded::Runs(_)) || Instant::now() >= until {
                return Ok(sighting);
            }
            sleep(Duration::from_millis(250).min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    async fn signal(
        &self,
        phone: Phone,
        process: PhoneProcess,
        signal: StopSignal,
    ) -> Result<(), RecorderError> {
        self.reach(phone).await?;
        {
            let mut state = self.machine.lock();
            if state.signals_get_lost {
                return Err(RecorderError::Unreachable("the connection broke".to_owned()));
            }
            state.settle_recorders();
            let State { recordings, deleted_recordings, .. } = &mut *state;
            let mut folders = recordings.values_mut().chain(deleted_recordings.values_mut());
            if let Some(folder) = folders.find(|folder| folder.process == process && folder.runs()) {
                folder.hear(signal, Instant::now());
            }
        }
        self.crash.after_effect().await;
        Ok(())
    }

    async fn forbid(&self, phone: Phone, place: &Place) -> Result<bool, RecorderError> {
        let found = self.reach(phone).await?;
        let mut state = self.machine.lock();
        if state.recordings.contains_key(&place.recording) {
            return Ok(false);
        }
        refused(&state, phone.device)?;
        let forbidden = OnPhone {
            device: phone.device,
            launches: 0,
            signals: Vec::new(),
            data_epoch: 0,
            container: found.container.id.clone(),
            boot: found.started,
            process: PhoneProcess { pid: 2, start_time: 0 },
            begun: Instant::now(),
            limit: Duration::ZERO,
            fate: Fate::Refuses,
            finishing: None,
            ended: None,
        };
        state.recordings.insert(place.recording, forbidden);
        Ok(true)
    }

    async fn list(&self, phone: Phone) -> Result<Vec<Leftover>, RecorderError> {
        self.reach(phone).await?;
        let own = self.machine.recordings().into_iter().filter(|(_, folder)| folder.device == phone.device);
        Ok(own
            .map(|(recording, folder)| Leftover {
                recording,
                process: folder.runs().then_some(folder.process),
            })
            .collect())
    }

    async fn end(&self, phone: Phone, process: PhoneProcess) -> Result<(), RecorderError> {
        self.signal(phone, process, StopSignal::Interrupt).await?;
        for _ in 0..40 {
            sleep(Duration::from_millis(250)).await;
            let found = self.machine.recordings();
            if !found.iter().any(|(_, folder)| folder.process == process && folder.runs()) {
                return Ok(());
            }
        }
        self.signal(phone, process, StopSignal::Kill).await
    }

    async fn remove(&self, phone: Phone, recording: RecordingId) -> Result<(), RecorderError> {
        self.reach(phone).await?;
        self.machine.lock().recordings.remove(&recording);
        Ok(())
    }
}

/// One agent's access to the videos of the machine.
#[derive(Clone, Debug)]
pub struct SimulatedVideos {
    machine: Machine,
    crash: CrashPoint,
}

impl SimulatedVideos {
    /// Access for an agent that dies at `crash`.
    pub fn new(machine: Machine, crash: CrashPoint) -> Self {
        Self { machine, crash }
    }
}

#[async_trait]
impl Videos for SimulatedVideos {
    async fn collect(&self, source: &Source, _: u64) -> Result<Collected, VideoError> {
        sleep(Duration::from_millis(20)).await;
        let collected = {
            let mut state = self.machine.lock();
            if state.video_disk_refuses {
                return Err(VideoError::Disk("read-only file system".to_owned()));
            }
            state.settle_recorders();
            let there = state.data.contains(&(source.device, source.data_epoch));
            let folder = state
                .recordings
                .get(&source.recording)
                .filter(|folder| there && folder.data_epoch == source.data_epoch)
                .cloned();
            if let Some(folder) = &folder
                && folder.bytes(Instant::now()) > 0
            {
                let whole = folder.ended.and_then(|(_, whole)| whole);
                let video = KeptVideo {
                    bytes: folder.bytes(Instant::now()),
                    sha256: format!("{:064x}", source.recording.0.as_u128()),
                    movie: whole
                        .map(|length| Movie { duration_ms: length.as_millis() as u64 })
                        .ok_or(Flaw::Truncated),
                    written_at: None,
                };
                state.videos.insert(source.recording, video);
            }
            let words = match folder.map(|folder| folder.fate) {
                Some(Fate::Refuses) => "ERROR: unable to create video/avc codec instance",
                Some(Fate::Fails) => "Unable to get output buffers (err=-38)",
                _ => "",
            };
            Collected { video: state.videos.get(&source.recording).cloned(), words: words.to_owned() }
        };
        self.crash.after_effect().await;
        Ok(collected)
    }

    async fn clear(&self, source: &Source) {
        // That does not end a recorder.
        self.machine.delete_recording_folder(source.recording);
        self.crash.after_effect().await;
    }

    async fn delete(&self, _: DeviceId, recording: RecordingId) -> Result<(), VideoError> {
        if self.machine.lock().undeletable.contains(&recording) {
            return Err(VideoError::Disk("the disk does not let it go".to_owned()));
        }
        self.machine.lock().videos.remove(&recording);
        self.crash.after_effect().await;
        Ok(())
    }

    async fn kept_before(&self, _: Timestamp) -> Vec<(DeviceId, RecordingId)> {
        Vec::new()
    }

    async fn free_bytes(&self) -> Result<u64, VideoError> {
        Ok(self.machine.lock().free_bytes.unwrap_or(1 << 40))
    }
}
