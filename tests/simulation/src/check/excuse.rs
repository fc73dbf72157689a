//! What a scenario's faults excuse. A restored backup has lost what came after it; an engine
//! that fails may cost a phone its life. Everything else excuses nothing.

use crate::observe::Observation;
use crate::scenario::{Fault, Scenario, Side, Touches, What, host_name};
use std::collections::BTreeSet;

/// The faults of a scenario.
fn faults(scenario: &Scenario) -> impl Iterator<Item = Fault> + '_ {
    scenario.entries.iter().filter_map(|entry| match entry.what {
        What::Fault(fault) => Some(fault),
        What::Order(_) => None,
    })
}

/// The controller's database was put back: it has lost orders that it had acknowledged.
pub fn controller_restored(scenario: &Scenario) -> bool {
    faults(scenario).any(|fault| matches!(fault, Fault::Restored(Side::Controller, _)))
}

/// Some clock was set: deadlines may pass early, or late.
pub fn clock_jumped(scenario: &Scenario) -> bool {
    faults(scenario).any(|fault| matches!(fault, Fault::ClockJumps(..)))
}

/// Hosts of which some row may be of another moment than the logs: a database was put back.
pub fn rows_restored(scenario: &Scenario) -> BTreeSet<String> {
    let restored = |fault| match fault {
        Fault::Restored(Side::Agent(host), _) => host..host + 1,
        Fault::Restored(Side::Controller, _) => 0..scenario.hosts,
        _ => 0..0,
    };
    faults(scenario).flat_map(restored).map(host_name).collect()
}

/// Hosts whose phones may have been touched by a fault, by id.
pub fn touched_hosts(scenario: &Scenario) -> BTreeSet<String> {
    let mut touched = BTreeSet::new();
    for fault in faults(scenario) {
        match fault.touches_phones() {
            Touches::Nothing => {}
            Touches::Host(host) => _ = touched.insert(host_name(host)),
            Touches::Everything => touched.extend((0..scenario.hosts).map(host_name)),
        }
    }
    touched
}

/// Devices that only their host knows, and that it leaves alone.
pub fn strays(seen: &Observation) -> BTreeSet<&str> {
    seen.controller.strays.iter().map(|(_, device)| device.as_str()).collect()
}
