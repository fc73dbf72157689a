//! Sagas and their history as rows.

mod list;

pub use list::page;

use super::{Result, unreadable};
use phonefleet_protocol::id::{DeviceId, HostId, SagaId};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SagaStatus {
    /// Going forward.
    Running,
    /// Going back.
    Compensating,
    /// Every step is done.
    Completed,
    /// Everything is undone; the cause says why.
    Compensated,
    /// Failed, with nothing to undo.
    Failed,
    /// Ran out of time, with nothing to undo.
    Timeout,
    /// Stands still until an operator decides.
    NeedsAttention,
    /// Given up by an operator, or superseded.
    Abandoned,
}

impl SagaStatus {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Compensating,
        Self::Completed,
        Self::Compensated,
        Self::Failed,
        Self::Timeout,
        Self::NeedsAttention,
        Self::Abandoned,
    ];

    /// The name in the database and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Compensating => "COMPENSATING",
            Self::Completed => "COMPLETED",
            Self::Compensated => "COMPENSATED",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::NeedsAttention => "NEEDS_ATTENTION",
            Self::Abandoned => "ABANDONED",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing follows any more.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Running | Self::Compensating | Self::NeedsAttention => false,
            Self::Completed | Self::Compensated | Self::Failed | Self::Timeout | Self::Abandoned => true,
        }
    }
}

/// Why a saga turned round or ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Cause {
    /// A step failed.
    Failed,
    /// The deadline passed.
    Timeout,
    /// Somebody asked for it.
    Cancelled,
}

impl Cause {
    /// The name in the database and the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Cancelled => "CANCELLED",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Failed, Self::Timeout, Self::Cancelled].into_iter().find(|cause| cause.name() == name)
    }
}

/// One saga.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaRow {
    /// Its id.
    pub saga_id: SagaId,
    /// Which definition it follows.
    pub saga_type: String,
    /// Which version of it.
    pub version: u32,
    /// Where it stands.
    pub status: SagaStatus,
    /// What NEEDS_ATTENTION interrupted.
    pub resume_status: Option<SagaStatus>,
    /// Why it turned round.
    pub cause: Option<Cause>,
    /// The step that failed.
    pub failed_step: Option<String>,
    /// What it waits for, by name.
    pub wait_reason: Option<String>,
    /// Index of the current step.
    pub step_index: u32,
    /// Name of the current step.
    pub current_step: String,
    /// The definition's own data, JSON.
    pub state: String,
    /// Retries of the current step.
    pub retry_count: u32,
    /// The newest error.
    pub error_message: Option<String>,
    /// The device it is about.
    pub device_id: Option<DeviceId>,
    /// Events written so far.
    pub event_count: u32,
    /// Backing off until then.
    pub retry_at: Option<Timestamp>,
    /// Its deadline.
    pub timeout_at: Option<Timestamp>,
    /// When the timer must look at it.
    pub due_at: Option<Timestamp>,
    /// Start.
    pub started_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// End.
    pub ended_at: Option<Timestamp>,
}

/// One line of a saga's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SagaEvent {
    /// Its number in this saga, from 1.
    pub seq: u32,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What happened: `started`, `done`, `retry`, `turned`, `compensated`, `ended`, …
    pub kind: String,
    /// At which step.
    pub step: String,
    /// Why, or with what.
    pub detail: Option<String>,
}

const COLUMNS: &str =
    "saga_id, type, version, status, resume_status, cause, failed_step, wait_reason, step_index,
    current_step, state, retry_count, error_message, device_id, event_count, retry_at, timeout_at, due_at,
    started_at, updated_at, ended_at";

fn read(row: &Row<'_>) -> Result<SagaRow> {
    let status = |index| -> Result<Option<SagaStatus>> {
        row.get::<_, Option<String>>(index)?
            .map(|name| SagaStatus::from_name(&name).ok_or_else(|| unreadable(format!("saga status {name}"))))
            .transpose()
    };
    let moment = |index| row.get::<_, Option<i64>>(index).map(|at| at.map(Timestamp));
    Ok(SagaRow {
        saga_id: row.get::<_, String>(0)?.parse().map_err(unreadable)?,
        saga_type: row.get(1)?,
        version: row.get(2)?,
        status: status(3)?.ok_or_else(|| unreadable("saga without a status"))?,
        resume_status: status(4)?,
        cause: row.get::<_, Option<String>>(5)?.and_then(|name| Cause::from_name(&name)),
        failed_step: row.get(6)?,
        wait_reason: row.get(7)?,
        step_index: row.get(8)?,
        current_step: row.get(9)?,
        state: row.get(10)?,
        retry_count: row.get(11)?,
        error_message: row.get(12)?,
        device_id: row.get::<_, Option<String>>(13)?.map(|id| id.parse()).transpose().map_err(unreadable)?,
        event_count: row.get(14)?,
        retry_at: moment(15)?,
        timeout_at: moment(16)?,
        due_at: moment(17)?,
        started_at: Timestamp(row.get(18)?),
        updated_at: Timestamp(row.get(19)?),
        ended_at: moment(20)?,
    })
}

/// One saga by id.
pub fn find(connection: &Connection, saga: &SagaId) -> Result<Option<SagaRow>> {
    // Written out, because this is the hottest statement of the saga engine.
    connection
        .prepare_cached(
            "SELECT saga_id, type, version, status, resume_status, cause, failed_step, wait_reason, step_index,
                current_step, state, retry_count, error_message, device_id, event_count, retry_at, timeout_at,
                due_at, started_at, updated_at, ended_at
             FROM saga_state WHERE saga_id = ?1",
        )?
        .query_row([saga.as_str()], read)
        .optional()
}

/// Inserts a new saga.
pub fn insert(connection: &Connection, saga: &SagaRow) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO saga_state(saga_id, type, version, status, step_index, current_step, state,
                retry_count, device_id, event_count, timeout_at, due_at, started_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?12)",
        )?
        .execute(params![
            saga.saga_id.as_str(),
            saga.saga_type,
            saga.version,
            saga.status.name(),
            saga.step_index,
            saga.current_step,
            saga.state,
            saga.device_id.map(|id| id.to_string()),
            saga.event_count,
            saga.timeout_at.map(|at| at.0),
            saga.due_at.map(|at| at.0),
            saga.started_at.0
        ])
        .map(|_| ())
}

/// Writes back everything that may change after the insert.
pub fn update(connection: &Connection, saga: &SagaRow) -> Result<()> {
    let moment = |at: Option<Timestamp>| at.map(|at| at.0);
    connection
        .prepare_cached(
            "UPDATE saga_state SET status = ?2, resume_status = ?3, cause = ?4, failed_step = ?5,
                wait_reason = ?6, step_index = ?7, current_step = ?8, state = ?9, retry_count = ?10,
                error_message = ?11, event_count = ?12, retry_at = ?13, timeout_at = ?14, due_at = ?15,
                updated_at = ?16, ended_at = ?17
             WHERE saga_id = ?1",
        )?
        .execute(params![
            saga.saga_id.as_str(),
            saga.status.name(),
            saga.resume_status.map(SagaStatus::name),
            saga.cause.map(Cause::name),
            saga.failed_step,
            saga.wait_reason,
            saga.step_index,
            saga.current_step,
            saga.state,
            saga.retry_count,
            saga.error_message,
            saga.event_count,
            moment(saga.retry_at),
            moment(saga.timeout_at),
            moment(saga.due_at),
            saga.updated_at.0,
            moment(saga.ended_at)
        ])
        .map(|_| ())
}

/// Writes back what a finished step changes: nothing that an index holds. An `UPDATE` that
/// names an indexed column takes its entry out and in again, whatever the value.
pub fn update_step(connection: &Connection, saga: &SagaRow) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE saga_state SET wait_reason = ?2, step_index = ?3, current_step = ?4, state = ?5,
                retry_count = ?6, event_count = ?7, retry_at = ?8, updated_at = ?9
             WHERE saga_id = ?1",
        )?
        .execute(params![
            saga.saga_id.as_str(),
            saga.wait_reason,
            saga.step_index,
            saga.current_step,
            saga.state,
            saga.retry_count,
            saga.event_count,
            saga.retry_at.map(|at| at.0),
            saga.updated_at.0
        ])
        .map(|_| ())
}

/// Makes a saga due that neither rests for an operator, nor pauses, nor has ended. `false`:
/// it does one of these.
pub fn make_due(connection: &Connection, saga: &SagaId, now: Timestamp) -> Result<bool> {
    connection
        .prepare_cached(
            "UPDATE saga_state SET due_at = ?2
             WHERE saga_id = ?1 AND status IN ('RUNNING', 'COMPENSATING') AND retry_at IS NULL",
        )?
        .execute(params![saga.as_str(), now.0])
        .map(|changed| changed > 0)
}

/// Appends a line to a saga's story.
pub fn insert_event(connection: &Connection, saga: &SagaId, event: &SagaEvent) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO saga_event(saga_id, seq, at, kind, step, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![saga.as_str(), event.seq, event.at.0, event.kind, event.step, event.detail])
        .map(|_| ())
}

/// A saga's story behind line `after`.
pub fn events(connection: &Connection, saga: &SagaId, after: u32, limit: u32) -> Result<Vec<SagaEvent>> {
    connection
        .prepare_cached(
            "SELECT seq, at, kind, step, detail FROM saga_event WHERE saga_id = ?1 AND seq > ?2
             ORDER BY seq LIMIT ?3",
        )?
        .query_map(params![saga.as_str(), after, limit], |row| {
            Ok(SagaEvent {
                seq: row.get(0)?,
                at: Timestamp(row.get(1)?),
                kind: row.get(2)?,
                step: row.get(3)?,
                detail: row.get(4)?,
            })
        })?
        .collect()
}

/// Ids of sagas that the timer must look at by `now`, the longest overdue first.
pub fn due(connection: &Connection, now: Timestamp, limit: u32) -> Result<Vec<SagaId>> {
    connection
        .prepare_cached("SELECT saga_id FROM saga_state WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2")?
        .query_map(params![now.0, limit], |row| row.get::<_, String>(0)?.parse().map_err(unreadable))?
        .collect()
}

/// When the next saga is due.
pub fn next_due(connection: &Connection) -> Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT min(due_at) FROM saga_state WHERE due_at IS NOT NULL")?
        .query_row([], |row| row.get::<_, Option<i64>>(0).map(|at| at.map(Timestamp)))
}

/// Brings sagas that wait for a moment, and are of a time more than `slack` later than `now`,
/// back to `now`: each waits for as long as it was to. Returns how many.
pub fn take_back(connection: &Connection, now: Timestamp, slack: Duration) -> Result<usize> {
    connection
        .prepare_cached(
            "UPDATE saga_state SET
                retry_at = retry_at - (max(updated_at, started_at) - ?1),
                due_at = due_at - (max(updated_at, started_at) - ?1),
                timeout_at = timeout_at - (max(updated_at, started_at) - ?1),
                started_at = min(started_at, ?1),
                updated_at = min(updated_at, ?1)
             WHERE due_at > ?2 AND max(updated_at, started_at) > ?2",
        )?
        .execute(params![now.0, now.after(slack).0])
}

/// Unfinished sagas of living devices on a host.
pub fn waiting_on(connection: &Connection, host: &HostId) -> Result<Vec<SagaId>> {
    connection
        .prepare_cached(
            "SELECT s.saga_id FROM device d JOIN saga_state s ON s.saga_id = d.saga_id
             WHERE d.host_id = ?1 AND d.deleted_at IS NULL AND s.ended_at IS NULL",
        )?
        .query_map([host.as_str()], |row| row.get::<_, String>(0)?.parse().map_err(unreadable))?
        .collect()
}

/// Unfinished sagas, by type and status.
pub fn count_unfinished(connection: &Connection) -> Result<Vec<(String, String, u64)>> {
    connection
        .prepare_cached(
            "SELECT type, status, count(*) FROM saga_state
             WHERE status IN ('RUNNING', 'COMPENSATING', 'NEEDS_ATTENTION') GROUP BY type, status",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)? as u64)))?
        .collect()
}

/// Deletes up to `chunk` sagas that ended before `before`, with their stories.
pub fn prune(connection: &Connection, before: Timestamp, chunk: u32) -> Result<usize> {
    let ended: Vec<String> = connection
        .prepare_cached("SELECT saga_id FROM saga_state WHERE ended_at < ?1 ORDER BY ended_at LIMIT ?2")?
        .query_map(params![before.0, chunk], |row| row.get(0))?
        .collect::<Result<_>>()?;
    for saga in &ended {
        connection.prepare_cached("DELETE FROM saga_event WHERE saga_id = ?1")?.execute([saga])?;
        connection.prepare_cached("DELETE FROM saga_state WHERE saga_id = ?1")?.execute([saga])?;
    }
    Ok(ended.len())
}
