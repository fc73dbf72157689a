//! `enter`: the first process of a phone's namespace. It builds the phone's root, leaves the
//! host's behind, and becomes `/init` with the arguments that a container would give it.
//!
//! A word on standard output says why it could not; the end of that stream, without a word,
//! that it has.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, sethostname};
use std::os::fd::AsFd;

use super::{Arguments, tree};
use crate::console;
use crate::root::Root;

/// The name of this applet.
pub const NAME: &str = "enter";

/// What the image of the container gives `/init` before the arguments of an order.
const FIRST_ARGUMENTS: [&str; 2] = ["qemu=1", "androidboot.hardware=redroid"];

/// Why the phone cannot be entered.
#[derive(Debug, thiserror::Error)]
enum EnterError {
    #[error("{0}; usage: {NAME} {usage}", usage = Arguments::USAGE)]
    Usage(String),
    #[error("not the first process of a namespace; start `supervise`")]
    NotFirst,
    #[error("the supervisor is gone")]
    Alone,
    #[error("cannot set up {what}: {source}")]
    Kernel { what: &'static str, source: Errno },
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
    #[error("cannot become /init: {0}")]
    Init(io::Error),
}

/// Becomes the phone; returns only if it cannot.
pub fn run(_root: &Root, arguments: &[String]) -> ExitCode {
    let error = match become_phone(arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    console::line(format_args!("{error}"));
    ExitCode::FAILURE
}

fn become_phone(arguments: &[String]) -> Result<Infallible, EnterError> {
    let arguments = Arguments::parse(arguments).map_err(EnterError::Usage)?;
    if getpid().as_raw() != 1 {
        return Err(EnterError::NotFirst);
    }
    let kernel = |what| move |source| EnterError::Kernel { what, source };
    set_pdeathsig(Signal::SIGKILL).map_err(kernel("its end with its supervisor's"))?;
    if supervisor_is_gone() {
        return Err(EnterError::Alone);
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)
        .map_err(kernel("namespaces"))?;
    sethostname(&arguments.name).map_err(kernel("the host name"))?;
    tree::build_and_enter(&arguments.folder.join("root"), &arguments.data)?;
    let console = io::stderr().as_fd().try_clone_to_owned().map_err(EnterError::Init)?;
    let error = Command::new("/init")
        .args(FIRST_ARGUMENTS)
        .args(&arguments.boot)
        .env("PATH", "/system/bin:/bin")
        .stdout(Stdio::from(console))
        .exec();
    Err(EnterError::Init(error))
}

/// Whether it died before it was asked to be told; nobody reads standard output then.
fn supervisor_is_gone() -> bool {
    let stdout = io::stdout();
    let mut descriptors = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let _ = poll(&mut descriptors, PollTimeout::ZERO);
    let gone = |events: PollFlags| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
    descriptors[0].revents().is_some_and(gone)
}
