//! The row of a device: wish, state, answer. One row is read and written as a whole.

use super::{Notice, Tx, port_lease, unreadable, unwritable};
use phonefleet_protocol::desired::{DesiredDevice, QuestionId, Wish};
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::{DeviceFacts, Phase, Ports, Reason};
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{self, Connection, OptionalExtension, Row, params};

/// Everything the agent knows of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRow {
    /// What the controller asked for last. `boot_count` and `data_epoch` never go back.
    pub desired: DesiredDevice,
    /// `boot_count` at the newest start: a higher one asks for a reboot.
    pub applied_boot_count: u32,
    /// Data of older epochs is removed.
    pub applied_data_epoch: u32,
    /// Found on the host; no controller ever asked for it.
    pub found: bool,
    /// Left alone until a controller names it.
    pub parked: bool,
    /// Where it stands.
    pub phase: Phase,
    /// Why it is not where it should be.
    pub reason: Option<Reason>,
    /// The engine's id of its container, as last seen.
    pub container_id: Option<String>,
    /// Hash of what the container was built from.
    pub built: Option<String>,
    /// The newest start completed its boot.
    pub booted: bool,
    /// Starts since it was created.
    pub starts: u64,
    /// When it died by itself, the newest last.
    pub deaths: Vec<Timestamp>,
    /// The answer to the current generation and attempt; `None` while it is owed.
    pub answer: Option<Outcome>,
    /// Leased ports: from the leases, not stored with the row.
    pub ports: Option<Ports>,
}

impl DeviceRow {
    /// A device that was never heard of.
    pub fn new(desired: DesiredDevice) -> Self {
        Self {
            desired,
            applied_boot_count: 0,
            applied_data_epoch: 0,
            found: false,
            parked: false,
            phase: Phase::Absent,
            reason: None,
            container_id: None,
            built: None,
            booted: false,
            starts: 0,
            deaths: Vec::new(),
            answer: None,
            ports: None,
        }
    }

    /// Which device.
    pub fn id(&self) -> DeviceId {
        self.desired.device_id
    }

    /// The device as the controller hears of it.
    pub fn facts(&self) -> DeviceFacts {
        DeviceFacts {
            device_id: self.desired.device_id,
            generation: self.desired.generation,
            attempt: self.desired.attempt,
            question: self.desired.question,
            phase: if self.parked { Phase::Parked } else { self.phase },
            ports: self.ports,
            container_id: self.container_id.clone(),
            reason: self.reason.clone(),
            starts: self.starts,
            boot_count: self.desired.boot_count,
            data_epoch: self.desired.data_epoch,
        }
    }
}

const COLUMNS: &str = "device_id, generation, attempt, wish, spec, boot_count, data_epoch, \
    applied_boot_count, applied_data_epoch, found, parked, phase, reason_code, reason_detail, \
    container_id, built, booted, starts, deaths, answer, question";

/// The row of one device.
pub fn get(connection: &Connection, device: DeviceId) -> Result<Option<DeviceRow>, rusqlite::Error> {
    let row = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM device WHERE device_id = ?1"))?
        .query_row([device.to_string()], read)
        .optional()?;
    row.map(|mut row| {
        row.ports = port_lease::of_device(connection, device)?;
        Ok(row)
    })
    .transpose()
}

/// Every row, by device id.
pub fn all(connection: &Connection) -> Result<Vec<DeviceRow>, rusqlite::Error> {
    let mut rows = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM device ORDER BY device_id"))?
        .query_map([], read)?
        .collect::<Result<Vec<_>, _>>()?;
    for row in &mut rows {
        row.ports = port_lease::of_device(connection, row.id())?;
    }
    Ok(rows)
}

/// The ids of every row.
pub fn ids(connection: &Connection) -> Result<Vec<DeviceId>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT device_id FROM device ORDER BY device_id")?
        .query_map([], |row| row.get::<_, String>(0)?.parse().map_err(|error| unreadable(0, error)))?
        .collect()
}

/// Devices in a phase that are not parked.
pub fn count_in_phase(connection: &Connection, phase: Phase) -> Result<u32, rusqlite::Error> {
    connection
        .prepare_cached("SELECT count(*) FROM device WHERE phase = ?1 AND parked = 0")?
        .query_row([phase.name()], |row| row.get(0))
}

/// Writes a row, but not its ports.
pub fn put(tx: &mut Tx<'_>, row: &DeviceRow) -> Result<(), rusqlite::Error> {
    let desired = &row.desired;
    let spec = desired.spec.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?;
    let answer = row.answer.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?;
    let deaths: Vec<i64> = row.deaths.iter().map(|death| death.0).collect();
    tx.prepare_cached(
        "INSERT INTO device(device_id, generation, attempt, wish, spec, boot_count, data_epoch,
            applied_boot_count, applied_data_epoch, found, parked, snapshot_seen, phase, reason_code,
            reason_detail, container_id, built, booted, starts, deaths, answer, question)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
            ?20, ?21)
         ON CONFLICT(device_id) DO UPDATE SET generation = ?2, attempt = ?3, wish = ?4, spec = ?5,
            boot_count = ?6, data_epoch = ?7, applied_boot_count = ?8, applied_data_epoch = ?9,
            found = ?10, parked = ?11, phase = ?12, reason_code = ?13, reason_detail = ?14,
            container_id = ?15, built = ?16, booted = ?17, starts = ?18, deaths = ?19, answer = ?20,
            question = ?21",
    )?
    .execute(params![
        desired.device_id.to_string(),
        desired.generation as i64,
        desired.attempt,
        desired.wish.name(),
        spec,
        desired.boot_count,
        desired.data_epoch,
        row.applied_boot_count,
        row.applied_data_epoch,
        row.found,
        row.parked,
        row.phase.name(),
        row.reason.as_ref().map(|reason| &reason.code),
        row.reason.as_ref().map(|reason| &reason.detail),
        row.container_id,
        row.built,
        row.booted,
        row.starts as i64,
        serde_json::to_string(&deaths).map_err(unwritable)?,
        answer,
        desired.question.map(|question| question.0 as i64),
    ])
    .map(|_| ())
}

/// Remembers under which outbox number the newest answer went.
pub fn set_answer_number(tx: &mut Tx<'_>, device: DeviceId, number: u64) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("UPDATE device SET answer_number = ?2 WHERE device_id = ?1")?
        .execute(params![device.to_string(), number as i64])
        .map(|_| ())
}

/// After a fork of the own log: absent devices wait for the snapshot's last item instead.
pub fn renumber_tombstones(tx: &mut Tx<'_>, number: u64) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("UPDATE device SET answer_number = ?1 WHERE answer_number IS NOT NULL")?
        .execute([number as i64])
        .map(|_| ())
}

/// Forgets devices that are absent and whose answer the controller has.
pub fn drop_tombstones(tx: &mut Tx<'_>, through: u64) -> Result<(), rusqlite::Error> {
    let gone: Vec<String> = tx
        .prepare_cached(
            "DELETE FROM device WHERE wish = 'absent' AND phase = 'absent' AND parked = 0
                AND answer IS NOT NULL AND answer_number <= ?1 RETURNING device_id",
        )?
        .query_map([through as i64], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in gone {
        tx.announce(Notice::Device(id.parse().map_err(|error| unreadable(0, error))?));
    }
    Ok(())
}

/// Forgets a device.
pub fn remove(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("DELETE FROM device WHERE device_id = ?1")?.execute([device.to_string()]).map(|_| ())
}

/// A snapshot begins: nothing is named by it yet.
pub fn clear_snapshot(tx: &mut Tx<'_>) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("UPDATE device SET snapshot_seen = 0")?.execute([]).map(|_| ())
}

/// The snapshot names this device.
pub fn mark_seen(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("UPDATE device SET snapshot_seen = 1 WHERE device_id = ?1")?
        .execute([device.to_string()])
        .map(|_| ())
}

/// Devices that the snapshot did not name, that are not on their way out, and not parked yet.
pub fn unseen(tx: &mut Tx<'_>) -> Result<Vec<DeviceRow>, rusqlite::Error> {
    let ids: Vec<String> = tx
        .prepare_cached(
            "SELECT device_id FROM device
             WHERE snapshot_seen = 0 AND parked = 0 AND wish <> 'absent' ORDER BY device_id",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(get(tx, id.parse().map_err(|error| unreadable(0, error))?)?);
    }
    Ok(rows)
}

fn read(row: &Row<'_>) -> Result<DeviceRow, rusqlite::Error> {
    let text = |column: usize| row.get::<_, String>(column);
    let code: Option<String> = row.get(12)?;
    let detail: Option<String> = row.get(13)?;
    let spec: Option<String> = row.get(4)?;
    let answer: Option<String> = row.get(19)?;
    let deaths: Vec<i64> = serde_json::from_str(&text(18)?).map_err(|error| unreadable(18, error))?;
    Ok(DeviceRow {
        desired: DesiredDevice {
            device_id: text(0)?.parse().map_err(|error| unreadable(0, error))?,
            generation: row.get::<_, i64>(1)? as u64,
            attempt: row.get(2)?,
            question: row.get::<_, Option<i64>>(20)?.map(|question| QuestionId(question as u64)),
            wish: Wish::from_name(&text(3)?).ok_or_else(|| unreadable(3, "unknown wish"))?,
            spec: spec
                .map(|spec| serde_json::from_str(&spec))
                .transpose()
                .map_err(|error| unreadable(4, error))?,
            boot_count: row.get(5)?,
            data_epoch: row.get(6)?,
        },
        applied_boot_count: row.get(7)?,
        applied_data_epoch: row.get(8)?,
        found: row.get(9)?,
        parked: row.get(10)?,
        phase: Phase::from_name(&text(11)?).ok_or_else(|| unreadable(11, "unknown phase"))?,
        reason: code.map(|code| Reason { code, detail: detail.unwrap_or_default() }),
        container_id: row.get(14)?,
        built: row.get(15)?,
        booted: row.get(16)?,
        starts: row.get::<_, i64>(17)? as u64,
        deaths: deaths.into_iter().map(Timestamp).collect(),
        answer: answer
            .map(|answer| serde_json::from_str(&answer))
            .transpose()
            .map_err(|error| unreadable(19, error))?,
        ports: None,
    })
}
