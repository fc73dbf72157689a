//! One process of the world: started, killed, started again; its output in a file.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A process that ends with this value.
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    log: PathBuf,
    child: Option<Child>,
}

/// A program of this workspace: beside the test, in the target folder of the same build.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let folder = test.parent().and_then(Path::parent).expect("tests are in target/<profile>/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run \"make build\" first", path.display());
    path
}

impl Program {
    /// Starts it; what it prints is appended to `log`.
    pub fn start<S: Into<OsString>>(name: &str, command: impl IntoIterator<Item = S>, log: &Path) -> Self {
        Self::start_with(name, command, log, &[])
    }

    /// The same with further environment variables.
    pub fn start_with<S: Into<OsString>>(
        name: &str,
        command: impl IntoIterator<Item = S>,
        log: &Path,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut program = Self {
            name: name.to_owned(),
            command: command.into_iter().map(Into::into).collect(),
            variables: variables.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            log: log.to_owned(),
            child: None,
        };
        program.start_again();
        program
    }

    /// Starts it once more, after its end.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let errors = log.try_clone().expect("a log file twice");
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .envs(self.variables.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.child = Some(child);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or_else(|| panic!("{} does not run", self.name), Child::id)
    }

    /// Whether it runs: started, and not ended by itself or us.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// How it ended, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill, only to wait for.
            let _ = child.kill();
            child.wait().expect("an own child can be waited for");
        }
    }

    /// SIGTERM, and waits for its end.
    pub fn end(&mut self, patience: Duration) -> ExitStatus {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        signal(child.id(), Signal::SIGTERM);
        let ended = super::within(patience, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        ended.unwrap_or_else(|last| {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{} did not end within {patience:?} of SIGTERM: {last}", self.name)
        })
    }

    /// Freezes it, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        signal(self.pid(), if frozen { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// Everything that it printed.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines that it printed.
    pub fn last_lines(&self, count: usize) -> String {
        let text = self.output();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).expect("process numbers are small");
    assert!(pid > 1, "not a process of ours: {pid}");
    // It may have ended a moment ago.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Runs a command to its end; its output, if it succeeded.
pub fn run<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Result<String, String> {
    let words: Vec<OsString> = command.into_iter().map(Into::into).collect();
    let output = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{words:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{words:?}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
