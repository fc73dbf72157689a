//! What the kernel tells of a phone's processes, and how they go on after a stop.

use crate::host::process::{self, ProcessId};
use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Whether this very process stands still (SIGSTOP, or a debugger).
pub(super) fn is_stopped(process: ProcessId) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    // The name in the second field may hold anything; the last bracket ends it.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't')) && process.is_alive()
}

/// Has everything go on that runs in the namespace of which `init` is the first process.
pub(super) fn resume_namespace(init: ProcessId) {
    let namespace = |process: ProcessId| fs::read_link(format!("/proc/{}/ns/pid", process.pid)).ok();
    let Some(own) = namespace(init) else { return };
    for process in process::all() {
        if namespace(process).as_ref() == Some(&own) {
            process.signal(Signal::SIGCONT);
        }
    }
}

/// Waits until this very process has ended, child or not.
pub(super) async fn ended(process: ProcessId) -> io::Result<()> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no process has this number"))?;
    let descriptor = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(descriptor) => descriptor,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // It is this process only if it still is after the descriptor was made.
    if !process.is_alive() {
        return Ok(());
    }
    #[expect(
        deprecated,
        reason = "its successor is unsafe code, for the sake of types that may lose their descriptor; \
                  this one owns it"
    )]
    let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
    descriptor.readable().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn an_end_and_a_stop_are_seen() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessId::of(child.id()).unwrap();
        assert!(!is_stopped(process));
        process.signal(Signal::SIGSTOP);
        while !is_stopped(process) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = tokio::spawn(ended(process));
        assert!(timeout(Duration::from_millis(100), ended(process)).await.is_err());
        process.signal(Signal::SIGKILL);
        timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
        child.wait().unwrap();
        timeout(Duration::from_secs(5), ended(process)).await.unwrap().unwrap();
    }
}
