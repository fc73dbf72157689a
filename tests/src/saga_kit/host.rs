//! A host as a table: takes commands, answers with events, keeps what it must keep.
//!
//! It does the least that the protocol promises of an agent: it answers each (generation,
//! attempt) once and repeats the answer when asked again, refuses older ones with what it
//! knows, keeps tombstones, and ends recordings before it stops a phone.

use super::fault::{Fault, ORDERED};
use phonefleet_protocol::command::Command;
use phonefleet_protocol::desired::{DesiredDevice, Wish};
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::facts::{DeviceFacts, Phase, Ports, Reason};
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::{
    DesiredRecording, EndCause, RecordingFacts, RecordingPhase, RecordingWish,
};
use phonefleet_protocol::time::Timestamp;
use std::collections::BTreeMap;

/// One device on the host.
#[derive(Clone, Debug)]
pub struct Phone {
    /// Where it stands, as the controller hears of it.
    pub facts: DeviceFacts,
    /// Data of this epoch is there.
    pub data: Option<u32>,
    boots: u32,
    answer: Option<Outcome>,
}

/// The host.
#[derive(Debug, Default)]
pub struct ModelHost {
    /// Every device that it ever heard of.
    pub phones: BTreeMap<DeviceId, Phone>,
    /// Every recording that it ever heard of.
    pub recordings: BTreeMap<RecordingId, RecordingFacts>,
    /// What it has to tell, the oldest first.
    pub outbox: Vec<Event>,
    refused: u32,
}

impl ModelHost {
    /// Does what a command says, or fails as ordered.
    pub fn take(&mut self, command: &Command, fault: Option<Fault>, now: Timestamp) {
        match command {
            Command::Desire(desired) => self.desire(desired, fault, now),
            Command::Record(desired) => self.record(desired, now),
            Command::SnapshotBegin {}
            | Command::SnapshotDevices { .. }
            | Command::SnapshotRecordings { .. }
            | Command::SnapshotEnd {} => {}
        }
    }

    /// What is there of a device: container, ports or data.
    pub fn left_of(&self, device: DeviceId) -> Vec<String> {
        let Some(phone) = self.phones.get(&device) else { return Vec::new() };
        let mut left = Vec::new();
        left.extend(phone.facts.container_id.iter().map(|id| format!("container {id}")));
        left.extend(phone.facts.ports.iter().map(|ports| format!("ports {ports:?}")));
        left.extend(phone.data.iter().map(|epoch| format!("data {epoch}")));
        left.extend(self.running(device).iter().map(|id| format!("recording {id}")));
        left
    }

    fn desire(&mut self, desired: &DesiredDevice, fault: Option<Fault>, now: Timestamp) {
        let id = desired.device_id;
        let fresh = DeviceFacts {
            device_id: id,
            generation: 0,
            attempt: 0,
            question: None,
            phase: Phase::Absent,
            ports: None,
            container_id: None,
            reason: None,
            starts: 0,
            boot_count: 0,
            data_epoch: 0,
        };
        let mut phone = self.phones.get(&id).cloned().unwrap_or(Phone {
            facts: fresh,
            data: None,
            boots: 0,
            answer: None,
        });
        let asked = (desired.generation, desired.attempt);
        let known = (phone.facts.generation, phone.facts.attempt);
        if fault == Some(Fault::HostAhead) && asked > known && self.refused == 0 {
            self.refused += 1;
            phone.facts.generation = desired.generation + 3;
            phone.answer = Some(Outcome::Reached);
        }
        let known = (phone.facts.generation, phone.facts.attempt);
        let outcome = if asked.0 < known.0 || asked < known {
            Outcome::Outdated
        } else if let (true, Some(answer)) = (asked == known, &phone.answer) {
            answer.clone()
        } else {
            (phone.facts.generation, phone.facts.attempt) = asked;
            phone.facts.question = desired.question;
            phone.facts.boot_count = desired.boot_count;
            phone.facts.data_epoch = desired.data_epoch;
            let outcome = self.act(&mut phone, desired, fault, now);
            phone.answer = Some(outcome.clone());
            outcome
        };
        self.outbox.push(Event::Answer {
            generation: asked.0,
            attempt: asked.1,
            outcome,
            facts: phone.facts.clone(),
            at: now,
        });
        self.phones.insert(id, phone);
    }

    fn act(
        &mut self,
        phone: &mut Phone,
        desired: &DesiredDevice,
        fault: Option<Fault>,
        now: Timestamp,
    ) -> Outcome {
        let retryable = match fault {
            Some(Fault::HostRefuses) => Some(false),
            Some(Fault::HostRetries(times)) if self.refused < times => Some(true),
            _ => None,
        };
        if let Some(retryable) = retryable {
            self.refused += 1;
            let reason = Reason::new(ORDERED, "ordered by the kit");
            // Half of it is done: what the agent keeps in ERROR.
            if desired.wish == Wish::Running && phone.facts.container_id.is_some() {
                phone.facts.phase = Phase::Error;
                phone.facts.reason = Some(reason.clone());
            }
            return Outcome::Failed { reason, retryable };
        }
        let id = desired.device_id;
        let reboots = desired.boot_count > phone.boots;
        let stops = phone.facts.phase == Phase::Running
            && (desired.wish != Wish::Running || reboots || phone.data != Some(desired.data_epoch));
        if stops {
            self.end_recordings(id, EndCause::DeviceStopped, now);
            phone.facts.phase = Phase::Stopped;
        }
        phone.facts.reason = None;
        if desired.wish == Wish::Absent {
            phone.facts.ports = None;
        } else if phone.facts.ports.is_none() {
            let port = 20_000 + u16::try_from(self.phones.len()).unwrap_or(0);
            phone.facts.ports = Some(Ports { adb: port, webrtc: port + 1000 });
        }
        if desired.wish <= Wish::Reserved {
            phone.facts.container_id = None;
            phone.data = None;
        } else {
            phone.facts.container_id.get_or_insert_with(|| format!("container-of-{id}"));
            phone.data = Some(desired.data_epoch);
        }
        let runs = phone.facts.phase == Phase::Running;
        phone.facts.phase = match desired.wish {
            Wish::Absent => Phase::Absent,
            Wish::Reserved => Phase::Reserved,
            Wish::Stopped => Phase::Stopped,
            Wish::Running => Phase::Running,
        };
        if desired.wish == Wish::Running && !runs {
            phone.facts.starts += 1;
            phone.boots = desired.boot_count;
            let starting = DeviceFacts { phase: Phase::Starting, ..phone.facts.clone() };
            self.outbox.push(Event::Changed { facts: starting, at: now });
        }
        Outcome::Reached
    }

    fn running(&self, device: DeviceId) -> Vec<RecordingId> {
        let mine = |facts: &&RecordingFacts| facts.device_id == device && !facts.phase.is_terminal();
        self.recordings.values().filter(mine).map(|facts| facts.recording_id).collect()
    }

    fn record(&mut self, desired: &DesiredRecording, now: Timestamp) {
        let id = desired.recording_id;
        if desired.wish == RecordingWish::Stopped && self.recordings.contains_key(&id) {
            self.end_recording(id, EndCause::Stopped, now);
            return;
        }
        let runs =
            self.phones.get(&desired.device_id).is_some_and(|phone| phone.facts.phase == Phase::Running);
        let begins = runs && desired.wish == RecordingWish::Recording && now <= desired.not_after;
        let facts = self.recordings.entry(id).or_insert_with(|| RecordingFacts {
            recording_id: id,
            device_id: desired.device_id,
            phase: if begins { RecordingPhase::Recording } else { RecordingPhase::Failed },
            started_at: begins.then_some(now),
            ended_at: None,
            end_cause: None,
            duration_ms: None,
            bytes: None,
            sha256: None,
            reason: (!begins).then(|| Reason::new("NOT_BEGUN", "too late, or no phone")),
        });
        self.outbox.push(Event::RecordingChanged { facts: facts.clone(), at: now });
    }

    fn end_recordings(&mut self, device: DeviceId, cause: EndCause, now: Timestamp) {
        for id in self.running(device) {
            self.end_recording(id, cause, now);
        }
    }

    fn end_recording(&mut self, id: RecordingId, cause: EndCause, now: Timestamp) {
        let Some(facts) = self.recordings.get_mut(&id) else { return };
        if !facts.phase.is_terminal() {
            facts.phase = RecordingPhase::Final;
            facts.ended_at = Some(now);
            facts.end_cause = Some(cause);
            facts.duration_ms = Some(1000);
            facts.bytes = Some(4096);
            facts.sha256 = Some("ab".repeat(32));
        }
        self.outbox.push(Event::RecordingChanged { facts: facts.clone(), at: now });
    }
}
