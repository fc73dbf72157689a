//! The real [`Recorder`]: scripts in the phone's shell, over adb.
//!
//! An answer counts only with the shell's exit packet and the script's last line. A phone
//! that adb has lost is connected again first; what may be done twice is then tried once more.

use super::script::{self, Answer};
use super::{Leftover, Phone, Place, Recorder, RecorderError, Sighting};
use crate::adb::{Adb, AdbError};
use crate::runtime::redroid::serial;
use crate::store::recording::{PhoneProcess, StopSignal};
use async_trait::async_trait;
use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::recording::RecordingSpec;
use std::sync::Arc;
use std::time::Duration;

/// How long a script may take beside what it waits for.
const ANSWER: Duration = Duration::from_secs(6);
/// How long adb may take to find the phone again.
const CONNECT: Duration = Duration::from_secs(5);

/// Recorders on phones behind adb.
pub struct AdbRecorder {
    adb: Arc<dyn Adb>,
}

/// Whether a script may be run again when nobody knows whether it ran.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

impl AdbRecorder {
    /// Recorders on the phones that `adb` reaches.
    pub fn new(adb: Arc<dyn Adb>) -> Self {
        Self { adb }
    }

    async fn ask<T>(
        &self,
        phone: Phone,
        script: String,
        patience: Duration,
        again: Again,
        read: impl Fn(&[&str]) -> T + Send,
    ) -> Result<T, RecorderError> {
        let unreachable = |error: &AdbError| RecorderError::Unreachable(error.to_string());
        let mut tried = false;
        if again == Again::No {
            // What must not be tried twice had better arrive.
            self.adb.connect(phone.address, CONNECT).await.map_err(|error| unreachable(&error))?;
            tried = true;
        }
        let output = loop {
            match self.adb.shell(phone.address, &script, patience + ANSWER).await {
                Ok(output) => break output,
                Err(AdbError::Offline(_)) if !tried => {
                    tried = true;
                    self.adb.connect(phone.address, CONNECT).await.map_err(|error| unreachable(&error))?;
                }
                Err(error) => return Err(unreachable(&error)),
            }
        };
        match script::answer(&output.stdout) {
            Answer::Told(lines) => Ok(read(&lines)),
            Answer::Refused => {
                let words: String = output.stderr.trim().chars().take(300).collect();
                Err(RecorderError::Refused(format!("it cannot make {}: {words}", super::PHONE_FOLDER)))
            }
            Answer::Stranger => {
                Err(RecorderError::Unreachable("another phone answers at its port".to_owned()))
            }
            Answer::Cut => Err(RecorderError::Unreachable(format!(
                "its shell broke off: exit status {}, {:?}",
                output.status,
                output.stderr.trim().chars().take(300).collect::<String>()
            ))),
        }
    }
}

#[async_trait]
impl Recorder for AdbRecorder {
    async fn launch(
        &self,
        phone: Phone,
        place: &Place,
        spec: &RecordingSpec,
    ) -> Result<Sighting, RecorderError> {
        let script = script::launch(&serial(phone.device), &place.folder, spec);
        self.ask(phone, script, Duration::from_secs(3), Again::Yes, script::sighting).await
    }

    async fn look(
        &self,
        phone: Phone,
        place: &Place,
        known: Option<PhoneProcess>,
    ) -> Result<Sighting, RecorderError> {
        let script = script::look(&serial(phone.device), &place.folder, known);
        self.ask(phone, script, Duration::from_secs(1), Again::Yes, script::sighting).await
    }

    async fn wait(
        &self,
        phone: Phone,
        place: &Place,
        process: PhoneProcess,
        most: Duration,
    ) -> Result<Sighting, RecorderError> {
        let quarters = u32::try_from(most.as_millis() / 250).unwrap_or(u32::MAX);
        let script = script::wait(&serial(phone.device), &place.folder, process, quarters);
        self.ask(phone, script, most, Again::Yes, script::sighting).await
    }

    async fn signal(
        &self,
        phone: Phone,
        process: PhoneProcess,
        signal: StopSignal,
    ) -> Result<(), RecorderError> {
        let script = script::signal(&serial(phone.device), process, signal);
        self.ask(phone, script, Duration::ZERO, Again::No, |_| ()).await
    }

    async fn forbid(&self, phone: Phone, place: &Place) -> Result<bool, RecorderError> {
        // Done twice, the second time would take the first for a launch. So it is after a crash
        // in between too: it is found without a process, and ends as NO_VIDEO.
        let script = script::forbid(&serial(phone.device), &place.folder);
        self.ask(phone, script, Duration::ZERO, Again::No, |lines| lines.contains(&"forbidden")).await
    }

    async fn list(&self, phone: Phone) -> Result<Vec<Leftover>, RecorderError> {
        self.ask(phone, script::list(&serial(phone.device)), Duration::ZERO, Again::Yes, script::leftovers)
            .await
    }

    async fn end(&self, phone: Phone, process: PhoneProcess) -> Result<(), RecorderError> {
        // Once only: a second SIGINT would tear its file.
        let script = script::end(&serial(phone.device), process);
        self.ask(phone, script, Duration::from_secs(12), Again::No, |_| ()).await
    }

    async fn remove(&self, phone: Phone, recording: RecordingId) -> Result<(), RecorderError> {
        let script = script::remove(&serial(phone.device), recording);
        self.ask(phone, script, Duration::from_secs(4), Again::Yes, |_| ()).await
    }
}
