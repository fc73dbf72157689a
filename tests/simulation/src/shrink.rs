//! A smaller scenario that fails the same way: entries are left out while it still does.

use crate::run::run;
use crate::scenario::Scenario;
use crate::trace::Detail;
use std::path::Path;

/// Runs at most: a shrunken scenario is a help, and not worth hours.
const RUNS: usize = 300;

/// What kind of finding it is: the checker's name.
fn kind(finding: &str) -> &str {
    finding.split(':').next().unwrap_or(finding)
}

/// The smallest part of `scenario` that was found to fail like `found`.
pub fn shrink(scenario: &Scenario, found: &[String], templates: &Path) -> Scenario {
    let wanted = found.first().map_or("", |finding| kind(finding)).to_owned();
    let mut smallest = scenario.clone();
    let mut runs = 0;
    let mut chunk = smallest.entries.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        let mut shrunk = false;
        while from < smallest.entries.len() && runs < RUNS {
            let mut smaller = smallest.clone();
            let end = (from + chunk).min(smaller.entries.len());
            smaller.entries.drain(from..end);
            runs += 1;
            if run(&smaller, templates, Detail::Hash).found.iter().any(|finding| kind(finding) == wanted) {
                smallest = smaller;
                shrunk = true;
            } else {
                from = end;
            }
        }
        if runs >= RUNS || (chunk == 1 && !shrunk) {
            return smallest;
        }
        chunk = (chunk / 2).max(1);
    }
}
