//! Devices as rows: what they shall be, what was answered, what the host knows.

mod list;

pub use list::{Filter, count_by_status, page, ports, prune};

use super::{Result, json, unreadable};
use phonefleet_protocol::desired::{DesiredDevice, QuestionId, Wish};
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::{DeviceFacts, Phase, Ports, Reason};
use phonefleet_protocol::id::{DeviceId, HostId, SagaId, UserId};
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What users see of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Being made.
    Creating,
    /// Runs and has booted.
    Running,
    /// On its way up.
    Starting,
    /// On its way down.
    Stopping,
    /// Does not run; container and ports are kept.
    Stopped,
    /// Being removed.
    Deleting,
    /// The host gave up; the reason says why. Container and ports are kept.
    Error,
    /// Its host says that it does not have it.
    Lost,
    /// Its host has it, but nobody asks for it.
    Parked,
    /// Gone; only its history is left.
    Deleted,
}

impl Status {
    /// The name in the database and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Running => "RUNNING",
            Self::Starting => "STARTING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Deleting => "DELETING",
            Self::Error => "ERROR",
            Self::Lost => "LOST",
            Self::Parked => "PARKED",
            Self::Deleted => "DELETED",
        }
    }

    /// Every status.
    pub const ALL: [Self; 10] = [
        Self::Creating,
        Self::Running,
        Self::Starting,
        Self::Stopping,
        Self::Stopped,
        Self::Deleting,
        Self::Error,
        Self::Lost,
        Self::Parked,
        Self::Deleted,
    ];

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// One device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRow {
    /// Its id.
    pub device_id: DeviceId,
    /// Its name, unique among its user's devices.
    pub name: String,
    /// Whose it is.
    pub user_id: UserId,
    /// Where it is.
    pub host_id: HostId,
    /// What users see.
    pub status: Status,
    /// What it is made of.
    pub spec: DeviceSpec,
    /// Free labels of its user.
    pub labels: BTreeMap<String, String>,
    /// Newest generation of its wish.
    pub generation: u64,
    /// Newest attempt of that generation.
    pub attempt: u32,
    /// Which asking of them: see [`QuestionId`]. None before the first, or before there were ids.
    pub question: Option<QuestionId>,
    /// What it shall be.
    pub wish: Wish,
    /// Raised to reboot.
    pub boot_count: u32,
    /// Raised to reset.
    pub data_epoch: u32,
    /// Number of its unacknowledged command.
    pub command_seq: Option<u64>,
    /// A newer wish waits for that acknowledgement.
    pub command_dirty: bool,
    /// Which (generation, attempt) was answered.
    pub answered: (u64, u32),
    /// With what.
    pub answer: Option<Outcome>,
    /// Where its host says it stands.
    pub phase: Option<Phase>,
    /// Its ports.
    pub ports: Option<Ports>,
    /// Its container.
    pub container_id: Option<String>,
    /// Why it is not what it should be.
    pub reason: Option<Reason>,
    /// Starts since its creation.
    pub starts: u64,
    /// Its newest saga.
    pub saga_id: Option<SagaId>,
    /// Accepted.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Gone.
    pub deleted_at: Option<Timestamp>,
}

impl DeviceRow {
    /// The answer to the newest (generation, attempt), if there is one yet.
    pub fn current_answer(&self) -> Option<&Outcome> {
        self.answer
            .as_ref()
            .filter(|_| self.answered == (self.generation, self.attempt) || planted(Mutant::AnyAnswer))
    }

    /// The wish as its host gets it.
    pub fn desired(&self) -> DesiredDevice {
        DesiredDevice {
            device_id: self.device_id,
            generation: self.generation,
            attempt: self.attempt,
            question: self.question,
            wish: self.wish,
            spec: (self.wish != Wish::Absent).then(|| self.spec.clone()),
            boot_count: self.boot_count,
            data_epoch: self.data_epoch,
        }
    }
}

const COLUMNS: &str = "device_id, name, user_id, host_id, status, spec, labels, generation, attempt, wish,
    boot_count, data_epoch, command_seq, command_dirty, answered_generation, answered_attempt, answer, phase,
    adb_port, webrtc_port, container_id, reason_code, reason_detail, starts, saga_id, created_at, updated_at,
    deleted_at, question";

fn read(row: &Row<'_>) -> Result<DeviceRow> {
    let text = |index| row.get::<_, String>(index);
    let wish = text(9)?;
    let status = text(4)?;
    let answer: Option<String> = row.get(16)?;
    let phase: Option<String> = row.get(17)?;
    let ports = match (row.get(18)?, row.get(19)?) {
        (Some(adb), Some(webrtc)) => Some(Ports { adb, webrtc }),
        _ => None,
    };
    let reason = match (row.get(21)?, row.get::<_, Option<String>>(22)?) {
        (Some(code), Some(detail)) => Some(Reason { code, detail }),
        _ => None,
    };
    Ok(DeviceRow {
        device_id: text(0)?.parse().map_err(unreadable)?,
        name: text(1)?,
        user_id: text(2)?.parse().map_err(unreadable)?,
        host_id: text(3)?.parse().map_err(unreadable)?,
        status: Status::from_name(&status).ok_or_else(|| unreadable(format!("device status {status}")))?,
        spec: serde_json::from_str(&text(5)?).map_err(unreadable)?,
        labels: serde_json::from_str(&text(6)?).map_err(unreadable)?,
        generation: row.get::<_, i64>(7)? as u64,
        attempt: row.get(8)?,
        question: row.get::<_, Option<i64>>(28)?.map(|question| QuestionId(question as u64)),
        wish: Wish::from_name(&wish).ok_or_else(|| unreadable(format!("wish {wish}")))?,
        boot_count: row.get(10)?,
        data_epoch: row.get(11)?,
        command_seq: row.get::<_, Option<i64>>(12)?.map(|seq| seq as u64),
        command_dirty: row.get(13)?,
        answered: (row.get::<_, i64>(14)? as u64, row.get(15)?),
        answer: answer.map(|text| serde_json::from_str(&text)).transpose().map_err(unreadable)?,
        phase: phase.and_then(|name| Phase::from_name(&name)),
        ports,
        container_id: row.get(20)?,
        reason,
        starts: row.get::<_, i64>(23)? as u64,
        saga_id: row.get::<_, Option<String>>(24)?.map(|id| id.parse()).transpose().map_err(unreadable)?,
        created_at: Timestamp(row.get(25)?),
        updated_at: Timestamp(row.get(26)?),
        deleted_at: row.get::<_, Option<i64>>(27)?.map(Timestamp),
    })
}

/// One device by id, also a deleted one.
pub fn find(connection: &Connection, device: DeviceId) -> Result<Option<DeviceRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM device WHERE device_id = ?1"))?
        .query_row([device.to_string()], read)
        .optional()
}

/// The newest saga of a device.
pub fn newest_saga(connection: &Connection, device: DeviceId) -> Result<Option<SagaId>> {
    let found: Option<Option<String>> = connection
        .prepare_cached("SELECT saga_id FROM device WHERE device_id = ?1")?
        .query_row([device.to_string()], |row| row.get(0))
        .optional()?;
    found.flatten().map(|id| id.parse().map_err(unreadable)).transpose()
}

/// Whether the user has a living device of that name.
pub fn name_taken(connection: &Connection, user: &UserId, name: &str) -> Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM device WHERE user_id = ?1 AND name = ?2 AND deleted_at IS NULL")?
        .exists(params![user.as_str(), name])
}

/// Inserts a new device.
pub fn insert(connection: &Connection, device: &DeviceRow) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO device(device_id, name, user_id, host_id, status, spec, labels, cpu_cores, memory_mb,
                generation, attempt, wish, boot_count, data_epoch, command_dirty, saga_id,
                created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0, ?15, ?16, ?16)",
        )?
        .execute(params![
            device.device_id.to_string(),
            device.name,
            device.user_id.as_str(),
            device.host_id.as_str(),
            device.status.name(),
            json(&device.spec)?,
            json(&device.labels)?,
            device.spec.cpu_cores,
            device.spec.memory_mb as i64,
            device.generation as i64,
            device.attempt,
            device.wish.name(),
            device.boot_count,
            device.data_epoch,
            device.saga_id.as_ref().map(SagaId::as_str),
            device.created_at.0
        ])
        .map(|_| ())
}

/// Writes back everything that may change after the insert.
pub fn update(connection: &Connection, device: &DeviceRow, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE device SET status = ?2, generation = ?3, attempt = ?4, wish = ?5, boot_count = ?6,
                data_epoch = ?7, command_seq = ?8, command_dirty = ?9, answered_generation = ?10,
                answered_attempt = ?11, answer = ?12, phase = ?13, adb_port = ?14, webrtc_port = ?15,
                container_id = ?16, reason_code = ?17, reason_detail = ?18, starts = ?19, saga_id = ?20,
                updated_at = ?21, deleted_at = ?22, question = ?23
             WHERE device_id = ?1",
        )?
        .execute(params![
            device.device_id.to_string(),
            device.status.name(),
            device.generation as i64,
            device.attempt,
            device.wish.name(),
            device.boot_count,
            device.data_epoch,
            device.command_seq.map(|seq| seq as i64),
            device.command_dirty,
            device.answered.0 as i64,
            device.answered.1,
            device.answer.as_ref().map(json).transpose()?,
            device.phase.map(Phase::name),
            device.ports.map(|ports| ports.adb),
            device.ports.map(|ports| ports.webrtc),
            device.container_id,
            device.reason.as_ref().map(|reason| &reason.code),
            device.reason.as_ref().map(|reason| &reason.detail),
            device.starts as i64,
            device.saga_id.as_ref().map(SagaId::as_str),
            now.0,
            device.deleted_at.map(|at| at.0),
            device.question.map(|question| question.0 as i64)
        ])
        .map(|_| ())
}

/// Takes over what the host says.
pub fn set_facts(device: &mut DeviceRow, facts: &DeviceFacts) {
    device.phase = Some(facts.phase);
    device.ports = facts.ports;
    device.container_id.clone_from(&facts.container_id);
    device.reason.clone_from(&facts.reason);
    device.starts = facts.starts;
    // Higher than this database knows: it was restored, and the next reset or reboot has to
    // be above what the host has done already.
    device.boot_count = device.boot_count.max(facts.boot_count);
    device.data_epoch = device.data_epoch.max(facts.data_epoch);
}

/// Devices of a host whose command is acknowledged by `through`.
pub fn acknowledged(connection: &Connection, host: &HostId, through: u64) -> Result<Vec<DeviceRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM device WHERE host_id = ?1 AND (command_seq IS NOT NULL OR command_dirty = 1)
                AND command_seq <= ?2"
        ))?
        .query_map(params![host.as_str(), through as i64], read)?
        .collect()
}

/// Every device that a host must know of: the living, and those whose removal is not
/// confirmed.
pub fn wanted_on(connection: &Connection, host: &HostId) -> Result<Vec<DeviceRow>> {
    connection
        .prepare_cached(&format!(
            // Two short ranges of an index each: a host's past is much longer than its present.
            "SELECT {COLUMNS} FROM device WHERE host_id = ?1 AND deleted_at IS NULL
             UNION ALL
             SELECT {COLUMNS} FROM device WHERE host_id = ?1 AND deleted_at IS NOT NULL
                AND (phase IS NOT 'absent' OR command_seq IS NOT NULL OR command_dirty = 1)
             ORDER BY device_id"
        ))?
        .query_map([host.as_str()], read)?
        .collect()
}
