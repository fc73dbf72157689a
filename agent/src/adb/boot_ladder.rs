//! Which rung of its boot a phone has reached. A boot that stalls names its rung.
//!
//! ```text
//!   container runs ─▶ adb says `device` ─▶ it is this phone ─▶ sys.boot_completed=1 ─▶ package manager answers
//! ```
//!
//! [`BootLadder::climb`] makes one try at the rung it stands on, and is called again until
//! the phone is up or its time is over. A phone that goes offline in between falls back to
//! the first rung; what is reported is the highest it could not pass.

use super::{Adb, AdbError};
use std::net::SocketAddr;
use std::time::Duration;

/// One try at a rung takes at most this long.
const TRY: Duration = Duration::from_secs(5);

/// A step of the boot that has to be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The container runs.
    Container,
    /// adb reaches it and calls it `device`.
    Adb,
    /// It shows the serial number that this device boots with.
    Identity,
    /// `sys.boot_completed` is 1.
    BootCompleted,
    /// `pm path android` answers.
    PackageManager,
}

impl Rung {
    /// The rung in words for the operator.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container running",
            Self::Adb => "adb device",
            Self::Identity => "identity",
            Self::BootCompleted => "sys.boot_completed",
            Self::PackageManager => "package manager",
        }
    }
}

/// Where one try led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Climb {
    /// Passed a rung: go on at once.
    Higher,
    /// Not yet: try again in a moment.
    Waiting,
    /// Passed the last rung.
    Up,
}

/// How far one phone's boot has come.
#[derive(Clone, Debug)]
pub struct BootLadder {
    address: SocketAddr,
    serial: String,
    rung: Rung,
    stalled: Rung,
    evidence: String,
    stranger: bool,
}

impl BootLadder {
    /// The boot of a phone at `address` that has to show `serial`. Its container runs.
    pub fn new(address: SocketAddr, serial: String) -> Self {
        Self {
            address,
            serial,
            rung: Rung::Adb,
            stalled: Rung::Container,
            evidence: "not seen yet".into(),
            stranger: false,
        }
    }

    /// The highest rung that it could not pass, and what was seen there.
    pub fn stalled(&self) -> (Rung, &str) {
        (self.stalled, &self.evidence)
    }

    /// No adbd that is this phone's answers at present.
    pub fn out_of_reach(&self) -> bool {
        self.rung <= Rung::Identity
    }

    /// Another phone answers at this one's address.
    pub fn meets_a_stranger(&self) -> bool {
        self.stranger
    }

    /// Notes that the container itself does not run, such as a paused one.
    pub fn container_is(&mut self, evidence: &str) {
        self.rung = Rung::Adb;
        self.stall(Rung::Container, evidence.to_owned());
    }

    /// One try at the current rung; takes 5 s at most.
    pub async fn climb(&mut self, adb: &dyn Adb) -> Climb {
        let passed = match self.rung {
            Rung::Container | Rung::Adb => adb.connect(self.address, TRY).await.map(|()| Ok(())),
            Rung::Identity => {
                let wanted = self.serial.clone();
                let mut stranger = false;
                let passed = self
                    .ask(adb, "getprop ro.boot.serialno", |answer| {
                        // Early in a boot the property may still be empty.
                        stranger = !answer.is_empty() && answer != wanted;
                        answer == wanted
                    })
                    .await;
                self.stranger = stranger;
                passed
            }
            Rung::BootCompleted => self.ask(adb, "getprop sys.boot_completed", |answer| answer == "1").await,
            Rung::PackageManager => {
                self.ask(adb, "pm path android", |answer| answer.starts_with("package:")).await
            }
        };
        match passed {
            Ok(Ok(())) => match self.above() {
                Some(rung) => {
                    self.rung = rung;
                    Climb::Higher
                }
                None => Climb::Up,
            },
            Ok(Err(evidence)) => {
                self.stall(self.rung, evidence);
                Climb::Waiting
            }
            Err(error) => {
                self.stall(self.rung, error.to_string());
                if matches!(error, AdbError::Offline(_) | AdbError::Unauthorized) {
                    self.rung = Rung::Adb;
                }
                Climb::Waiting
            }
        }
    }

    const fn above(&self) -> Option<Rung> {
        match self.rung {
            Rung::Container => Some(Rung::Adb),
            Rung::Adb => Some(Rung::Identity),
            Rung::Identity => Some(Rung::BootCompleted),
            Rung::BootCompleted => Some(Rung::PackageManager),
            Rung::PackageManager => None,
        }
    }

    fn stall(&mut self, rung: Rung, evidence: String) {
        // What comes after a fall would hide where it stood.
        if rung >= self.stalled {
            self.stalled = rung;
            self.evidence = evidence;
        }
    }

    async fn ask(
        &self,
        adb: &dyn Adb,
        command: &str,
        fine: impl FnOnce(&str) -> bool,
    ) -> Result<Result<(), String>, AdbError> {
        let output = adb.shell(self.address, command, TRY).await?;
        let answer = output.stdout.trim();
        if output.status == 0 && fine(answer) {
            return Ok(Ok(()));
        }
        let errors = output.stderr.trim();
        Ok(Err(format!("`{command}` exited {} and said {answer:?} {errors:?}", output.status)))
    }
}

/// What one look at a phone showed that once was up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// It answers, and it is this phone.
    Fine,
    /// It does not answer as it should.
    Unresponsive(String),
    /// The adb server does not answer: that says nothing about the phone.
    Unknown(String),
}

/// Looks whether a phone that runs still answers; connects again when need be. 15 s at most.
pub async fn pulse(adb: &dyn Adb, address: SocketAddr, serial: &str) -> Pulse {
    let mut reconnected = false;
    loop {
        let error = match adb.shell(address, "getprop ro.boot.serialno", TRY).await {
            Ok(output) if output.stdout.trim() == serial => return Pulse::Fine,
            Ok(output) => {
                return Pulse::Unresponsive(format!(
                    "its port answers as {:?}, which is another phone",
                    output.stdout.trim()
                ));
            }
            Err(AdbError::Server(why)) => return Pulse::Unknown(why),
            Err(error) => error,
        };
        if reconnected {
            return Pulse::Unresponsive(error.to_string());
        }
        reconnected = true;
        match adb.connect(address, TRY).await {
            Ok(()) => {}
            Err(AdbError::Server(why)) => return Pulse::Unknown(why),
            Err(error) => return Pulse::Unresponsive(error.to_string()),
        }
    }
}
