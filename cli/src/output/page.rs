//! Text for people: aligned tables, fields, and lines, with colours that carry no meaning
//! of their own.
//!
//! What comes from outside (names, labels, errors of an engine) may hold anything, also
//! sequences that command a terminal: everything is made printable on its way in.

use super::width::{further_in, wrapped};

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    #[default]
    Plain,
    /// Well.
    Good,
    /// On its way.
    Busy,
    /// Not well.
    Bad,
    /// Beside the point.
    Faint,
    /// A heading.
    Strong,
}

impl Style {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Busy => Some("33"),
            Self::Bad => Some("31"),
            Self::Faint => Some("2"),
            Self::Strong => Some("1"),
        }
    }
}

/// A piece of text in a table or field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text with a look.
    pub fn new(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: printable(text.as_ref()), style }
    }

    /// A value, or a dash where there is none.
    pub fn or_dash<T: ToString>(value: Option<T>) -> Self {
        match value {
            Some(value) => value.to_string().into(),
            None => Self::new("-", Style::Faint),
        }
    }

    /// A status of a device, saga, host or recording, with the colour of its kind.
    pub fn status(status: &str) -> Self {
        let style = match status {
            "RUNNING" | "COMPLETED" | "ONLINE" | "FINAL" | "RECORDING" => Style::Good,
            "CREATING" | "STARTING" | "STOPPING" | "DELETING" | "COMPENSATING" => Style::Busy,
            "ERROR" | "LOST" | "PARKED" | "FAILED" | "TIMEOUT" | "NEEDS_ATTENTION" | "COMPENSATED"
            | "UNREACHABLE" | "CONFLICT" | "CORRUPT" => Style::Bad,
            "DELETED" | "ABANDONED" => Style::Faint,
            _ => Style::Plain,
        };
        Self::new(status, style)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn render(&self, out: &mut String, color: bool) {
        match self.style.code().filter(|_| color && !self.text.is_empty()) {
            Some(code) => {
                out.push_str("\x1b[");
                out.push_str(code);
                out.push('m');
                out.push_str(&self.text);
                out.push_str("\x1b[0m");
            }
            None => out.push_str(&self.text),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Style::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Style::Plain)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Table { head: Vec<&'static str>, rows: Vec<Vec<Cell>> },
    Fields(Vec<(String, Cell)>),
    Line(Cell),
}

/// Some text for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page(Vec<Part>);

impl Page {
    /// A page of one table; `empty` is said where it has no rows.
    pub fn table(head: &[&'static str], rows: Vec<Vec<Cell>>, empty: &str) -> Self {
        let mut page = Self::default();
        page.add_table(head, rows, empty);
        page
    }

    /// A page of one line.
    pub fn line(text: impl AsRef<str>) -> Self {
        let mut page = Self::default();
        page.add_line(text);
        page
    }

    /// Adds a table.
    pub fn add_table(&mut self, head: &[&'static str], rows: Vec<Vec<Cell>>, empty: &str) {
        if rows.is_empty() {
            self.add(Cell::new(empty, Style::Faint));
        } else {
            self.0.push(Part::Table { head: head.to_vec(), rows });
        }
    }

    /// Adds fields, one a line.
    pub fn add_fields(&mut self, fields: Vec<(impl Into<String>, Cell)>) {
        self.0.push(Part::Fields(fields.into_iter().map(|(name, cell)| (name.into(), cell)).collect()));
    }

    /// Adds a line.
    pub fn add_line(&mut self, text: impl AsRef<str>) {
        self.add(Cell::new(text, Style::Plain));
    }

    /// Adds a heading, with an empty line before it unless it is the first.
    pub fn add_heading(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.add(Cell::default());
        }
        self.add(Cell::new(text, Style::Strong));
    }

    /// Adds a line with a look.
    pub fn add(&mut self, cell: Cell) {
        self.0.push(Part::Line(cell));
    }

    /// Adds everything of another page.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The text, with a line end at its end.
    pub fn render(&self, color: bool) -> String {
        self.render_within(color, None)
    }

    /// The same on a terminal: sentences go on below where they do not fit. Tables and fields
    /// are left to it, as they are read by column.
    pub fn render_within(&self, color: bool, columns: Option<usize>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Table { head, rows } => render_table(&mut out, head, rows, color),
                Part::Fields(fields) => {
                    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
                    for (name, cell) in fields {
                        out.push_str(name);
                        out.push(':');
                        pad(&mut out, width - name.chars().count() + 1);
                        cell.render(&mut out, color);
                        out.push('\n');
                    }
                }
                Part::Line(cell) => {
                    for line in wrapped(&cell.text, columns, further_in(&cell.text)) {
                        Cell { text: line, style: cell.style }.render(&mut out, color);
                        out.push('\n');
                    }
                }
            }
        }
        out
    }
}

fn render_table(out: &mut String, head: &[&'static str], rows: &[Vec<Cell>], color: bool) {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(Cell::width);
            cells.max().unwrap_or(0).max(head[column].len())
        })
        .collect();
    let head: Vec<_> = head.iter().map(|name| Cell::new(*name, Style::Strong)).collect();
    for row in std::iter::once(&head).chain(rows) {
        for (column, cell) in row.iter().enumerate() {
            cell.render(out, color);
            // Nothing follows the last column: no blanks at the end of lines.
            if column + 1 < row.len() {
                pad(out, widths.get(column).copied().unwrap_or(0).saturating_sub(cell.width()) + 2);
            }
        }
        out.push('\n');
    }
}

fn pad(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

/// A number of processors, which are ordered in fractions: sums of these have digits far behind
/// the point that nobody ordered.
pub fn cores(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// A text without anything that a terminal would obey: control characters are escaped, line
/// ends become blanks, and the characters that turn the direction of a text are escaped too.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => out.push(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(character.escape_unicode());
            }
            _ if character.is_control() => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_with_and_without_colours() {
        let rows = vec![
            vec!["pixel".into(), Cell::status("RUNNING"), Cell::or_dash(Some(20000))],
            vec!["a-longer-name".into(), Cell::status("ERROR"), Cell::or_dash(None::<u16>)],
        ];
        let page = Page::table(&["NAME", "STATUS", "ADB"], rows, "no devices");
        assert_eq!(
            page.render(false),
            "NAME           STATUS   ADB\n\
             pixel          RUNNING  20000\n\
             a-longer-name  ERROR    -\n"
        );
        let colored = page.render(true);
        assert!(colored.contains("\x1b[32mRUNNING\x1b[0m  20000"), "{colored}");
        assert!(colored.contains("\x1b[31mERROR\x1b[0m    \x1b[2m-\x1b[0m\n"), "{colored}");
        assert_eq!(Page::table(&["NAME"], vec![], "no devices").render(false), "no devices\n");
    }

    #[test]
    fn sentences_go_on_below() {
        let mut page = Page::line("  one two three");
        page.add(Cell::new("well then", Style::Good));
        assert_eq!(page.render_within(false, Some(9)), "  one two\n    three\nwell then\n");
        assert_eq!(
            page.render_within(true, Some(5)),
            "  one\n    two\n    three\n\x1b[32mwell\x1b[0m\n\x1b[32m  then\x1b[0m\n"
        );
    }

    #[test]
    fn fields_and_headings() {
        let mut page = Page::line("first");
        page.add_heading("Heading");
        page.add_fields(vec![("id", "1".into()), ("user id", "alice".into())]);
        assert_eq!(page.render(false), "first\n\nHeading\nid:      1\nuser id: alice\n");
    }

    #[test]
    fn a_terminal_is_not_commanded_from_outside() {
        let cell = Cell::from("a\x1b[2J\nb\u{9b}31m\u{202e}c");
        let mut out = String::new();
        cell.render(&mut out, false);
        assert_eq!(out, "a\\u{1b}[2J b\\u{9b}31m\\u{202e}c");
    }
}
