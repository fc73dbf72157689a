//! What happens while a command waits, on standard error: lines that stay, and on a
//! terminal one line at the bottom that changes.

use super::page::printable;
use super::width::columns_of;
use std::io::{IsTerminal, Write};

/// Lines of progress.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    live: bool,
}

impl Progress {
    /// Progress for whoever reads standard error.
    pub fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { terminal: std::io::stderr().is_terminal() && !dumb, live: false }
    }

    /// Writes a line that stays.
    pub fn line(&mut self, text: &str) {
        self.clear();
        // Progress that nobody can see is not missed.
        let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
    }

    /// Changes the line at the bottom; nothing where there is no terminal.
    pub fn live(&mut self, text: &str) {
        if !self.terminal {
            return;
        }
        // A line that wraps could not be taken back: what does not fit is left out.
        let columns = columns_of(std::io::stderr()).unwrap_or(80);
        let short: String = printable(text).chars().take(columns - 1).collect();
        let mut out = std::io::stderr().lock();
        let _ = write!(out, "\r\x1b[K{short}").and_then(|()| out.flush());
        self.live = true;
    }

    /// Takes the line at the bottom away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.live) {
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
