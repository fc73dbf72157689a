//! The one real service of the phone: adbd, a child of init. In a container it is Debian's;
//! where init was given the phone's listening socket, it is phonesim's own, which gets it.
//!
//! This file starts and ends it; when to do so is init's business.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::adb;
use crate::root::{ROOT_VARIABLE, Root};

/// Two starts are at least so far apart, so that an adbd that cannot run does not spin.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Where the shells of adbd find their commands; the last places are those of a phone that
/// is a process and sees programs of its host.
const COMMAND_PATH: &str = "/system/bin:/bin:/usr/bin:/sbin:/usr/sbin";

/// The child, if it runs.
#[derive(Debug)]
pub struct Adbd {
    root: Root,
    running: Option<Pid>,
    started: Option<Instant>,
}

impl Adbd {
    /// Not started yet.
    pub fn new(root: &Root) -> Self {
        Self { root: root.clone(), running: None, started: None }
    }

    /// Starts it unless it runs.
    pub fn start(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        self.started = Some(Instant::now());
        // `spawn` gives the child an empty signal mask, whatever init has blocked. The child
        // is reaped with all others by init, so its handle is not needed.
        let child = Command::new(self.root.adbd())
            .env("PATH", COMMAND_PATH)
            .env(ROOT_VARIABLE, self.root.directory())
            .stdin(if adb::has_listener() { Stdio::inherit() } else { Stdio::null() })
            .process_group(0)
            .spawn()?;
        self.running = Some(Pid::from_raw(child.id() as i32));
        Ok(())
    }

    /// Asks it to end, or makes it; init hears of its end as of any child's.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.running {
            // It may be dead and not yet reaped: then there is nothing to do.
            let _ = kill(pid, signal);
        }
    }

    /// Takes note that a child ended; says whether it was this one.
    pub fn ended(&mut self, pid: Pid) -> bool {
        let this = self.running == Some(pid);
        if this {
            self.running = None;
        }
        this
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// The earliest time for another start.
    pub fn next_start(&self) -> Instant {
        let now = Instant::now();
        self.started.map_or(now, |started| now.max(started + SHORTEST_LIFE))
    }
}
