//! What the demo says: its story on standard output, and on a terminal one line that changes.

use crate::output::page::printable;
use crate::output::print;
use crate::output::progress::Progress;
use crate::output::width::{columns, further_in, wrapped};

/// Cells of a bar.
const BAR: usize = 24;

/// Says things. Nobody may be listening, and the demo still has to take down what it began.
pub struct Voice {
    progress: Progress,
    color: bool,
}

impl Voice {
    /// A voice, with or without colours.
    pub fn new(color: bool) -> Self {
        Self { progress: Progress::new(), color }
    }

    /// Begins a new part of the story.
    pub fn heading(&mut self, text: &str) {
        self.progress.clear();
        let text = printable(text);
        let _ = print(&if self.color { format!("\n\x1b[1m{text}\x1b[0m\n") } else { format!("\n{text}\n") });
    }

    /// A line of the story. Where it does not fit the terminal it goes on below, further in.
    pub fn line(&mut self, text: &str) {
        self.progress.clear();
        for line in text.lines() {
            say(line, further_in(line));
        }
    }

    /// A line of the story that goes on below its column `indent`.
    pub fn hanging(&mut self, text: &str, indent: usize) {
        self.progress.clear();
        say(text, indent);
    }

    /// Text that is laid out already.
    pub fn block(&mut self, text: &str) {
        self.progress.clear();
        let _ = print(text);
    }

    /// The line that changes; nothing without a terminal.
    pub fn live(&mut self, text: &str) {
        self.progress.live(text);
    }

    /// A bar in the line that changes.
    pub fn bar(&mut self, done: usize, of: usize, text: &str) {
        self.live(&format!("{} {done}/{of} {text}", bar(done, of)));
    }

    /// Takes the line that changes away.
    pub fn quiet(&mut self) {
        self.progress.clear();
    }
}

fn say(line: &str, indent: usize) {
    for line in wrapped(&printable(line), columns(), indent) {
        let _ = print(&format!("{line}\n"));
    }
}

fn bar(done: usize, of: usize) -> String {
    let full = (BAR * done.min(of)).checked_div(of).unwrap_or(BAR);
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_are_as_full_as_what_they_show() {
        assert_eq!(bar(0, 2), "[........................]");
        assert_eq!(bar(1, 2), "[############............]");
        assert_eq!(bar(3, 2), "[########################]");
        assert_eq!(bar(0, 0), "[########################]");
    }
}
