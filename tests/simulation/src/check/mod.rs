//! The checkers: pure functions over what was observed. Each returns what it found wrong, in
//! words; a healthy run has none.
//!
//! | module | what it claims |
//! |---|---|
//! | [`sagas`] | every saga has ended, or needs attention with a reason; no two at once on a device |
//! | [`streams`] | every committed event and command was applied, in order, and none refused |
//! | [`agreement`] | containers, leases, data, recorders, rows and quota agree with each other |
//! | [`phones`] | no phone was started or stopped that nobody asked for; strangers' are untouched |
//! | [`history`] | what users were told fits a device that does one thing after the other |
//! | [`remains`] | of what was deleted nothing is left |
//!
//! Quota and cursors are looked at after every commit, by [`crate::watch`].

pub mod agreement;
pub mod excuse;
pub mod history;
pub mod phones;
pub mod remains;
pub mod sagas;
pub mod streams;

use crate::observe::Observation;

/// Everything that must hold once the world has healed and come to rest.
pub fn at_rest(seen: &Observation) -> Vec<String> {
    let mut found = sagas::check(seen);
    found.extend(streams::check(seen));
    found.extend(agreement::check(seen));
    found.extend(phones::check(seen));
    found.extend(history::check(seen));
    found
}

/// Everything that must hold once every device was deleted.
pub fn at_the_end(seen: &Observation) -> Vec<String> {
    let mut found = sagas::check(seen);
    found.extend(streams::check(seen));
    found.extend(agreement::check(seen));
    found.extend(phones::check(seen));
    found.extend(history::check(seen));
    found.extend(remains::check(seen));
    found
}
