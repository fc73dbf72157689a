//! A phone below a temporary directory, for tests that run the real program without a
//! container. In place of adbd a script notes its pid and sleeps.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod mp4;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing that works takes so long; only a failing test waits to the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the condition holds; fails the test, naming it, if it never does.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a child; fails the test if it lives on.
pub fn wait_for_end(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("the end of a process", || {
        status = child.try_wait().expect("a child can be waited for");
        status.is_some()
    });
    status.expect("just seen")
}

/// Sends a signal to a child.
pub fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("the child is alive");
}

/// The state of one phone, and its init while it runs.
pub struct Phone {
    directory: tempfile::TempDir,
    init: Option<Child>,
}

impl Phone {
    /// A phone that never booted.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let programs = directory.path().join("system/bin");
        fs::create_dir_all(&programs).expect("the directory of programs");
        let adbd = programs.join("adbd");
        fs::write(&adbd, "#!/bin/sh\necho $$ >> \"$PHONESIM_ROOT/adbd.pids\"\nexec sleep 60\n")
            .expect("the stand-in for adbd");
        fs::set_permissions(&adbd, Permissions::from_mode(0o755)).expect("its mode");
        Self { directory, init: None }
    }

    /// A phone without init, of which only the screen is on, with these further properties.
    pub fn with_screen(properties: &[(&str, &str)]) -> Self {
        let phone = Self::new();
        fs::create_dir_all(phone.path("dev/phonesim/props")).expect("the store");
        let screen = [("init.svc.surfaceflinger", "running")];
        for (name, value) in screen.iter().chain(properties) {
            assert!(phone.run(&["setprop", name, value]).status.success());
        }
        phone
    }

    /// A path below the phone's root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// A command of the phone, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phonesim"));
        command.arg("--root").arg(self.directory.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("phonesim runs")
    }

    /// The value of a property, empty if unset.
    pub fn property(&self, name: &str) -> String {
        text(&self.run(&["getprop", name]).stdout)
    }

    /// Starts init with these boot arguments.
    pub fn boot(&mut self, arguments: &[&str]) -> &mut Child {
        let log = fs::File::create(self.path("log")).expect("the log");
        // Left over from an earlier boot, this would look like the new one's.
        let _ = fs::remove_dir_all(self.path("dev"));
        let init = self.command(&[&["init"], arguments].concat()).stderr(log).spawn().expect("init starts");
        self.init.insert(init)
    }

    /// Waits until the phone has booted.
    pub fn wait_for_boot(&self) {
        wait_until("sys.boot_completed", || self.property("sys.boot_completed") == "1");
    }

    /// The running init.
    pub fn init(&mut self) -> &mut Child {
        self.init.as_mut().expect("the phone was booted")
    }

    /// What init logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The pids of all adbds so far, the last one last.
    pub fn adbds(&self) -> Vec<Pid> {
        fs::read_to_string(self.path("adbd.pids"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.parse().ok())
            .map(Pid::from_raw)
            .collect()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        if let Some(init) = &mut self.init {
            let _ = init.kill();
            let _ = init.wait();
        }
        // In a container the stand-in would die with its PID 1.
        for adbd in self.adbds() {
            if is_sleeping(adbd) {
                let _ = kill(adbd, Signal::SIGKILL);
            }
        }
    }
}

/// Whether this is (still) our stand-in and not a stranger with its old pid.
pub fn is_sleeping(pid: Pid) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x0060\0")
}

/// Output without its line end.
pub fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim_end().to_owned()
}

/// What ffprobe reads of a file after decoding all of it: (codec, frames, seconds). `None`
/// when it is not installed; the test fails if it complains.
pub fn ffprobe(file: &Path) -> Option<(String, u32, f64)> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_entries"])
        .arg("stream=codec_name,nb_read_frames:format=duration")
        .args(["-of", "default=noprint_wrappers=1:nokey=1"])
        .arg(file)
        .output()
        .ok()?;
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let answer = text(&output.stdout);
    let mut lines = answer.lines();
    let codec = lines.next().expect("a codec").to_owned();
    let frames = lines.next().and_then(|line| line.parse().ok());
    // A plain stream has no duration ("N/A").
    let seconds = lines.next().and_then(|line| line.parse().ok());
    Some((codec, frames.expect("frames"), seconds.unwrap_or(0.0)))
}
