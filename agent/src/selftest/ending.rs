//! How phones end, with what exit code, and what outlives it.

use super::Options;
use super::report::Report;
use super::subject::Subject;
use crate::recording::PHONE_FOLDER;
use crate::runtime::Privilege;
use std::time::Duration;

/// A phone that was told to end has ended by then. Not longer: a reboot that hangs in a
/// privileged phone may reach for the host's sysrq (AOSP `RebootMonitorThread`).
const POWER: Duration = Duration::from_secs(25);
/// As long as SIGTERM is given.
const TERMINATION: Duration = Duration::from_secs(5);

/// How one kind of end is brought about, and the exit code that it must have.
struct End {
    id: &'static str,
    fact: &'static str,
    command: Option<&'static str>,
    code: i64,
}

const ENDS: [End; 3] = [
    End {
        id: "end.reboot",
        fact: "a reboot ends the container with 129 (Android 10 and 12 ignore it)",
        command: Some("reboot"),
        code: 129,
    },
    End { id: "end.kill", fact: "a killed container has exit code 137", command: None, code: 137 },
    End {
        id: "end.power-off",
        fact: "a power-off ends the container with 130 (Android 10 and 12 ignore it)",
        command: Some("svc power shutdown"),
        code: 130,
    },
];

pub(super) async fn check(subject: &Subject, options: &Options, report: &mut Report<'_>) {
    terminate(subject, options, report).await;
    for (number, end) in ENDS.iter().enumerate() {
        // The phone runs only if the one before went on.
        if number > 0 || subject.exit_code(Duration::ZERO).await.is_some() {
            let again = subject.boot(options.boot_timeout).await;
            let holds = again.is_ok();
            let seen = match again {
                Ok(took) => format!("up after {:.1} s", took.as_secs_f64()),
                Err(why) => why,
            };
            let fact = "a phone that ended can be started again, and is the same one for adb";
            report.must("end.again", fact, "up", seen, holds);
            if !holds {
                return;
            }
            kept(subject, report).await;
        }
        let seen = bring_about(subject, end).await;
        let holds = seen == end.code.to_string();
        match end.command {
            // Only this one the agent brings about by itself; the others it only has to notice.
            None => report.must(end.id, end.fact, &end.code.to_string(), seen, holds),
            Some(_) => report.should(end.id, end.fact, &end.code.to_string(), seen, holds),
        }
    }
}

async fn bring_about(subject: &Subject, end: &End) -> String {
    match end.command {
        Some(command) => {
            // It may end before it answers.
            let _ = subject.shell(command, Duration::from_secs(5)).await;
        }
        None => {
            if let Err(error) = subject.kill().await {
                return error.to_string();
            }
        }
    }
    match subject.exit_code(POWER).await {
        Some(code) => code.to_string(),
        None => match subject.kill().await {
            Ok(()) => format!("it went on for {} s and was killed", POWER.as_secs()),
            Err(error) => format!("it went on, and cannot be killed: {error}"),
        },
    }
}

async fn terminate(subject: &Subject, options: &Options, report: &mut Report<'_>) {
    let sent = subject.terminate().await;
    let ended = subject.exit_code(TERMINATION).await;
    let (expected, holds) = match options.privilege {
        Privilege::Reduced => ("it ends", ended.is_some()),
        Privilege::Privileged | Privilege::None => ("it goes on", ended.is_none()),
    };
    let seen = match (sent, ended) {
        (Err(error), _) => error.to_string(),
        (Ok(()), Some(code)) => format!("it ended with {code}"),
        (Ok(()), None) => format!("it goes on after {} s", TERMINATION.as_secs()),
    };
    let fact = "init heeds SIGTERM only without the right to reboot, so phones are ended otherwise";
    report.should("end.terminate", fact, expected, seen, holds);
}

async fn kept(subject: &Subject, report: &mut Report<'_>) {
    let seen = subject.say(&format!("cat {PHONE_FOLDER}/selftest")).await;
    let holds = seen == "kept";
    report.must("data.kept", "/data outlives the end of a phone", "kept", seen, holds);
}
