//! Checks, verdicts, and how they are told.

use super::Options;
use serde::Serialize;
use std::fmt;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// As expected.
    Holds,
    /// Otherwise, and the agent builds on it: phones will not work as promised.
    Differs,
    /// Otherwise, or known to do harm; the agent goes on, the operator should read it.
    Warning,
    /// It means nothing for this image or these privileges.
    NotApplicable,
}

impl Verdict {
    /// A word for a line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Differs => "DIFFERS",
            Self::Warning => "warning",
            Self::NotApplicable => "n/a",
        }
    }
}

/// One fact, held against what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// A stable name: `area.what`.
    pub id: &'static str,
    /// What is taken for granted.
    pub fact: &'static str,
    /// What was to be seen.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// What it comes to.
    pub verdict: Verdict,
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, fact, expected, seen, verdict } = self;
        writeln!(formatter, "{:<8} {id}: {fact}", verdict.name())?;
        match verdict {
            Verdict::Holds => writeln!(formatter, "         seen: {seen}"),
            Verdict::Differs | Verdict::Warning => {
                writeln!(formatter, "         expected: {expected}\n         seen: {seen}")
            }
            Verdict::NotApplicable => writeln!(formatter, "         {seen}"),
        }
    }
}

/// All checks of one test.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    /// The image under test.
    pub image: String,
    /// What the phone was allowed.
    pub privilege: crate::runtime::Privilege,
    /// The kernel's release.
    pub kernel: String,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
    #[serde(skip)]
    told: Box<dyn FnMut(&Check) + Send + 'a>,
}

impl<'a> Report<'a> {
    /// An empty one; `told` hears of every check at once.
    pub fn new(options: &Options, told: impl FnMut(&Check) + Send + 'a) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            image: options.image.clone(),
            privilege: options.privilege,
            kernel: kernel.trim().to_owned(),
            checks: Vec::new(),
            told: Box::new(told),
        }
    }

    /// How many checks came to this.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// One line at the end.
    pub fn summary(&self) -> String {
        format!(
            "{} on kernel {}: {} facts hold, {} differ, {} warnings, {} not applicable",
            self.image,
            self.kernel,
            self.count(Verdict::Holds),
            self.count(Verdict::Differs),
            self.count(Verdict::Warning),
            self.count(Verdict::NotApplicable)
        )
    }

    fn add(
        &mut self,
        id: &'static str,
        fact: &'static str,
        expected: &str,
        seen: impl Into<String>,
        verdict: Verdict,
    ) {
        let check = Check { id, fact, expected: expected.to_owned(), seen: seen.into(), verdict };
        (self.told)(&check);
        self.checks.push(check);
    }

    /// The agent builds on it.
    pub fn must(
        &mut self,
        id: &'static str,
        fact: &'static str,
        expected: &str,
        seen: impl Into<String>,
        holds: bool,
    ) {
        self.add(id, fact, expected, seen, if holds { Verdict::Holds } else { Verdict::Differs });
    }

    /// Worth knowing; nothing of the agent's breaks.
    pub fn should(
        &mut self,
        id: &'static str,
        fact: &'static str,
        expected: &str,
        seen: impl Into<String>,
        holds: bool,
    ) {
        self.add(id, fact, expected, seen, if holds { Verdict::Holds } else { Verdict::Warning });
    }

    /// It means nothing here.
    pub fn not_applicable(&mut self, id: &'static str, fact: &'static str, why: &str) {
        self.add(id, fact, "", why, Verdict::NotApplicable);
    }
}
