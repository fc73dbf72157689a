//! What is an orphan, and what may be done about it. Pure.
//!
//! The one rule of removal: a row of this agent must say that the device is absent and that
//! its controller was told so. Whatever no row knows may be the last copy of somebody's phone.
//! A parked row is the other way round: it goes once somebody has removed all that it stands for.

use super::{Kind, Orphan};
use crate::port::PortSettings;
use crate::runtime::redroid::container_name;
use crate::runtime::{Container, LABEL_HOST, PublishedPort};
use crate::store::device::DeviceRow;
use crate::store::port_lease::{Holder, PortLease};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::facts::Phase;
use phonefleet_protocol::id::{DeviceId, HostId};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that was seen in one look.
pub(super) struct Sighting {
    pub rows: BTreeMap<DeviceId, DeviceRow>,
    pub leases: Vec<PortLease>,
    /// Containers with the own host's label.
    pub containers: Vec<Container>,
    /// Ports that containers publish, whoever's.
    pub published: Vec<PublishedPort>,
    pub with_data: Vec<DeviceId>,
    /// Parked before engine and disk were looked at: what these do not show of one is not there.
    pub parked_before: BTreeSet<DeviceId>,
}

/// What may be done about an orphan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing but telling.
    Keep,
    /// The device's own task removes what is left of it.
    FinishRemoval(DeviceId),
    /// A further container of a device that is gone; the engine's id.
    RemoveContainer(String),
    /// A lease of a device that nothing knows any more.
    ReleasePort(u16),
    /// The row of a parked device of which nothing is left.
    Forget(DeviceId),
}

/// The orphans, and what to do about each.
pub(super) fn judge(host: &HostId, pool: &PortSettings, seen: &Sighting) -> Vec<(Orphan, Remedy)> {
    let mut judged = containers(seen);
    judged.extend(published(host, pool, seen));
    judged.extend(leases(seen));
    judged.extend(data(seen));
    judged.extend(parked(seen));
    judged.sort_by(|(one, _), (other, _)| one.cmp(other));
    judged
}

/// The row proves that the device was this agent's, is gone, and was said to be.
pub(super) fn is_gone(row: &DeviceRow) -> bool {
    !row.parked && row.desired.wish == Wish::Absent && row.phase == Phase::Absent && row.answer.is_some()
}

/// A thing that may be an orphan.
pub(super) type Thing = (Kind, String, Option<DeviceId>);

/// Everything of devices that is there, and whether its device's own task removes it right
/// now: it is no orphan then, and not gone either.
pub(super) fn there(seen: &Sighting) -> BTreeMap<Thing, bool> {
    let containers = seen.containers.iter().map(|one| (Kind::Container, one.name.clone(), one.device()));
    let data = seen.with_data.iter().map(|device| (Kind::Data, device.to_string(), Some(*device)));
    let leases = seen.leases.iter().filter_map(|lease| match lease.holder {
        Holder::Leased(device) => Some((Kind::Port, lease.port.to_string(), Some(device))),
        Holder::Quarantined(_) => None,
    });
    let removed = |device: Option<DeviceId>| {
        let row = device.and_then(|device| seen.rows.get(&device));
        row.is_some_and(|row| !row.parked && row.desired.wish == Wish::Absent && !is_gone(row))
    };
    containers.chain(data).chain(leases).map(|thing| (thing.clone(), removed(thing.2))).collect()
}

fn orphan(
    kind: Kind,
    what: String,
    device: Option<DeviceId>,
    why: String,
    remedy: Remedy,
) -> (Orphan, Remedy) {
    let removing = remedy != Remedy::Keep;
    (Orphan { kind, what, device, why, removing }, remedy)
}

fn containers(seen: &Sighting) -> Vec<(Orphan, Remedy)> {
    let mut judged = Vec::new();
    for container in &seen.containers {
        let name = container.name.clone();
        let Some(device) = container.device() else {
            let why = "it has this host's label and names no device; remove it by hand".to_owned();
            judged.push(orphan(Kind::Container, name, None, why, Remedy::Keep));
            continue;
        };
        let of =
            |why: String, remedy| orphan(Kind::Container, container.name.clone(), Some(device), why, remedy);
        let first = name == container_name(device);
        judged.extend(match seen.rows.get(&device) {
            None => Some(of(format!("no row knows device {device}; it will be parked"), Remedy::Keep)),
            Some(row) if first && is_gone(row) => {
                let why = format!("device {device} is gone");
                Some(of(why, Remedy::FinishRemoval(device)))
            }
            Some(row) if !first && is_gone(row) => {
                let why = format!("a further container of device {device}, which is gone");
                Some(of(why, Remedy::RemoveContainer(container.id.clone())))
            }
            Some(_) if !first => {
                let why = format!(
                    "a further container of device {device}, whose own is {}; remove it by hand",
                    container_name(device)
                );
                Some(of(why, Remedy::Keep))
            }
            Some(_) => None,
        });
    }
    judged
}

fn published(host: &HostId, pool: &PortSettings, seen: &Sighting) -> Vec<(Orphan, Remedy)> {
    let leased: BTreeMap<u16, DeviceId> = seen
        .leases
        .iter()
        .filter_map(|lease| match lease.holder {
            Holder::Leased(device) => Some((lease.port, device)),
            Holder::Quarantined(_) => None,
        })
        .collect();
    let ours = |port: u16| pool.adb.contains(&port) || pool.webrtc.contains(&port);
    let mut judged = BTreeMap::new();
    for one in seen.published.iter().filter(|one| ours(one.port)) {
        let own = one.labels.get(LABEL_HOST).map(String::as_str) == Some(host.as_str());
        let device = one.device().filter(|_| own);
        if device.is_some() && leased.get(&one.port).copied() == device {
            continue;
        }
        let whose = match (own, one.labels.get(LABEL_HOST)) {
            (true, _) => "of this host",
            (false, Some(_)) => "of another host",
            (false, None) => "of a stranger",
        };
        let lease = leased.get(&one.port).map_or_else(
            || "without a lease; phones pass it over meanwhile".to_owned(),
            |holder| format!("though it is leased to device {holder}"),
        );
        let why = format!("container {} {whose} publishes it {lease}", one.container);
        // One line a port, whatever addresses it is published at.
        judged.insert(one.port, orphan(Kind::Port, one.port.to_string(), device, why, Remedy::Keep));
    }
    judged.into_values().collect()
}

/// Devices of which there is something outside of the database.
fn held(seen: &Sighting) -> BTreeSet<DeviceId> {
    seen.containers.iter().filter_map(Container::device).chain(seen.with_data.iter().copied()).collect()
}

fn leases(seen: &Sighting) -> Vec<(Orphan, Remedy)> {
    let held = held(seen);
    let mut judged = Vec::new();
    for lease in &seen.leases {
        let Holder::Leased(device) = lease.holder else { continue };
        let (why, remedy) = match seen.rows.get(&device) {
            Some(row) if is_gone(row) => {
                (format!("leased to device {device}, which is gone"), Remedy::FinishRemoval(device))
            }
            Some(_) => continue,
            None if held.contains(&device) => (
                format!("leased to device {device}, which no row knows, but this host has of it"),
                Remedy::Keep,
            ),
            None => {
                (format!("leased to device {device}, which nothing knows"), Remedy::ReleasePort(lease.port))
            }
        };
        judged.push(orphan(Kind::Port, lease.port.to_string(), Some(device), why, remedy));
    }
    judged
}

fn data(seen: &Sighting) -> Vec<(Orphan, Remedy)> {
    let mut judged = Vec::new();
    for device in &seen.with_data {
        let (why, remedy) = match seen.rows.get(device) {
            None => ("no row knows the device of this data; it will be parked".to_owned(), Remedy::Keep),
            Some(row) if is_gone(row) => {
                ("data of a device that is gone".to_owned(), Remedy::FinishRemoval(*device))
            }
            Some(_) => continue,
        };
        judged.push(orphan(Kind::Data, device.to_string(), Some(*device), why, remedy));
    }
    judged
}

fn parked(seen: &Sighting) -> Vec<(Orphan, Remedy)> {
    let held = held(seen);
    let rows = seen.rows.iter().filter(|(_, row)| row.parked);
    rows.map(|(device, row)| {
        let detail = row.reason.as_ref().map_or("parked", |reason| reason.detail.as_str());
        let (what_next, remedy) = if held.contains(device) || !seen.parked_before.contains(device) {
            ("left alone until a controller names it", Remedy::Keep)
        } else {
            ("nothing of it is left: its row goes", Remedy::Forget(*device))
        };
        orphan(Kind::Parked, device.to_string(), Some(*device), format!("{detail}; {what_next}"), remedy)
    })
    .collect()
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
