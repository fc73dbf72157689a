//! What happened to a phone becomes its row and an event, in one transaction.
//!
//! Each function names the question (generation and attempt) that its caller was working
//! on, and does nothing when the controller has changed its mind since: `false`.

use super::plan::{CRASH_LOOP, CRASH_LOOP_DEATHS, DEATH_WINDOW, is_recent};
use crate::store::{Tx, device, device::DeviceRow, outbox, port_lease, recording};
use phonefleet_protocol::event::{Event, Outcome};
use phonefleet_protocol::facts::{Phase, Reason};
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite;

/// What the controller asked: the newest word that a caller knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// About which device.
    pub device: DeviceId,
    /// Its generation.
    pub generation: u64,
    /// Its attempt.
    pub attempt: u32,
}

impl Question {
    /// The question that a row stands for.
    pub fn of(row: &DeviceRow) -> Self {
        Self { device: row.id(), generation: row.desired.generation, attempt: row.desired.attempt }
    }

    /// The row, if this is still the question.
    pub fn row(self, tx: &mut Tx<'_>) -> Result<Option<DeviceRow>, rusqlite::Error> {
        Ok(device::get(tx, self.device)?.filter(|row| !row.parked && Self::of(row) == self))
    }
}

/// Changes the row without telling anybody: intents, and what only the host cares for.
pub fn update(
    tx: &mut Tx<'_>,
    question: Question,
    change: impl FnOnce(&mut DeviceRow),
) -> Result<bool, rusqlite::Error> {
    let Some(mut row) = question.row(tx)? else { return Ok(false) };
    change(&mut row);
    device::put(tx, &row)?;
    Ok(true)
}

/// The start is about to be made. One that was begun before, and that nobody saw succeed,
/// is not counted again: it has neither a death nor an error behind it.
pub fn starting(tx: &mut Tx<'_>, question: Question) -> Result<bool, rusqlite::Error> {
    update(tx, question, |row| {
        if row.phase != Phase::Starting || row.reason.is_some() {
            row.starts += 1;
        }
        row.reason = None;
        row.phase = Phase::Starting;
        row.booted = false;
        row.applied_boot_count = row.desired.boot_count;
    })
}

/// The phone is about to be stopped. Not while something records that nobody has waited for:
/// it may have begun since this was planned. `waited`: somebody has.
pub fn stopping(tx: &mut Tx<'_>, question: Question, waited: bool) -> Result<bool, rusqlite::Error> {
    let active = recording::active_of(tx, question.device)?;
    if !waited && active.is_some() && !planted(Mutant::TearRecordings) {
        return Ok(false);
    }
    update(tx, question, |row| row.phase = Phase::Stopping)
}

/// The device is what it should be: answers, or tells when nobody asked. Returns the ports
/// that are free again.
pub fn settle(
    tx: &mut Tx<'_>,
    question: Question,
    phase: Phase,
    container_id: Option<&str>,
    now: Timestamp,
) -> Result<Vec<u16>, rusqlite::Error> {
    let Some(mut row) = question.row(tx)? else { return Ok(Vec::new()) };
    let mut released = Vec::new();
    row.phase = phase;
    row.reason = None;
    row.container_id = container_id.map(str::to_owned);
    row.booted = phase == Phase::Running;
    if matches!(phase, Phase::Absent | Phase::Reserved) {
        row.built = None;
        // A device that is created again begins with fresh data of any epoch.
        row.applied_data_epoch = row.desired.data_epoch;
    }
    if phase == Phase::Absent {
        if !planted(Mutant::KeepLease) {
            released = port_lease::release(tx, row.id())?;
        }
        row.ports = None;
    }
    if row.answer.is_none() {
        answer(tx, row, Outcome::Reached, now)?;
    } else {
        device::put(tx, &row)?;
        if planted(Mutant::ForgetRecovery) && phase == Phase::Running {
            return Ok(released);
        }
        let number = say_changed(tx, &row, now)?;
        if phase == Phase::Absent {
            device::set_answer_number(tx, row.id(), number)?;
        }
    }
    Ok(released)
}

/// It could not be done. Whoever asked is answered; a device that nobody waits for is
/// told of as changed.
pub fn fail(
    tx: &mut Tx<'_>,
    question: Question,
    reason: &Reason,
    retryable: bool,
    now: Timestamp,
) -> Result<bool, rusqlite::Error> {
    let Some(mut row) = question.row(tx)? else { return Ok(false) };
    if row.answer.is_none() {
        answer(tx, row, Outcome::Failed { reason: reason.clone(), retryable }, now)?;
    } else if row.phase != Phase::Error || row.reason.as_ref() != Some(reason) {
        row.phase = Phase::Error;
        row.reason = Some(reason.clone());
        device::put(tx, &row)?;
        say_changed(tx, &row, now)?;
    }
    Ok(true)
}

/// A phone that was fine has died: it will be started again, or is given up. One whose
/// container still `runs`, because its boot stalled, is stopped first.
pub fn died(
    tx: &mut Tx<'_>,
    question: Question,
    reason: &Reason,
    runs: bool,
    now: Timestamp,
) -> Result<bool, rusqlite::Error> {
    let Some(mut row) = question.row(tx)? else { return Ok(false) };
    row.deaths.retain(|death| is_recent(*death, now));
    row.deaths.push(now);
    row.booted = false;
    if row.deaths.len() >= CRASH_LOOP_DEATHS {
        row.phase = Phase::Error;
        let minutes = DEATH_WINDOW.as_secs() / 60;
        row.reason = Some(Reason::new(
            CRASH_LOOP,
            format!("died {} times in {minutes} minutes; last: {reason}", row.deaths.len()),
        ));
    } else {
        row.phase = if runs { Phase::Stopping } else { Phase::Starting };
        row.reason = Some(reason.clone());
    }
    device::put(tx, &row)?;
    say_changed(tx, &row, now)?;
    Ok(true)
}

/// Something is noteworthy, or no longer is, and the phase stays.
pub fn report(
    tx: &mut Tx<'_>,
    question: Question,
    reason: Option<&Reason>,
    now: Timestamp,
) -> Result<bool, rusqlite::Error> {
    let Some(mut row) = question.row(tx)? else { return Ok(false) };
    row.reason = reason.cloned();
    device::put(tx, &row)?;
    say_changed(tx, &row, now)?;
    Ok(true)
}

/// Answers the open question of a row, and stores the row.
pub(super) fn answer(
    tx: &mut Tx<'_>,
    mut row: DeviceRow,
    outcome: Outcome,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    if let Outcome::Failed { reason, .. } = &outcome {
        row.phase = Phase::Error;
        row.reason = Some(reason.clone());
    }
    row.answer = Some(outcome.clone());
    device::put(tx, &row)?;
    say_answer(tx, &row, outcome, now)
}

pub(super) fn say_answer(
    tx: &mut Tx<'_>,
    row: &DeviceRow,
    outcome: Outcome,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    let (generation, attempt) = (row.desired.generation, row.desired.attempt);
    let event = Event::Answer { generation, attempt, outcome, facts: row.facts(), at: now };
    let number = outbox::append(tx, row.id(), &event, now)?;
    device::set_answer_number(tx, row.id(), number)
}

pub(super) fn say_changed(tx: &mut Tx<'_>, row: &DeviceRow, now: Timestamp) -> Result<u64, rusqlite::Error> {
    outbox::append(tx, row.id(), &Event::Changed { facts: row.facts(), at: now }, now)
}
