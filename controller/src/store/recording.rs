//! Recordings as rows: what they shall be, what their host knows, what they take of a quota.

mod list;

pub use list::{Filter, page};

use super::{Result, json, unreadable};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::{DeviceId, HostId, RecordingId, UserId};
use phonefleet_protocol::recording::{
    DesiredRecording, EndCause, RecordingPhase, RecordingSpec, RecordingWish,
};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Newest whole videos that the mean duration is taken of: a bounded piece of an index.
const MEAN_OF: u32 = 10_000;

/// What users see of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = RecordingStatus)]
pub enum Status {
    /// Accepted; its process may or may not be there yet.
    Starting,
    /// Its process runs.
    Recording,
    /// It ends, and its file is fetched and checked.
    Stopping,
    /// The video is whole.
    Final,
    /// The bytes are kept, and are no whole video; the reason says why.
    Corrupt,
    /// There is no video; the reason says why.
    Failed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Recording, Self::Stopping, Self::Final, Self::Corrupt, Self::Failed];

    /// The name in the database and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Recording => "RECORDING",
            Self::Stopping => "STOPPING",
            Self::Final => "FINAL",
            Self::Corrupt => "CORRUPT",
            Self::Failed => "FAILED",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Nothing more will happen to it.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Starting | Self::Recording | Self::Stopping => false,
            Self::Final | Self::Corrupt | Self::Failed => true,
        }
    }
}

/// One recording.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingRow {
    /// Its id.
    pub recording_id: RecordingId,
    /// Of which device.
    pub device_id: DeviceId,
    /// On which host.
    pub host_id: HostId,
    /// Whose it is.
    pub user_id: UserId,
    /// What users see.
    pub status: Status,
    /// How to record; `None` where only the host knows it.
    pub spec: Option<RecordingSpec>,
    /// First heard of from its host: this database was restored to a time before its order.
    pub adopted: bool,
    /// What it shall be.
    pub wish: RecordingWish,
    /// Not begun after this moment.
    pub not_after: Timestamp,
    /// Number of its unacknowledged command.
    pub command_seq: Option<u64>,
    /// A newer wish waits for that acknowledgement.
    pub command_dirty: bool,
    /// Where its host says it stands; `None` while it has said nothing.
    pub phase: Option<RecordingPhase>,
    /// When its process began, by the host's clock.
    pub started_at: Option<Timestamp>,
    /// When its process was found ended, by the host's clock.
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub end_cause: Option<EndCause>,
    /// Length of the video, ms.
    pub duration_ms: Option<u64>,
    /// Size of the kept file.
    pub bytes: Option<u64>,
    /// SHA-256 of the kept file, 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// Why it is CORRUPT or FAILED.
    pub reason: Option<Reason>,
    /// What it takes of its user's `recordingBytes`.
    pub quota_bytes: u64,
    /// Accepted, or first heard of.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Its end became known, by this clock.
    pub over_at: Option<Timestamp>,
}

impl RecordingRow {
    /// The wish as its host gets it. A host that is told of one that it began itself keeps
    /// its own spec.
    pub fn desired(&self) -> DesiredRecording {
        DesiredRecording {
            recording_id: self.recording_id,
            device_id: self.device_id,
            wish: self.wish,
            not_after: self.not_after,
            spec: self.spec.unwrap_or_default(),
        }
    }
}

const COLUMNS: &str = "recording_id, device_id, host_id, user_id, status, spec, adopted, wish, not_after,
    command_seq, command_dirty, phase, started_at, ended_at, end_cause, duration_ms, bytes, sha256,
    reason_code, reason_detail, quota_bytes, created_at, updated_at, over_at";

fn read(row: &Row<'_>) -> Result<RecordingRow> {
    let text = |index| row.get::<_, String>(index);
    let moment = |index| row.get::<_, Option<i64>>(index).map(|at| at.map(Timestamp));
    let whole = |index| row.get::<_, Option<i64>>(index).map(|number| number.map(|n| n as u64));
    let name = |index| row.get::<_, Option<String>>(index);
    let (status, wish) = (text(4)?, text(7)?);
    let reason = match (name(18)?, name(19)?) {
        (Some(code), Some(detail)) => Some(Reason { code, detail }),
        _ => None,
    };
    Ok(RecordingRow {
        recording_id: text(0)?.parse().map_err(unreadable)?,
        device_id: text(1)?.parse().map_err(unreadable)?,
        host_id: text(2)?.parse().map_err(unreadable)?,
        user_id: text(3)?.parse().map_err(unreadable)?,
        status: Status::from_name(&status).ok_or_else(|| unreadable(format!("recording status {status}")))?,
        spec: name(5)?.map(|text| serde_json::from_str(&text)).transpose().map_err(unreadable)?,
        adopted: row.get(6)?,
        wish: RecordingWish::from_name(&wish).ok_or_else(|| unreadable(format!("wish {wish}")))?,
        not_after: Timestamp(row.get(8)?),
        command_seq: whole(9)?,
        command_dirty: row.get(10)?,
        phase: name(11)?.and_then(|name| RecordingPhase::from_name(&name)),
        started_at: moment(12)?,
        ended_at: moment(13)?,
        end_cause: name(14)?.and_then(|name| EndCause::from_name(&name)),
        duration_ms: whole(15)?,
        bytes: whole(16)?,
        sha256: name(17)?,
        reason,
        quota_bytes: row.get::<_, i64>(20)? as u64,
        created_at: Timestamp(row.get(21)?),
        updated_at: Timestamp(row.get(22)?),
        over_at: moment(23)?,
    })
}

/// One recording by id.
pub fn find(connection: &Connection, recording: RecordingId) -> Result<Option<RecordingRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM recording WHERE recording_id = ?1"))?
        .query_row([recording.to_string()], read)
        .optional()
}

/// Recordings of a device that have not ended: one, or more after a restore.
pub fn active_of(connection: &Connection, device: DeviceId) -> Result<Vec<RecordingRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recording WHERE device_id = ?1 AND over_at IS NULL ORDER BY recording_id"
        ))?
        .query_map([device.to_string()], read)?
        .collect()
}

/// Recordings on a host that have not ended.
pub fn active_on(connection: &Connection, host: &HostId) -> Result<Vec<RecordingRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recording WHERE host_id = ?1 AND over_at IS NULL ORDER BY recording_id"
        ))?
        .query_map([host.as_str()], read)?
        .collect()
}

/// Recordings on a host whose videos were deleted by order.
pub fn deleted_on(connection: &Connection, host: &HostId) -> Result<Vec<RecordingRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recording WHERE host_id = ?1 AND wish = 'deleted' ORDER BY recording_id"
        ))?
        .query_map([host.as_str()], read)?
        .collect()
}

/// Inserts a recording if its user's recordings, with it, stay within `most` bytes.
/// `false`: they would not.
pub fn insert(connection: &Connection, row: &RecordingRow, most: Option<u64>) -> Result<bool> {
    connection
        .prepare_cached(
            "INSERT INTO recording(recording_id, device_id, host_id, user_id, status, spec, adopted, wish,
                not_after, command_dirty, quota_bytes, created_at, updated_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10, ?11, ?11
             WHERE ?12 IS NULL
                OR (SELECT coalesce(sum(quota_bytes), 0) FROM recording WHERE user_id = ?4) + ?10 <= ?12",
        )?
        .execute(params![
            row.recording_id.to_string(),
            row.device_id.to_string(),
            row.host_id.as_str(),
            row.user_id.as_str(),
            row.status.name(),
            row.spec.as_ref().map(json).transpose()?,
            row.adopted,
            row.wish.name(),
            row.not_after.0,
            row.quota_bytes as i64,
            row.created_at.0,
            most.map(|most| i64::try_from(most).unwrap_or(i64::MAX))
        ])
        .map(|inserted| inserted == 1)
}

/// Writes back everything that may change after the insert.
pub fn update(connection: &Connection, row: &RecordingRow, now: Timestamp) -> Result<()> {
    let moment = |at: Option<Timestamp>| at.map(|at| at.0);
    let whole = |number: Option<u64>| number.map(|n| n as i64);
    connection
        .prepare_cached(
            "UPDATE recording SET status = ?2, wish = ?3, command_seq = ?4, command_dirty = ?5, phase = ?6,
                started_at = ?7, ended_at = ?8, end_cause = ?9, duration_ms = ?10, bytes = ?11, sha256 = ?12,
                reason_code = ?13, reason_detail = ?14, quota_bytes = ?15, updated_at = ?16, over_at = ?17
             WHERE recording_id = ?1",
        )?
        .execute(params![
            row.recording_id.to_string(),
            row.status.name(),
            row.wish.name(),
            whole(row.command_seq),
            row.command_dirty,
            row.phase.map(RecordingPhase::name),
            moment(row.started_at),
            moment(row.ended_at),
            row.end_cause.map(EndCause::name),
            whole(row.duration_ms),
            whole(row.bytes),
            row.sha256,
            row.reason.as_ref().map(|reason| &reason.code),
            row.reason.as_ref().map(|reason| &reason.detail),
            row.quota_bytes as i64,
            now.0,
            moment(row.over_at)
        ])
        .map(|_| ())
}

/// Recordings of a host whose command is acknowledged by `through`.
pub fn acknowledged(connection: &Connection, host: &HostId, through: u64) -> Result<Vec<RecordingRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recording WHERE host_id = ?1
                AND (command_seq IS NOT NULL OR command_dirty = 1) AND command_seq <= ?2"
        ))?
        .query_map(params![host.as_str(), through as i64], read)?
        .collect()
}

/// A snapshot carries the newest of everything: no command of this host is pending.
pub fn nothing_pending(connection: &Connection, host: &HostId) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE recording SET command_seq = NULL, command_dirty = 0
             WHERE host_id = ?1 AND (command_seq IS NOT NULL OR command_dirty = 1)",
        )?
        .execute([host.as_str()])
        .map(|_| ())
}

/// What the recordings of a user take of `recordingBytes`.
pub fn quota_bytes(connection: &Connection, user: &UserId) -> Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(sum(quota_bytes), 0) FROM recording WHERE user_id = ?1")?
        .query_row([user.as_str()], |row| row.get::<_, i64>(0).map(|sum| sum as u64))
}

/// Numbers over all recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Recordings that have not ended.
    pub active: u64,
    /// Recorder processes that hosts found without a row, since their agents began.
    pub orphans: u64,
    /// Mean length of the newest whole videos, seconds; `None` while there are none.
    pub mean_duration_seconds: Option<f64>,
}

/// Sums up.
pub fn summary(connection: &Connection) -> Result<Summary> {
    let count = |sql: &str| -> Result<u64> {
        connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0).map(|n| n as u64))
    };
    let mean = connection
        .prepare_cached(
            "SELECT avg(duration_ms) / 1000.0 FROM (SELECT duration_ms FROM recording
                WHERE status = 'FINAL' ORDER BY recording_id DESC LIMIT ?1)",
        )?
        .query_row([MEAN_OF], |row| row.get(0))?;
    Ok(Summary {
        active: count("SELECT count(*) FROM recording WHERE over_at IS NULL")?,
        // What a host claims is bounded, or one of them could make the sum overflow.
        orphans: count(
            "SELECT coalesce(sum(CAST(min(coalesce(json_extract(heartbeat, '$.orphanRecorders'), 0), 1000000000)
                AS INTEGER)), 0) FROM host WHERE forgotten_at IS NULL AND heartbeat IS NOT NULL",
        )?,
        mean_duration_seconds: mean,
    })
}

/// An inventory of a host begins: nothing of it was seen yet.
pub fn inventory_begin(connection: &Connection, host: &HostId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM inventory_recording_seen WHERE host_id = ?1")?
        .execute([host.as_str()])
        .map(|_| ())
}

/// The inventory named this recording.
pub fn inventory_see(connection: &Connection, host: &HostId, recording: RecordingId) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO inventory_recording_seen(host_id, recording_id) VALUES (?1, ?2)",
        )?
        .execute(params![host.as_str(), recording.to_string()])
        .map(|_| ())
}

/// The inventory is complete: active recordings of the host that it has not named.
pub fn inventory_end(connection: &Connection, host: &HostId) -> Result<Vec<RecordingRow>> {
    let unseen = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recording r WHERE host_id = ?1 AND over_at IS NULL
                AND NOT EXISTS (SELECT 1 FROM inventory_recording_seen s
                    WHERE s.host_id = r.host_id AND s.recording_id = r.recording_id)"
        ))?
        .query_map([host.as_str()], read)?
        .collect::<Result<_>>()?;
    inventory_begin(connection, host)?;
    Ok(unseen)
}

/// Deletes up to `chunk` recordings whose end was known before `before` and whose videos are no
/// longer kept; that of a host which does not tell how long it keeps them counts as such.
pub fn prune(connection: &Connection, before: Timestamp, chunk: u32) -> Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM recording WHERE recording_id IN
                (SELECT recording_id FROM recording WHERE over_at < ?1 AND quota_bytes = 0
                 UNION ALL
                 SELECT r.recording_id FROM host h CROSS JOIN recording r ON r.host_id = h.host_id
                 WHERE json_extract(h.report, '$.content.keepDays') IS NULL
                    AND r.over_at < ?1 AND r.over_at IS NOT NULL AND r.quota_bytes > 0
                 LIMIT ?2)",
        )?
        .execute(params![before.0, chunk])
}

/// Recordings of a host whose videos it keeps.
pub fn kept_on(connection: &Connection, host: &HostId) -> Result<Vec<RecordingRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM recording WHERE host_id = ?1 AND over_at IS NOT NULL AND quota_bytes > 0"
        ))?
        .query_map([host.as_str()], read)?
        .collect()
}

/// Gives back what up to `chunk` videos took that their hosts no longer keep, by the days that
/// those tell; `slack` is how much later than its time a host may delete one.
pub fn release_expired(
    connection: &Connection,
    now: Timestamp,
    slack: Duration,
    chunk: u32,
) -> Result<usize> {
    let slack = i64::try_from(slack.as_millis()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "UPDATE recording SET quota_bytes = 0 WHERE recording_id IN
                (SELECT r.recording_id FROM host h CROSS JOIN recording r ON r.host_id = h.host_id
                 WHERE r.over_at < ?1 - json_extract(h.report, '$.content.keepDays') * 86400000
                    AND r.over_at IS NOT NULL AND r.quota_bytes > 0 LIMIT ?2)",
        )?
        .execute(params![now.0.saturating_sub(slack), chunk])
}
