//! Both directions of every host: what one end committed, the other end has applied, in
//! order, up to the same chain; nothing was put aside.

use crate::observe::Observation;

/// See the module.
pub fn check(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    for host in &seen.hosts {
        let applied = seen.controller.cursors.get(&host.id).copied();
        if applied != Some(host.log) {
            found.push(format!("streams: events of {} end at {:?}, applied {applied:?}", host.id, host.log));
        }
        let commands = seen.controller.logs.get(&host.id).copied();
        if commands != host.cursor {
            found.push(format!(
                "streams: commands of {} end at {commands:?}, applied {:?}",
                host.id, host.cursor
            ));
        }
        found.extend(host.dead_letters.iter().map(|letter| format!("streams: {} refused {letter}", host.id)));
    }
    found.extend(
        seen.controller.dead_letters.iter().map(|letter| format!("streams: the controller refused {letter}")),
    );
    found
}
