//! Processes of this agent, known by number *and* start time.
//!
//! A process number alone passes to another process some day; together with the time of
//! its start, which the kernel keeps, it never does. Nothing is ever found by its name.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

/// One process, for as long as the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did (`/proc/PID/stat`, field 22).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now; `None` when there is none, or only a dead
    /// one that its parent has not looked at yet.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (alive, start_time) = parse_stat(&stat)?;
        alive.then_some(Self { pid, start_time })
    }

    /// Whether it is this very process that lives.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Its arguments, the program's name first; `None` when it is gone.
    pub fn arguments(self) -> Option<Vec<String>> {
        let bytes = std::fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        self.is_alive().then(|| {
            let text = String::from_utf8_lossy(&bytes);
            text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
        })
    }

    /// Whether it is of this program's user and in its process namespace: what runs in a
    /// container is seen here as well, and may say of itself what it likes.
    pub fn is_at_home(self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        self.is_alive() && at_home(&status, nix::unistd::geteuid().as_raw())
    }

    /// Sends a signal, if it still is this process. Whether it was, and took it.
    pub fn signal(self, signal: Signal) -> bool {
        let Ok(pid) = i32::try_from(self.pid) else { return false };
        // Numbers up to 1 would be "everybody in my group" and the first process.
        pid > 1 && self.is_alive() && kill(Pid::from_raw(pid), signal).is_ok()
    }

    /// Ends it: SIGTERM, and SIGKILL if it lives on after `patience`. Returns whether it
    /// is gone; only a process stuck in the kernel is not.
    pub async fn end(self, patience: Duration) -> bool {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if !self.signal(signal) {
                // Gone, or somebody else's.
                return !self.is_alive();
            }
            // A stopped process takes SIGTERM only when it goes on.
            if signal == Signal::SIGTERM {
                self.signal(Signal::SIGCONT);
            }
            let end = tokio::time::Instant::now() + patience;
            while tokio::time::Instant::now() < end {
                if !self.is_alive() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        !self.is_alive()
    }
}

/// `status` as in proc(5): `Uid:` real, effective, saved and file system user; `NSpid:` a number
/// for each namespace from this one on down.
fn at_home(status: &str, user: u32) -> bool {
    let fields = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().map(|number| number.parse().ok()).collect::<Vec<Option<u32>>>()
    };
    fields("NSpid:").len() == 1 && fields("Uid:").get(1) == Some(&Some(user))
}

/// Every process that can be seen.
pub fn all() -> Vec<ProcessId> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(ProcessId::of)
        .collect()
}

/// Whether the process lives, and its start time. The name in the second field may hold
/// anything, spaces and brackets too; the last bracket ends it.
fn parse_stat(stat: &str) -> Option<(bool, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // The state is field 3, the start time field 22.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((!matches!(state, "Z" | "X" | "x"), start_time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(parse_stat(stat), Some((true, 4711)));
        assert_eq!(parse_stat(&stat.replace(" S ", " Z ")), Some((false, 4711)));
        for bad in ["", "42", "42 (x)", "42 (x) S 1"] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn what_runs_in_a_container_or_for_another_user_is_not_at_home() {
        let status = |user: u32, inside: &str| {
            format!(
                "Name:\tadb\nUid:\t0\t{user}\t0\t0\nGid:\t0\t0\t0\t0\nNSpid:\t4711{inside}\nNSpgid:\t4711\n"
            )
        };
        assert!(at_home(&status(0, ""), 0) && at_home(&status(2000, ""), 2000));
        assert!(!at_home(&status(0, "\t12"), 0) && !at_home(&status(2000, ""), 0) && !at_home("", 0));
        assert!(ProcessId::of(std::process::id()).unwrap().is_at_home());
    }

    #[tokio::test]
    async fn only_the_very_process_is_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessId::of(child.id()).unwrap();
        // For a moment in the middle of its start a process has no arguments.
        while process.arguments().unwrap() == [""] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(process.arguments().unwrap(), ["sleep", "60"]);
        assert!(all().contains(&process));
        let other = ProcessId { start_time: process.start_time + 1, ..process };
        assert!(other.end(Duration::from_secs(1)).await);
        assert!(process.is_alive());
        assert!(process.end(Duration::from_secs(5)).await);
        assert!(!process.is_alive());
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_stopped_process_is_ended_too() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessId::of(child.id()).unwrap();
        assert!(process.signal(Signal::SIGSTOP));
        assert!(process.end(Duration::from_secs(5)).await);
        child.wait().unwrap();
    }
}
