//! What is printed: results on standard output, progress and notes on standard error.
//!
//! | module | what lives there |
//! |---|---|
//! | [`page`] | text for people: tables, fields, lines |
//! | [`yaml`] | JSON values as YAML |
//! | [`time`] | ages and moments |
//! | [`progress`] | lines of what happens while a command waits |
//! | [`width`] | how wide the terminal is, and lines that go on below |
//!
//! A result is a JSON value and a [`Page`] of the same; the user chooses which is printed.

pub mod page;
pub mod progress;
pub mod time;
pub mod width;
pub mod yaml;

use clap::ValueEnum;
use page::Page;
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and text for people.
    #[default]
    Table,
    /// The API's JSON; with --watch, one document a line.
    Json,
    /// The same as YAML; with --watch, documents with `---` between them.
    Yaml,
}

/// Something to print, in both shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// For programs.
    pub value: Value,
    /// For people.
    pub page: Page,
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    /// Which shape.
    pub format: Format,
    /// Whether text may have colours.
    pub color: bool,
}

impl Printer {
    /// Colours on a terminal, unless `no_color`, `NO_COLOR` or a dumb terminal forbid them.
    pub fn new(format: Format, no_color: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = !no_color && !set("NO_COLOR") && !dumb && std::io::stdout().is_terminal();
        Self { format, color }
    }

    /// Prints a result.
    ///
    /// # Errors
    /// A closed or full standard output.
    pub fn show(self, shown: &Shown) -> std::io::Result<()> {
        let text = self.text(shown);
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// A result as text that ends with a line.
    pub fn text(self, shown: &Shown) -> String {
        match self.format {
            Format::Table => shown.page.render_within(self.color, width::columns()),
            Format::Json => format!("{:#}\n", shown.value),
            Format::Yaml => yaml::document(&shown.value),
        }
    }

    /// A result as one of a stream of results.
    pub fn streamed(self, shown: &Shown) -> String {
        match self.format {
            Format::Table => shown.page.render_within(self.color, width::columns()),
            Format::Json => format!("{}\n", shown.value),
            Format::Yaml => format!("---\n{}", yaml::document(&shown.value)),
        }
    }
}

/// Prints text as it is.
///
/// # Errors
/// A closed or full standard output.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says something beside the result. Nobody may be listening, and then it is not missed.
pub fn note(text: &str) {
    let mut out = std::io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(out, "{}", page::printable(line));
    }
}

/// Says why there is no success, line by line.
pub fn error(text: &str) {
    let mut out = std::io::stderr().lock();
    for (index, line) in text.lines().enumerate() {
        let head = if index == 0 { "phonefleet: " } else { "" };
        let _ = writeln!(out, "{head}{}", page::printable(line));
    }
}
