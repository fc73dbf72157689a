//! What users were told fits a device that does one thing after the other.
//!
//! A device is a small machine: created, then RUNNING or gone; each verb moves it on, or is
//! refused; a deletion is for ever. Calls overlap, so an answer binds only what was asked
//! after it came.

use super::excuse;
use crate::history::{Asked, Call, Outcome};
use crate::observe::Observation;
use phonefleet_controller::order::Verb;
use std::collections::BTreeMap;

/// See the module.
pub fn check(seen: &Observation) -> Vec<String> {
    let mut found = same_key_same_answer(&seen.history);
    if !excuse::controller_restored(&seen.scenario) {
        found.extend(nothing_forgotten(seen));
        found.extend(deletions_last(&seen.history));
        found.extend(cordoned(seen));
        found.extend(ends_where_it_was_sent(seen));
    }
    found.into_iter().map(|words| format!("history: {words}")).collect()
}

/// Once a call was accepted, its key is answered the same for ever.
fn same_key_same_answer(history: &[Call]) -> Vec<String> {
    let mut accepted: BTreeMap<&str, &Call> = BTreeMap::new();
    let mut found = Vec::new();
    // By the time of the answer, which is the order of the history.
    for call in history {
        let deletes = matches!(call.asked, Asked::Verb { verb: Verb::Delete, .. });
        let Some(key) = call.key.as_deref().filter(|_| !deletes) else { continue };
        if let Some(first) = accepted.get(key)
            && let (Outcome::Answered { text: one, .. }, Outcome::Answered { text: other, status, .. }) =
                (&first.outcome, &call.outcome)
            && *status < 500
            && one != other
            && (call.accepted() || call.invoked > first.answered)
        {
            found.push(format!("{key} was answered {one} and {other}"));
        }
        if call.accepted() {
            accepted.entry(key).or_insert(call);
        }
    }
    found
}

/// What was acknowledged exists: the device, and the saga.
fn nothing_forgotten(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let has_saga = |id: &str| seen.controller.sagas.iter().any(|saga| saga.id == id);
    for call in seen.history.iter().filter(|call| call.accepted()) {
        for (device, saga) in call.created() {
            if !seen.controller.devices.contains_key(&device) || !has_saga(&saga) {
                found.push(format!(
                    "the order of {device} was acknowledged at {:?} and is forgotten",
                    call.at
                ));
            }
            let missed = seen.history.iter().find(|later| {
                later.asked == Asked::Look { device: device.clone() }
                    && later.invoked >= call.answered
                    && later.status() == Some(404)
            });
            if let Some(missed) = missed {
                found.push(format!("{device} was ordered at {:?} and unknown at {:?}", call.at, missed.at));
            }
        }
        if let (Asked::Verb { device, .. }, Some(saga)) = (&call.asked, call.data()["sagaId"].as_str())
            && !has_saga(saga)
        {
            found.push(format!("{saga} of {device} was acknowledged at {:?} and is forgotten", call.at));
        }
    }
    found
}

/// After an accepted deletion a device is on its way out, and once gone it stays gone.
fn deletions_last(history: &[Call]) -> Vec<String> {
    let mut found = Vec::new();
    for deletion in history {
        let Asked::Verb { device, verb: Verb::Delete } = &deletion.asked else { continue };
        if !deletion.accepted() {
            continue;
        }
        let mut gone = false;
        let looks = history.iter().filter(|look| {
            look.asked == Asked::Look { device: device.clone() }
                && look.invoked >= deletion.answered
                && look.accepted()
        });
        for look in looks {
            let status = look.data()["status"].as_str().unwrap_or_default();
            if !(status == "DELETED" || status == "DELETING" && !gone) {
                found
                    .push(format!("{device} was deleted at {:?} and {status} at {:?}", deletion.at, look.at));
            }
            gone |= status == "DELETED";
        }
        let verbs = history.iter().filter(|call| {
            matches!(&call.asked, Asked::Verb { device: other, verb } if other == device && *verb != Verb::Delete)
        });
        for verb in verbs
            .filter(|verb| verb.invoked >= deletion.answered && verb.accepted() && !is_repeat(verb, history))
        {
            found.push(format!("{device} was deleted at {:?} and took {:?}", deletion.at, verb.asked));
        }
    }
    found
}

/// The same key was answered before: that answer is given again, whatever is true by now.
fn is_repeat(call: &Call, history: &[Call]) -> bool {
    call.key.is_some() && history.iter().any(|other| other.key == call.key && other.invoked < call.invoked)
}

/// A host that was cordoned, for sure, gets no new device.
fn cordoned(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let cordons = |host: usize| {
        seen.history
            .iter()
            .filter(move |call| matches!(call.asked, Asked::Cordon { host: other, .. } if other == host))
    };
    for order in &seen.history {
        if is_repeat(order, &seen.history) {
            continue;
        }
        for (device, _) in order.created() {
            let Some(row) = seen.controller.devices.get(&device) else { continue };
            let Some(host) = seen.hosts.iter().position(|host| host.id == row.host) else { continue };
            let on = |call: &&Call| matches!(call.asked, Asked::Cordon { on: true, .. });
            let closed =
                cordons(host).filter(on).filter(|call| call.accepted() && call.answered <= order.invoked);
            let Some(closed) = closed.map(|call| call.answered).max() else { continue };
            // Any other word about it that may have come later.
            let opened = cordons(host)
                .any(|call| !on(&call) && call.answered >= closed && call.invoked <= order.answered);
            let reopened = cordons(host).any(|call| {
                !on(&call) && call.invoked <= order.answered && call.may_stand() && call.answered > closed
            });
            if !opened && !reopened {
                found.push(format!(
                    "{device} was placed on {} at {:?}, which was cordoned",
                    row.host, order.at
                ));
            }
        }
    }
    found
}

/// At rest a device is what its last saga made it.
fn ends_where_it_was_sent(seen: &Observation) -> Vec<String> {
    let touched = excuse::touched_hosts(&seen.scenario);
    let mut found = Vec::new();
    for (id, device) in &seen.controller.devices {
        let last = seen.controller.sagas.iter().rfind(|saga| saga.device == *id);
        let Some(last) = last.filter(|_| !touched.contains(&device.host)) else { continue };
        let should = match (last.kind.as_str(), last.status.as_str()) {
            ("DEVICE_CREATION" | "DEVICE_START" | "DEVICE_REBOOT" | "DEVICE_RESET", "COMPLETED") => "RUNNING",
            ("DEVICE_STOP", "COMPLETED") => "STOPPED",
            ("DEVICE_DELETION", "COMPLETED") | ("DEVICE_CREATION", "COMPENSATED") => "DELETED",
            _ => continue,
        };
        if device.status != should {
            found.push(format!("{id} should be {should} by {last:?}, and is {}", device.status));
        }
    }
    found
}
