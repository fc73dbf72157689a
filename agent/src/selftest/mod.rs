//! The self-test: what the agent takes for granted about Redroid and its host, checked on a
//! phone that is made for it and removed afterwards.
//!
//! Much about Android in a container could only be read out of its sources. Each such fact is
//! a [`Check`] here: what it says, what is expected, what is seen. The phone is built, booted,
//! recorded and ended by the very code that phones of orders are.
//!
//! ```text
//!   machine ─▶ subject: folder, adb server, container ─▶ boot ─▶ recorder ─▶ ending ─▶ all removed
//!      └────────────────────── a Check each ──────────────▶ Report ─▶ lines or JSON
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`command`] | its command line |
//! | [`report`] | checks, verdicts, and how they are told |
//! | `machine` | what the host's kernel brings |
//! | `subject` | the phone under test |
//! | `sweep` | removes everything that a test makes, also one that was killed |
//! | `boot` | arguments, properties, shell, data |
//! | `recorder` | `screenrecord`: signals, limits, what files become |
//! | `ending` | exit codes, and what outlives an end |
//!
//! A running agent is not disturbed: folder, adb server, port and label are the test's own.

mod boot;
pub mod command;
mod ending;
mod machine;
mod recorder;
pub mod report;
mod subject;
mod sweep;

use crate::runtime::redroid::Profile;
use crate::runtime::{EngineError, Privilege};
use phonefleet_protocol::id::HostId;
use report::{Check, Report};
use std::path::PathBuf;
use std::time::Duration;
use subject::Subject;

/// How the host begins that a test's containers belong to; no agent's host id may.
pub const HOST_PREFIX: &str = "selftest-";

/// What is tested, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// This host; the test's containers carry a label made from it.
    pub host: HostId,
    /// Below it the test makes a folder of its own.
    pub state_dir: PathBuf,
    /// The engine's socket.
    pub engine_socket: PathBuf,
    /// The image under test.
    pub image: String,
    /// How much power the phone gets.
    pub privilege: Privilege,
    /// A boot takes so long at most.
    pub boot_timeout: Duration,
    /// Further arguments of `/init`.
    pub boot_args: Vec<String>,
    /// Also what takes minutes.
    pub long: bool,
}

impl Options {
    fn is_stand_in(&self) -> bool {
        Profile::of_image(&self.image) == Profile::Phonesim
    }
}

/// Why the test could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The same test runs already.
    #[error("another self-test runs on {0}: wait for its end")]
    Running(PathBuf),
    /// The folder of the test.
    #[error("{what} {path}: {error}", path = .path.display())]
    Folder {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// Something of an earlier test.
    #[error("what an earlier self-test left cannot be removed: {0}")]
    Left(String),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An argument that no order may have either.
    #[error("{0}")]
    Invalid(String),
    /// No adb server.
    #[error("the adb server does not start: {0}")]
    Adb(String),
}

/// Tests everything, and tells each check as soon as it is known. What the test made is
/// removed when this returns; dropped half-way, the next test removes it.
///
/// # Errors
/// Nothing could be tested.
pub async fn run<'a>(
    options: &Options,
    told: impl FnMut(&Check) + Send + 'a,
) -> Result<Report<'a>, SelfTestError> {
    let mut report = Report::new(options, told);
    let machine = machine::Machine::here();
    machine.check(options.is_stand_in(), &mut report);
    let settings = machine.settings();

    let subject = Subject::make(options).await?;
    on_phone(&subject, options, &mut report).await;
    machine.compare(&settings, options.is_stand_in(), &mut report);
    subject.remove(&mut report).await;
    Ok(report)
}

async fn on_phone(subject: &Subject, options: &Options, report: &mut Report<'_>) {
    if !boot::check(subject, options, report).await {
        return;
    }
    recorder::check(subject, options, report).await;
    ending::check(subject, options, report).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::Verdict;

    /// Options for an image that is never looked at.
    pub fn options(image: &str) -> Options {
        Options {
            host: "h1".parse().unwrap(),
            state_dir: "/nonexistent".into(),
            engine_socket: "/nonexistent/docker.sock".into(),
            image: image.to_owned(),
            privilege: Privilege::Privileged,
            boot_timeout: Duration::from_secs(1),
            boot_args: Vec::new(),
            long: false,
        }
    }

    #[test]
    fn a_report_counts_and_tells_each_check_once() {
        let options = options("redroid/redroid:14.0.0-latest");
        let mut lines = Vec::new();
        let mut report = Report::new(&options, |check| lines.push(check.to_string()));
        report.must("a.one", "one is one", "1", "1", true);
        report.must("a.two", "two is two", "2", "3", false);
        report.should("a.three", "three is three", "3", "4", false);
        report.not_applicable("a.four", "four is four", "no numbers here");
        assert_eq!((report.count(Verdict::Holds), report.count(Verdict::Differs)), (1, 1));
        assert!(report.summary().contains("1 facts hold, 1 differ, 1 warnings, 1 not applicable"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["verdict"], "differs");
        drop(report);
        assert_eq!(lines[1], "DIFFERS  a.two: two is two\n         expected: 2\n         seen: 3\n");
        assert_eq!(lines.len(), 4);
    }
}
