//! Every saga has ended, or stopped for an operator and says why; one at a time on a device.

use super::excuse;
use crate::observe::{Observation, SagaRow};
use std::collections::BTreeMap;

const ENDED: [&str; 5] = ["COMPLETED", "COMPENSATED", "FAILED", "TIMEOUT", "ABANDONED"];

/// See the module.
pub fn check(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_device: BTreeMap<&str, Vec<&SagaRow>> = BTreeMap::new();
    for saga in &seen.controller.sagas {
        by_device.entry(&saga.device).or_default().push(saga);
        let explained = saga.error.as_ref().is_some_and(|error| !error.is_empty());
        match saga.status.as_str() {
            "NEEDS_ATTENTION" if explained => {}
            status if ENDED.contains(&status) && saga.ended.is_some() => {}
            _ => found.push(format!("sagas: not ended, and nobody knows why: {saga:?}")),
        }
        if matches!(saga.status.as_str(), "COMPENSATED" | "FAILED" | "TIMEOUT") && !explained {
            found.push(format!("sagas: gives no reason for its end: {saga:?}"));
        }
    }
    if !excuse::clock_jumped(&seen.scenario) {
        for sagas in by_device.values() {
            found.extend(overlaps(sagas));
        }
    }
    found
}

/// Only a deletion may begin while another one is at work, and ends after it.
fn overlaps(sagas: &[&SagaRow]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, later) in sagas.iter().enumerate() {
        for earlier in &sagas[..index] {
            let Some(ended) = earlier.ended else { continue };
            let deletes = later.kind == "DEVICE_DELETION";
            if ended > later.started && !(deletes && later.ended.is_none_or(|end| end >= ended)) {
                found.push(format!("sagas: two at once: {earlier:?} and {later:?}"));
            }
        }
    }
    found
}
