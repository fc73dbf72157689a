//! Containers, leases, data, recorders, rows and quota agree with each other exactly.

use super::excuse;
use crate::observe::{ContainerSeen, DeviceRow, HostSide, Observation};
use std::collections::BTreeSet;

/// See the module.
pub fn check(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    for (id, device) in &seen.controller.devices {
        let Some(host) = seen.hosts.iter().find(|host| host.id == device.host) else {
            found.push(format!("agreement: {id} is on no host: {device:?}"));
            continue;
        };
        if device.deleted {
            found.extend(gone(id, host));
        } else {
            found.extend(living(id, device, host, seen));
        }
    }
    for host in &seen.hosts {
        found.extend(explained(host, seen));
    }
    found.extend(quota(seen));
    let totals = seen.controller.wrong_totals.iter();
    found.extend(totals.map(|whose| format!("totals of {whose} are not what the rows add up to")));
    found.extend(recordings(seen));
    found.into_iter().map(|words| format!("agreement: {words}")).collect()
}

fn gone(id: &str, host: &HostSide) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(row) = host.devices.get(id).filter(|row| row.phase != "absent") {
        found.push(format!("{id} is deleted, and its host has {row:?}"));
    }
    if let Some(container) = host.containers.iter().find(|container| container.device == id) {
        found.push(format!("{id} is deleted, and has {container:?}"));
    }
    found
}

fn living(id: &str, device: &DeviceRow, host: &HostSide, seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let container = host.containers.iter().find(|container| container.device == id);
    let Some(row) = host.devices.get(id) else {
        found.push(format!("{id} lives and its host does not know it: {device:?}"));
        return found;
    };
    if row.parked || row.asked != device.asked || row.wish != device.wish {
        found.push(format!("{id}: the controller wants {device:?}, its host knows {row:?}"));
    }
    if device.phase.as_deref() != Some(row.phase.as_str()) {
        found.push(format!("{id} is {}, and the controller believes {:?}", row.phase, device.phase));
    }
    let runs = container.is_some_and(|container| container.runs);
    let fits = match device.status.as_str() {
        "RUNNING" => row.phase == "running" && container.is_some_and(|container| container.booted),
        "STOPPED" => row.phase == "stopped" && container.is_some() && !runs,
        "ERROR" => row.phase == "error",
        _ => false,
    };
    if !fits {
        found.push(format!(
            "{id} is {} for its user, {} on its host, with {container:?}",
            device.status, row.phase
        ));
    }
    if container.map(|container| &container.id) != row.container.as_ref() && row.phase != "error" {
        found.push(format!("{id} has {container:?}, and its host believes {:?}", row.container));
    }
    let leased: Vec<_> = host.leases.iter().filter(|(_, _, holder)| holder == id).collect();
    let port = |kind: &str| leased.iter().find(|(_, known, _)| known == kind).map(|(port, ..)| *port);
    if port("adb").zip(port("webrtc")) != device.ports || leased.len() > 2 {
        found.push(format!("{id} has the ports {leased:?}, the controller believes {:?}", device.ports));
    }
    if let Some(container) = container.filter(|container| container.runs) {
        found.extend(holds_its_port(id, container, port("adb")));
    }
    let epochs: Vec<_> = host.data.iter().filter(|(owner, _)| owner == id).map(|(_, epoch)| *epoch).collect();
    let resets = seen
        .controller
        .sagas
        .iter()
        .filter(|saga| saga.device == id && saga.kind == "DEVICE_RESET" && saga.status == "COMPLETED");
    let resets = resets.count() as u32;
    if device.data_epoch < resets && !excuse::controller_restored(&seen.scenario) {
        found.push(format!("{id} was reset {resets} times, and has data {}", device.data_epoch));
    }
    let restored = excuse::touched_hosts(&seen.scenario).contains(&host.id);
    let data_fits = match row.phase.as_str() {
        "running" | "stopped" => epochs == [device.data_epoch] || (restored && epochs.len() == 1),
        "absent" | "reserved" => epochs.is_empty(),
        _ => true,
    };
    if !data_fits {
        found.push(format!("{id} has data of {epochs:?} and should have {}", device.data_epoch));
    }
    found
}

fn holds_its_port(id: &str, container: &ContainerSeen, leased: Option<u16>) -> Option<String> {
    (leased != Some(container.port))
        .then(|| format!("{id} runs at port {}, leased is {leased:?}", container.port))
}

/// Everything on a host has a row that explains it; what is no living device of the
/// controller's is parked, and the controller knows of it.
fn explained(host: &HostSide, seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let strays = excuse::strays(seen);
    let there = |id: &str| host.devices.get(id).is_some_and(|row| row.phase != "absent");
    let mut once = BTreeSet::new();
    for container in &host.containers {
        if !there(&container.device) {
            found.push(format!("{}: {container:?} belongs to no device", host.id));
        }
        if !once.insert(&container.device) {
            found.push(format!("{}: two containers of {}", host.id, container.device));
        }
    }
    for (id, epoch) in &host.data {
        if !there(id) {
            found.push(format!("{}: data of epoch {epoch} of {id}, which is not there", host.id));
        }
    }
    for lease in &host.leases {
        if !there(&lease.2) {
            found.push(format!("{}: {lease:?} belongs to no device", host.id));
        }
    }
    let mut ports = BTreeSet::new();
    for port in &host.bound {
        if !ports.insert(port) {
            found.push(format!("{}: port {port} is bound twice", host.id));
        }
    }
    for (id, row) in host.devices.iter().filter(|(_, row)| row.phase != "absent") {
        let known =
            seen.controller.devices.get(id).is_some_and(|device| !device.deleted && device.host == host.id);
        if !(known || row.parked && strays.contains(id.as_str())) {
            found.push(format!("{}: {id} is nobody's, and not parked: {row:?}", host.id));
        }
    }
    found
}

fn quota(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    let held = |id: &str, kind: &str| {
        seen.controller.reservations.iter().any(|(owner, known)| owner == id && known == kind)
    };
    for (owner, kind) in &seen.controller.reservations {
        if seen.controller.devices.get(owner).is_none_or(|device| device.deleted) {
            found.push(format!("a reservation of {kind} for {owner}, which is gone"));
        }
    }
    for (id, device) in seen.controller.devices.iter().filter(|(_, device)| !device.deleted) {
        if !held(id, "device") {
            found.push(format!("{id} lives without a reservation"));
        }
        let runs = seen
            .hosts
            .iter()
            .flat_map(|host| &host.containers)
            .any(|container| container.device == *id && container.runs);
        if (runs || device.status == "RUNNING") && !held(id, "running") {
            found.push(format!("{id} runs and has not reserved it: {device:?}"));
        }
        if device.status == "STOPPED" && held(id, "running") {
            found.push(format!("{id} is stopped and holds the right to run: {device:?}"));
        }
    }
    found
}

fn recordings(seen: &Observation) -> Vec<String> {
    let mut found = Vec::new();
    for row in &seen.controller.recordings {
        let terminal = matches!(row.status.as_str(), "FINAL" | "CORRUPT" | "FAILED");
        if !row.over || !terminal {
            found.push(format!("a recording is not over: {row:?}"));
        }
        if row.status == "CORRUPT" && whole_phone(&row.device, seen) {
            found.push(format!("a recording was torn: {row:?}"));
        }
        if row.status == "FAILED" && row.quota_bytes != 0 {
            found.push(format!("a recording without a video takes quota: {row:?}"));
        }
    }
    for host in &seen.hosts {
        found.extend(host.recorders.iter().map(|id| format!("{}: {id} records still", host.id)));
        found.extend(
            host.recordings.iter().map(|id| format!("{}: the agent believes that {id} records", host.id)),
        );
    }
    found
}

/// Nothing but the fleet has ended this phone, or what ran on it.
fn whole_phone(device: &str, seen: &Observation) -> bool {
    let Some(row) = seen.controller.devices.get(device) else { return false };
    !row.faulty && !excuse::touched_hosts(&seen.scenario).contains(&row.host)
}
