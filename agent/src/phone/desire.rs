//! The controller's word about a device becomes a row; a host's finding becomes a parked one.
//! Transitions of the database only: pure functions over a transaction.

use super::transition;
use crate::store::meta::{self, SNAPSHOT_OPEN};
use crate::store::port_lease::PortKind;
use crate::store::{Notice, Tx, device, device::DeviceRow, outbox, port_lease};
use phonefleet_protocol::desired::{DesiredDevice, QuestionId, Wish};
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::facts::{Phase, Ports, Reason};
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite;

/// What the host found and no row knows.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which device it says it is.
    pub device: DeviceId,
    /// The generation on its label, 0 without one.
    pub generation: u64,
    /// The engine's id of its container; `None` when only data was found.
    pub container_id: Option<String>,
    /// The container runs: taken for a phone that has booted, so that it is shut down gently.
    pub runs: bool,
    /// Ports on its labels that are free here; they are leased to it.
    pub ports: Option<Ports>,
}

/// Takes in one desired device. `Err` inside: the controller broke the protocol, and why.
pub fn accept(
    tx: &mut Tx<'_>,
    desired: &DesiredDevice,
    now: Timestamp,
) -> Result<Result<(), String>, rusqlite::Error> {
    if desired.wish != Wish::Absent && desired.spec.is_none() {
        return Ok(Err(format!("a device that shall be {} needs a spec", desired.wish.name())));
    }
    let Some(row) = device::get(tx, desired.device_id)? else {
        return begin(tx, DeviceRow::new(desired.clone()), now).map(Ok);
    };
    device::mark_seen(tx, desired.device_id)?;
    match standing(&row, desired) {
        Standing::New => begin(tx, replaced(row, desired), now)?,
        Standing::Same => repeat(tx, row, now)?,
        Standing::Outdated => {
            let event = Event::Answer {
                generation: desired.generation,
                attempt: desired.attempt,
                outcome: Outcome::Outdated,
                facts: row.facts(),
                at: now,
            };
            outbox::append(tx, row.id(), &event, now)?;
        }
    }
    Ok(Ok(()))
}

enum Standing {
    New,
    Same,
    Outdated,
}

fn standing(row: &DeviceRow, desired: &DesiredDevice) -> Standing {
    let known = &row.desired;
    if row.found {
        // Nobody here knows what its generation stood for.
        return if desired.generation >= known.generation { Standing::New } else { Standing::Outdated };
    }
    // A controller that was restored may use a generation again, for something else.
    let same_content = known.wish == desired.wish
        && (known.wish == Wish::Absent || known.spec == desired.spec)
        && desired.boot_count <= known.boot_count
        && desired.data_epoch <= known.data_epoch;
    let same_question = QuestionId::is_that(known.question, desired.question);
    match (desired.generation.cmp(&known.generation), desired.attempt.cmp(&known.attempt)) {
        (std::cmp::Ordering::Greater, _) => Standing::New,
        (std::cmp::Ordering::Equal, std::cmp::Ordering::Greater) if same_content => Standing::New,
        (std::cmp::Ordering::Equal, std::cmp::Ordering::Equal) if same_content && same_question => {
            Standing::Same
        }
        _ => Standing::Outdated,
    }
}

/// The row as the new word makes it: everything asked for is new, everything observed stays.
fn replaced(row: DeviceRow, desired: &DesiredDevice) -> DeviceRow {
    let mut asked = desired.clone();
    if row.found {
        // It runs as it is: that is no reboot that was asked for. Whether a reset left older data
        // is not known here, so that is looked for.
        return DeviceRow {
            applied_boot_count: asked.boot_count,
            desired: asked,
            found: false,
            parked: false,
            reason: None,
            ..row
        };
    }
    // Going back would bring back data that a reset removed.
    asked.boot_count = asked.boot_count.max(row.desired.boot_count);
    asked.data_epoch = asked.data_epoch.max(row.desired.data_epoch);
    let reason = row.reason.filter(|_| !row.parked);
    DeviceRow { desired: asked, parked: false, reason, answer: None, deaths: Vec::new(), ..row }
}

fn begin(tx: &mut Tx<'_>, mut row: DeviceRow, now: Timestamp) -> Result<(), rusqlite::Error> {
    row.answer = None;
    device::put(tx, &row)?;
    device::mark_seen(tx, row.id())?;
    tx.announce(Notice::Device(row.id()));
    let faults = match &row.desired.spec {
        Some(spec) if row.desired.wish != Wish::Absent => spec.faults(),
        _ => Vec::new(),
    };
    if !faults.is_empty() {
        let text: Vec<_> =
            faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect();
        let failed =
            Outcome::Failed { reason: Reason::new("INVALID_SPEC", text.join("; ")), retryable: false };
        transition::answer(tx, row, failed, now)?;
    }
    Ok(())
}

/// The same question again: the same answer again, with what is true by now.
fn repeat(tx: &mut Tx<'_>, mut row: DeviceRow, now: Timestamp) -> Result<(), rusqlite::Error> {
    if row.parked {
        row.parked = false;
        row.reason = None;
        device::put(tx, &row)?;
        tx.announce(Notice::Device(row.id()));
    }
    if let Some(outcome) = row.answer.clone() {
        transition::say_answer(tx, &row, outcome, now)?;
    }
    Ok(())
}

/// The whole list of desired devices begins.
pub fn begin_snapshot(tx: &mut Tx<'_>) -> Result<(), rusqlite::Error> {
    device::clear_snapshot(tx)?;
    meta::set(tx, SNAPSHOT_OPEN, "1")
}

/// The list is complete: what it did not name is parked. `Err` inside: it never began.
pub fn end_snapshot(tx: &mut Tx<'_>, now: Timestamp) -> Result<Result<(), String>, rusqlite::Error> {
    if !meta::remove(tx, SNAPSHOT_OPEN)? {
        return Ok(Err("a snapshot ends that never began".to_owned()));
    }
    for mut row in device::unseen(tx)? {
        row.parked = true;
        row.reason = Some(Reason::new("PARKED", "the controller's list of devices does not name it"));
        device::put(tx, &row)?;
        transition::say_changed(tx, &row, now)?;
        tx.announce(Notice::Device(row.id()));
    }
    Ok(Ok(()))
}

/// Nothing is left of a parked device, because somebody removed it by hand: its row and its ports
/// go, and the controller hears that it is absent. Returns the ports that are free again.
pub fn forget(tx: &mut Tx<'_>, device: DeviceId, now: Timestamp) -> Result<Vec<u16>, rusqlite::Error> {
    let Some(mut row) = device::get(tx, device)?.filter(|row| row.parked) else {
        return Ok(Vec::new());
    };
    let released = port_lease::release(tx, device)?;
    row.parked = false;
    row.phase = Phase::Absent;
    row.ports = None;
    row.container_id = None;
    row.reason = None;
    transition::say_changed(tx, &row, now)?;
    device::remove(tx, device)?;
    tx.announce(Notice::Device(device));
    Ok(released)
}

/// Parks what the host found, unless a row has come to know it. Returns whether it did.
pub fn park(tx: &mut Tx<'_>, found: &Found, now: Timestamp) -> Result<bool, rusqlite::Error> {
    if device::get(tx, found.device)?.is_some() {
        return Ok(false);
    }
    let what = if found.container_id.is_some() { "a container" } else { "data" };
    let mut row = DeviceRow::new(DesiredDevice {
        device_id: found.device,
        generation: found.generation,
        attempt: 0,
        question: None,
        wish: Wish::Stopped,
        spec: None,
        boot_count: 0,
        data_epoch: 0,
    });
    row.found = true;
    row.parked = true;
    row.phase = if found.container_id.is_some() { Phase::Stopped } else { Phase::Reserved };
    row.container_id.clone_from(&found.container_id);
    row.booted = found.runs;
    row.reason = Some(Reason::new("PARKED", format!("the host has {what} of it and no row that knows it")));
    device::put(tx, &row)?;
    if let Some(ports) = found.ports {
        port_lease::lease(tx, ports.adb, PortKind::Adb, found.device, found.generation, now)?;
        port_lease::lease(tx, ports.webrtc, PortKind::Webrtc, found.device, found.generation, now)?;
        row.ports = Some(ports);
    }
    transition::say_changed(tx, &row, now)?;
    Ok(true)
}
