//! Every device was deleted: of none anything is left, but of those that only a host knows.

use super::excuse;
use crate::observe::Observation;

/// See the module.
pub fn check(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let strays = excuse::strays(seen);
    for (id, device) in seen.controller.devices.iter().filter(|(_, device)| !device.deleted) {
        found.push(format!("{id} is still there: {device:?}"));
    }
    found.extend(seen.controller.reservations.iter().map(|held| format!("quota is held: {held:?}")));
    for host in &seen.hosts {
        let left = |id: &str| !strays.contains(id);
        let name = &host.id;
        let rows = host.devices.iter().filter(|(id, row)| row.phase != "absent" && left(id));
        found.extend(rows.map(|(id, row)| format!("{name}: {id} {row:?}")));
        let leases = host.leases.iter().filter(|lease| left(&lease.2));
        found.extend(leases.map(|lease| format!("{name}: lease {lease:?}")));
        let containers = host.containers.iter().filter(|container| left(&container.device));
        found.extend(containers.map(|container| format!("{name}: {container:?}")));
        let data = host.data.iter().filter(|data| left(&data.0));
        found.extend(data.map(|data| format!("{name}: data {data:?}")));
    }
    if !strays.is_empty() && !excuse::controller_restored(&seen.scenario) {
        found.push(format!("nobody knows {strays:?}, and no database was restored"));
    }
    found.into_iter().map(|words| format!("remains: {words}")).collect()
}
