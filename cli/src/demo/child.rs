//! Processes that the demo started: each in a group of its own, ended by the kernel when the
//! demo is, known by number. And their descendants: orphans become children of the demo.

use crate::failure::Failure;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// Between two looks at processes that are to end.
const LOOK: Duration = Duration::from_millis(20);
/// From SIGKILL to the end: only the kernel can be slow.
const DEATH: Duration = Duration::from_secs(10);

/// From now on orphans of this process's children become its own children.
///
/// # Errors
/// Kernels that refuse it.
pub fn become_reaper() -> Result<(), Failure> {
    set_child_subreaper(true)
        .map_err(|error| Failure::Failed(format!("the demo cannot look after its processes: {error}")))
}

/// A process that runs beside the demo.
#[derive(Debug)]
pub struct Child {
    /// For people.
    pub name: &'static str,
    /// What it prints.
    pub log: PathBuf,
    process: tokio::process::Child,
    pid: Pid,
}

impl Child {
    /// Starts a program; what it prints is appended to `<folder>/<name>.log`. With the end of
    /// this thread the kernel ends it, too.
    ///
    /// # Errors
    /// Programs that cannot be started.
    pub fn start(
        name: &'static str,
        command: &[OsString],
        variables: &[(&str, OsString)],
        folder: &Path,
    ) -> Result<Self, Failure> {
        let log = folder.join(format!("{name}.log"));
        let cannot = |error: std::io::Error| Failure::Failed(format!("{name} cannot be started: {error}"));
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(cannot)?;
        let mut process = Command::new("setpriv");
        // What the user set for daemons of their own is not meant for these.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text == "NOTIFY_SOCKET" || (text.starts_with("PHONEFLEET_") && text.contains("__")) {
                process.env_remove(&name);
            }
        }
        let process = process
            .args(["--pdeathsig", "KILL", "--"])
            .args(command)
            .env("PATH", super::surroundings::search_path())
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(cannot)?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .map_err(cannot)?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::Failed(format!("{name} has no process number")))?;
        Ok(Self { name, log, process, pid })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Waits for its end by itself.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        let ended = self.process.wait().await;
        ended.map_err(|error| Failure::Failed(format!("{} cannot be waited for: {error}", self.name)))
    }

    /// `kill -9`, to it alone.
    pub async fn kill(&mut self) {
        let _ = self.process.start_kill();
        let _ = timeout(DEATH, self.process.wait()).await;
    }

    /// Ends it and its group: SIGTERM, and SIGKILL after `patience`. Whether it is gone.
    pub async fn end(&mut self, patience: Duration) -> bool {
        if self.ended().is_none() {
            let _ = kill(self.pid, Signal::SIGTERM);
            let _ = timeout(patience, self.process.wait()).await;
        }
        // What is left of the group: helpers of scripts that were interrupted.
        let _ = killpg(self.pid, Signal::SIGKILL);
        timeout(DEATH, self.process.wait()).await.is_ok()
    }

    /// The last lines that it printed.
    pub fn last_words(&self, lines: usize) -> String {
        last_lines(&self.log, lines)
    }
}

/// The last lines of a file; nothing where there is none.
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A process below this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Its number.
    pub pid: i32,
    /// Its arguments, shortened.
    pub what: String,
}

/// Every process that came of this one and lives, except those in `without` and theirs. Dead
/// ones that fell to this process are taken off the kernel's list on the way.
pub fn descendants(without: &BTreeSet<i32>) -> Vec<Descendant> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut children: BTreeMap<i32, Vec<(i32, char)>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some((parent, state)) = parent_and_state(pid) {
            children.entry(parent).or_default().push((pid, state));
        }
    }
    let mut found = Vec::new();
    let mut open = vec![own];
    while let Some(parent) = open.pop() {
        for (pid, state) in children.remove(&parent).unwrap_or_default() {
            if without.contains(&pid) {
                continue;
            }
            if matches!(state, 'Z' | 'X') {
                if parent == own {
                    let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
                }
            } else {
                found.push(Descendant { pid, what: arguments(pid) });
            }
            open.push(pid);
        }
    }
    found
}

/// The number here of a descendant that has this one in a namespace below.
pub fn number_here(below: i64) -> Option<i32> {
    let below = below.to_string();
    descendants(&BTreeSet::new()).into_iter().map(|one| one.pid).find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // Its numbers from the outside to the inside: this namespace's, the next one's, …
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.and_then(|numbers| numbers.split_whitespace().nth(1)) == Some(&below)
    })
}

/// Ends descendants of children that are gone: SIGTERM, and SIGKILL after `patience`.
/// Returns those that do not die.
pub async fn end_descendants(without: &BTreeSet<i32>, patience: Duration) -> Vec<Descendant> {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    loop {
        let left = descendants(without);
        if left.is_empty() || began.elapsed() > patience + DEATH {
            return left;
        }
        for one in &left {
            if began.elapsed() > patience {
                signal(one.pid, Signal::SIGKILL);
            } else if told.insert(one.pid) {
                signal(one.pid, Signal::SIGTERM);
            }
        }
        sleep(LOOK).await;
    }
}

fn signal(pid: i32, signal: Signal) {
    // It may have ended a moment ago; its number is not given again so soon.
    if pid > 1 && kill(Pid::from_raw(pid), signal) == Err(Errno::EPERM) {
        crate::output::note(&format!("process {pid} may not be ended by this user"));
    }
}

/// Fields 4 and 3 of `stat`; the name in the second may hold anything, the last bracket ends it.
fn parent_and_state(pid: i32) -> Option<(i32, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

fn arguments(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line)
        .replace('\0', " ")
        .chars()
        .take(120)
        .collect::<String>()
        .trim_end()
        .to_owned()
}
