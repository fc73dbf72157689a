//! What the commands print. Unlike `println!`, a reader that went away is no error here:
//! `getprop | head` must not panic.

use std::fmt::Arguments;
use std::io::Write;

/// One line to stdout.
pub fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One line to stderr; of PID 1 this is the container's log.
pub fn error(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
