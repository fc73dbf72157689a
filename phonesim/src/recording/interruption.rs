//! The signals that end a recording well: SIGINT and SIGHUP, once. Everything else, and a
//! second one of these, kills in mid-file.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

const HEEDED: [Signal; 2] = [Signal::SIGINT, Signal::SIGHUP];

/// Hears the two signals in place of dying of them.
#[derive(Debug)]
pub struct Interruption {
    heeded: SigSet,
    descriptor: SignalFd,
}

impl Interruption {
    /// From now on the two signals wait to be heard.
    pub fn heed() -> Result<Self, Errno> {
        let mut heeded = SigSet::empty();
        for each in HEEDED {
            heeded.add(each);
            accept_again(each)?;
        }
        heeded.thread_block()?;
        let descriptor = SignalFd::with_flags(&heeded, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { heeded, descriptor })
    }

    /// Sleeps until then, or until interrupted; says which. The signal is taken.
    pub fn wait_until(&self, until: Instant) -> Result<bool, Errno> {
        loop {
            if self.descriptor.read_signal()?.is_some() {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Rounded up, lest the last millisecond be spent polling.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let mut descriptors = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
            match poll(&mut descriptors, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// From now on they kill again.
    pub fn release(self) -> Result<(), Errno> {
        self.heeded.thread_unblock()
    }

    /// Never returns; the two signals stay unheard from now on.
    #[expect(clippy::unused_self, reason = "they are blocked as long as this exists")]
    pub fn hang(self) -> ! {
        loop {
            nix::unistd::pause();
        }
    }
}

/// A shell starts background jobs with SIGINT ignored, and an ignored signal is never heard.
/// The real one sets a handler, whatever it inherited.
#[allow(unsafe_code, reason = "there is no safe call that sets a disposition")]
fn accept_again(which: Signal) -> Result<(), Errno> {
    // SAFETY: the default action is no handler: no code of this process runs in a signal's
    // context. The process has one thread and nobody else who sets dispositions.
    unsafe { signal(which, SigHandler::SigDfl) }.map(drop)
}
