//! How wide the terminal is, and lines that go on below where they do not fit.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use terminal_size::terminal_size_of;

/// Columns of the terminal that standard output is; without one, lines are whoever's reads them.
pub fn columns() -> Option<usize> {
    let out = std::io::stdout();
    if out.is_terminal() { columns_of(out) } else { None }
}

/// Columns of a terminal, asked each time: windows change their size.
pub fn columns_of(terminal: impl AsFd) -> Option<usize> {
    terminal_size_of(terminal).map(|(width, _)| usize::from(width.0)).filter(|columns| *columns > 0)
}

/// Breaks a line between words; what follows begins in column `indent`. A word that is longer
/// than a line stays whole, to be copied.
pub fn wrapped(line: &str, columns: Option<usize>, indent: usize) -> Vec<String> {
    let Some(columns) = columns.filter(|columns| line.chars().count() > *columns && indent < *columns) else {
        return vec![line.to_owned()];
    };
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in line.split_inclusive(' ') {
        let length = current.chars().count() + word.trim_end().chars().count();
        if length > columns && !current.trim().is_empty() {
            lines.push(current.trim_end().to_owned());
            current = " ".repeat(indent);
        }
        current.push_str(word);
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// Where a line goes on: a little further in than it begins.
pub fn further_in(line: &str) -> usize {
    line.len() - line.trim_start().len() + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_go_on_below_further_in() {
        let line = "  phone-1  one two three";
        assert_eq!(wrapped(line, None, 11), [line]);
        assert_eq!(wrapped(line, Some(24), 11), [line]);
        assert_eq!(wrapped(line, Some(19), 11), ["  phone-1  one two", "           three"]);
        assert_eq!(wrapped("at /a/very/long/path now", Some(10), 2), ["at", "  /a/very/long/path", "  now"]);
        assert_eq!(wrapped("a b", Some(2), 2), ["a b"], "no room for anything further in");
        assert_eq!(wrapped("a b", Some(1), 0), ["a", "b"]);
        assert_eq!((further_in("a"), further_in("  a  b")), (2, 4));
    }
}
