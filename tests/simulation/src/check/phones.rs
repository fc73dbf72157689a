//! No phone was started or stopped that nobody asked for, and no stranger's container was
//! touched. Phones on hosts that a fault may touch are counted by nobody.

use super::excuse;
use crate::history::Asked;
use crate::observe::Observation;
use phonefleet_controller::order::Verb;

/// See the module.
pub fn check(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    for host in &seen.hosts {
        if host.foreign != [("of-somebody-else".to_owned(), true)] {
            found.push(format!("phones: strangers' containers on {} are now {:?}", host.id, host.foreign));
        }
    }
    let touched = excuse::touched_hosts(&seen.scenario);
    for (id, log) in &seen.phones {
        let Some(device) = seen.controller.devices.get(id) else {
            if !excuse::controller_restored(&seen.scenario) {
                found.push(format!("phones: nobody ordered {id}"));
            }
            continue;
        };
        let sagas = || seen.controller.sagas.iter().filter(|saga| saga.device == *id);
        // A boot that fails is tried again, and one that hangs is ended.
        let sound =
            sagas().all(|saga| saga.status == "COMPLETED" || saga.error.as_deref().is_some_and(is_cancelled));
        if touched.contains(&device.host) || !sound {
            continue;
        }
        let of_kind =
            |kinds: &[&str]| sagas().filter(|saga| kinds.contains(&saga.kind.as_str())).count() as u64;
        let starts = of_kind(&["DEVICE_CREATION", "DEVICE_START", "DEVICE_REBOOT", "DEVICE_RESET"]);
        let ends = of_kind(&["DEVICE_STOP", "DEVICE_REBOOT", "DEVICE_RESET", "DEVICE_DELETION"]);
        if log.starts > starts {
            found.push(format!("phones: {id} was started {} times, and {starts} were asked for", log.starts));
        }
        let done = sagas().filter(|saga| {
            let kinds = ["DEVICE_CREATION", "DEVICE_START", "DEVICE_REBOOT", "DEVICE_RESET"];
            saga.status == "COMPLETED" && kinds.contains(&saga.kind.as_str())
        });
        let done = done.count() as u64;
        if log.starts < done {
            found.push(format!(
                "phones: {id} was started {} times, and {done} sagas say they did",
                log.starts
            ));
        }
        if log.ends > ends {
            found.push(format!("phones: {id} was stopped {} times, and {ends} were asked for", log.ends));
        }
        if let Some(words) = unasked(id, starts, seen) {
            found.push(words);
        }
    }
    found
}

fn is_cancelled(error: &str) -> bool {
    error == "the device is being deleted"
}

/// No saga may exist that no call asked for.
fn unasked(id: &str, starts: u64, seen: &Observation) -> Option<String> {
    let asked = seen.history.iter().filter(|call| call.may_stand()).filter(|call| match &call.asked {
        Asked::Verb { device, verb } => {
            device == id && matches!(verb, Verb::Start | Verb::Reboot | Verb::Reset)
        }
        _ => false,
    });
    let asked = asked.count() as u64 + 1;
    (starts > asked)
        .then(|| format!("phones: {id} had {starts} sagas that start it, and {asked} were asked for"))
}
