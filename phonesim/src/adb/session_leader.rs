//! `session terminal|- PROGRAM [ARGUMENT…]`: becomes PROGRAM in a session of its own, as every
//! shell of adbd is. With `terminal`, standard input becomes the terminal of that session: a
//! leader without one gets the first that it opens. Only adbd calls this.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::unistd::setsid;

use crate::console;
use crate::root::Root;

/// The name of this applet.
pub const NAME: &str = "session";

/// Standard input is to be the session's terminal.
pub const TERMINAL: &str = "terminal";

/// The session has no terminal.
pub const NO_TERMINAL: &str = "-";

/// Runs the applet; returns only if it fails.
pub fn run(_root: &Root, arguments: &[String]) -> ExitCode {
    let [terminal, program, rest @ ..] = arguments else {
        console::error(format_args!("usage: {NAME} {TERMINAL}|{NO_TERMINAL} PROGRAM [ARGUMENT…]"));
        return ExitCode::FAILURE;
    };
    let error = match become_leader(terminal, program, rest) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    console::error(format_args!("{program}: {error}"));
    ExitCode::from(127)
}

fn become_leader(
    terminal: &str,
    program: &str,
    arguments: &[impl AsRef<OsStr>],
) -> io::Result<std::convert::Infallible> {
    setsid()?;
    if terminal == TERMINAL {
        // Opened only for what opening it brings about.
        File::options().read(true).write(true).open("/proc/self/fd/0")?;
    }
    Err(Command::new(program).args(arguments).exec())
}
