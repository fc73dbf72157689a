//! What a host's events mean: rows follow the facts, and sagas that waited go on, in the
//! transaction that stores the cursor.

use super::desire;
use crate::quota;
use crate::recording::apply as recordings;
use crate::saga::device_step::was_told;
use crate::saga::{Engine, device_reboot, device_reset, device_stop};
use crate::store::device::{self as table, DeviceRow, Status};
use crate::store::quota::Kind;
use crate::store::saga::SagaStatus;
use crate::store::{Result, Tx, event_outbox, host, recording, saga};
use phonefleet_link::Applied;
use phonefleet_protocol::desired::{QuestionId, Wish};
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::facts::{DeviceFacts, Phase, Reason};
use phonefleet_protocol::id::{DeviceId, HostId};
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;

/// Largest generation that is believed: there is room to outbid it for ever.
const LARGEST_GENERATION: u64 = 1 << 53;
/// The same of reboots and resets: nobody comes near it, and counting on from it is safe.
const LARGEST_COUNT: u32 = 1 << 30;

/// Applies one event of `host`.
pub fn event(
    engine: &Engine,
    tx: &mut Tx<'_>,
    host: &HostId,
    event: Event,
    now: Timestamp,
) -> Result<Applied> {
    match event {
        Event::Answer { generation, attempt, outcome, facts, .. } => {
            take_facts(engine, tx, host, &facts, Some(((generation, attempt), outcome)), now)
        }
        Event::Changed { facts, .. } => take_facts(engine, tx, host, &facts, None, now),
        Event::InventoryBegin {} => {
            host::inventory_begin(tx, host)?;
            recording::inventory_begin(tx, host)?;
            Ok(Applied::Done)
        }
        Event::InventoryDevices { devices } => {
            for facts in devices {
                host::inventory_see(tx, host, facts.device_id)?;
                if let Applied::Refused { reason, .. } = take_facts(engine, tx, host, &facts, None, now)? {
                    // The others of this part are there all the same.
                    tracing::error!(%host, reason, "an inventory names a device of another host");
                    host::put_stray(tx, host, &facts, now)?;
                }
            }
            Ok(Applied::Done)
        }
        Event::RecordingChanged { facts, .. } => recordings::take_facts(engine, tx, host, &facts, now),
        Event::InventoryRecordings { recordings: parts } => {
            recordings::inventory(engine, tx, host, &parts, now)?;
            Ok(Applied::Done)
        }
        Event::InventoryEnd {} => {
            let unseen = if planted(Mutant::IgnoreInventory) { Vec::new() } else { unseen(tx, host)? };
            for mut device in unseen {
                lost(engine, tx, &mut device, now)?;
            }
            recordings::inventory_end(tx, host, now)?;
            Ok(Applied::Done)
        }
    }
}

type Answer = ((u64, u32), Outcome);

fn take_facts(
    engine: &Engine,
    tx: &mut Tx<'_>,
    host: &HostId,
    facts: &DeviceFacts,
    answer: Option<Answer>,
    now: Timestamp,
) -> Result<Applied> {
    if facts.generation > LARGEST_GENERATION {
        let reason = format!("generation {} of device {} cannot be", facts.generation, facts.device_id);
        return Ok(Applied::Refused { kind: "device".to_owned(), reason });
    }
    if facts.boot_count.max(facts.data_epoch) > LARGEST_COUNT {
        let (boots, epoch) = (facts.boot_count, facts.data_epoch);
        let reason =
            format!("boot count {boots} or data epoch {epoch} of device {} cannot be", facts.device_id);
        return Ok(Applied::Refused { kind: "device".to_owned(), reason });
    }
    let Some(mut device) = table::find(tx, facts.device_id)? else {
        // Only the host knows it: this database was restored, or is new.
        if facts.phase == Phase::Absent {
            host::drop_stray(tx, host, facts.device_id)?;
        } else {
            host::put_stray(tx, host, facts, now)?;
        }
        return Ok(Applied::Done);
    };
    if device.host_id != *host {
        let reason = format!("device {} belongs to host {}, not to {host}", device.device_id, device.host_id);
        return Ok(Applied::Refused { kind: "device".to_owned(), reason });
    }
    host::drop_stray(tx, host, device.device_id)?;
    let asked_for = (device.boot_count, device.data_epoch);
    table::set_facts(&mut device, facts);
    // Of a time that this database has lost, the host may tell of the same generation with
    // another wish.
    let knows_wish =
        facts.generation == device.generation && QuestionId::is_that(facts.question, device.question);
    if let Some((asked, outcome)) = answer {
        let answers = asked == (device.generation, device.attempt)
            && (knows_wish || outcome == Outcome::Outdated || planted(Mutant::AnyAnswer));
        if answers {
            device.answered = asked;
            device.answer = Some(outcome.clone());
        }
        let ahead = outcome == Outcome::Outdated
            && facts.generation >= device.generation
            && !planted(Mutant::NoOutbid);
        if ahead && is_overtaken(tx, &device, asked_for, facts)? {
            overtaken(&mut device);
        } else if ahead {
            desire::outbid(tx, &mut device, facts.generation, now)?;
        }
    }
    let behind = facts.generation < device.generation;
    if device.deleted_at.is_some() && facts.phase != Phase::Absent && behind && device.command_seq.is_none() {
        // Its host was restored to a time before the removal, and told of it.
        desire::tell(tx, &mut device, now)?;
    }
    settle(engine, tx, &mut device, knows_wish, now)?;
    Ok(Applied::Done)
}

/// Whether the reset or reboot that the device's saga asks for would look done to a host that
/// has done more of them than this database, restored from a backup, knows of.
fn is_overtaken(
    tx: &Tx<'_>,
    device: &DeviceRow,
    (boot_count, data_epoch): (u32, u32),
    facts: &DeviceFacts,
) -> Result<bool> {
    let Some(id) = &device.saga_id else { return Ok(false) };
    let Some(saga) = saga::find(tx, id)? else { return Ok(false) };
    if saga.status != SagaStatus::Running || !was_told(&saga) {
        return Ok(false);
    }
    Ok(match saga.current_step.as_str() {
        device_reset::RESET => facts.data_epoch >= data_epoch,
        device_reboot::REBOOT => facts.boot_count >= boot_count,
        _ => false,
    })
}

const HOST_AHEAD: &str = "HOST_AHEAD";

/// Whether a reset or reboot failed because its host had overtaken it.
pub fn is_host_ahead(answer: &Outcome) -> bool {
    matches!(answer, Outcome::Failed { reason, .. } if reason.code == HOST_AHEAD)
}

/// Nobody can tell whether it was ordered before the backup, and is long done, or after it.
/// Data is not erased on a guess: whoever ordered it hears so, and orders again.
fn overtaken(device: &mut DeviceRow) {
    let text = "the host has done resets or reboots that this controller, restored from a backup, did not know of; \
        nothing was done: order it again";
    device.answered = (device.generation, device.attempt);
    device.answer = Some(Outcome::Failed { reason: Reason::new(HOST_AHEAD, text), retryable: false });
    if device.phase == Some(Phase::Running) {
        // It was to stop for the reset only.
        device.wish = Wish::Running;
    }
}

/// The rest of the world follows the facts: quota, status, and the saga that waits.
/// `knows_wish`: the host knew the newest wish when it told them.
fn settle(
    engine: &Engine,
    tx: &mut Tx<'_>,
    device: &mut DeviceRow,
    knows_wish: bool,
    now: Timestamp,
) -> Result<()> {
    let at_rest = knows_wish
        && device.deleted_at.is_none()
        && device.wish == Wish::Stopped
        && device.phase == Some(Phase::Stopped);
    let active = match &device.saga_id {
        Some(id) => saga::find(tx, id)?.filter(|saga| !saga.status.is_terminal()),
        None => None,
    };
    // Every other saga has reserved the right to run, or is about to give back all there is.
    let stays = active.as_ref().is_none_or(|saga| saga.saga_type == device_stop::DEFINITION.saga_type);
    if at_rest && stays {
        quota::release(tx, device.device_id, Some(Kind::Running))?;
    }
    if active.is_none() && device.deleted_at.is_none() {
        let status = status_of(device);
        if status != device.status {
            device.status = status;
            let id = device.device_id.to_string();
            event_outbox::append(tx, "device", &id, "device.status", &status, now)?;
        }
    }
    if device.deleted_at.is_some() {
        // History keeps no ports; the host may still be clearing them away.
        device.ports = None;
        device.container_id = None;
    }
    table::update(tx, device, now)?;
    match active {
        Some(saga) => engine.wake(tx, &saga.saga_id, now),
        None => Ok(()),
    }
}

/// What users see of a device that no saga is working on.
pub fn status_of(device: &DeviceRow) -> Status {
    match device.phase {
        None | Some(Phase::Absent | Phase::Reserved) => Status::Lost,
        Some(Phase::Stopped) if device.wish == Wish::Running => Status::Starting,
        Some(Phase::Stopped) => Status::Stopped,
        Some(Phase::Starting) => Status::Starting,
        Some(Phase::Running) if device.wish == Wish::Running => Status::Running,
        Some(Phase::Running | Phase::Stopping) => Status::Stopping,
        Some(Phase::Error) => Status::Error,
        Some(Phase::Parked) => Status::Parked,
    }
}

/// No saga works on the device any more, and none has set how it ended: what users see, and whether
/// it holds the right to run, follow what its host said last.
pub fn left_alone(engine: &Engine, tx: &mut Tx<'_>, device: DeviceId, now: Timestamp) -> Result<()> {
    let Some(mut device) = table::find(tx, device)? else { return Ok(()) };
    let is_answered = device.current_answer().is_some();
    settle(engine, tx, &mut device, is_answered, now)
}

/// The host's inventory does not name this device: ask again for what it shall be.
fn lost(engine: &Engine, tx: &mut Tx<'_>, device: &mut DeviceRow, now: Timestamp) -> Result<()> {
    if device.phase.is_some() && device.wish != Wish::Absent {
        tracing::warn!(device = %device.device_id, host = %device.host_id, "its host no longer knows this device");
        device.phase = Some(Phase::Absent);
        desire::change_wish(tx, device, device.wish, now)?;
    } else if device.wish == Wish::Absent {
        // It is what it should be, and the answer was lost with the host's database: the
        // same question brings it again.
        desire::try_again(tx, device, now)?;
    }
    settle(engine, tx, device, false, now)
}

/// Devices that should be on the host and that its inventory has not named; strays that it has
/// not named are forgotten. The inventory
/// arrives in parts, each a transaction of its own, so what it named is kept in a table.
fn unseen(tx: &mut Tx<'_>, host: &HostId) -> Result<Vec<DeviceRow>> {
    host::drop_unseen_strays(tx, host)?;
    let seen = host::inventory_end(tx, host)?;
    let wanted = table::wanted_on(tx, host)?;
    Ok(wanted.into_iter().filter(|device| !seen.contains(&device.device_id.to_string())).collect())
}
