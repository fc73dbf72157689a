//! Orders of recordings. Each is one transaction; one that is refused has changed nothing.

use super::{apply, desire};
use crate::fleet::presence::{self, HostStatus};
use crate::quota::{Exceeded, Policy};
use crate::store::device::{self as devices, Status as DeviceStatus};
use crate::store::recording::{self as table, RecordingRow, Status};
use crate::store::{Tx, host, saga as sagas};
use phonefleet_protocol::id::{DeviceId, HostId, IdSource, RecordingId, SagaId};
use phonefleet_protocol::recording::{LONGEST, RecordingSpec, RecordingWish};
use phonefleet_protocol::spec::FieldFault;
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// A recording is not begun later than this after its order. It is as long as a host may be
/// silent and still count as ONLINE: one that was lost just before the order, and comes back
/// later, must not record what nobody wants to see any more.
pub const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// Why an order was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Fields are wrong: fix them.
    #[error("the recording cannot be made: {}", .0.iter().map(|fault| fault.detail.as_str()).collect::<Vec<_>>().join("; "))]
    InvalidSpec(Vec<FieldFault>),
    /// There is no such device.
    #[error("there is no device {0}")]
    NoDevice(DeviceId),
    /// There is no such recording.
    #[error("there is no recording {0}; recordings are kept 30 days after their end")]
    NotFound(RecordingId),
    /// One is running.
    #[error("recording {0} of this device runs; stop it, or wait for its end")]
    Active(RecordingId),
    /// It runs: there is no video to delete yet.
    #[error("recording {0} has not ended; stop it, then delete it")]
    NotEnded(RecordingId, &'static str),
    /// A saga is working on the device.
    #[error("{saga_type} is working on this device; wait until saga {saga_id} has ended")]
    Busy {
        /// The saga.
        saga_id: SagaId,
        /// Its type.
        saga_type: String,
    },
    /// The device does not run.
    #[error("a device that is {0} cannot be recorded; start it first")]
    NotRunning(&'static str),
    /// It does not fit into the user's quota.
    #[error(transparent)]
    QuotaExceeded(#[from] Exceeded),
    /// Nobody would hear of it in time.
    #[error("host {0} of this device is not online, and a recording does not wait; try again when it is")]
    HostAway(HostId),
    /// SQLite refuses.
    #[error(transparent)]
    Sqlite(#[from] phonefleet_store::rusqlite::Error),
}

/// Accepts a recording: spec, device, quota, host, row and command, all or nothing.
pub fn start(
    tx: &mut Tx<'_>,
    policy: Policy,
    device_id: DeviceId,
    spec: RecordingSpec,
    ids: &dyn IdSource,
    now: Timestamp,
) -> Result<RecordingRow, RecordingError> {
    let faults = faults(&spec);
    if !faults.is_empty() {
        return Err(RecordingError::InvalidSpec(faults));
    }
    let device = devices::find(tx, device_id)?
        .filter(|device| device.deleted_at.is_none())
        .ok_or(RecordingError::NoDevice(device_id))?;
    if let Some(active) = table::active_of(tx, device_id)?.first() {
        return Err(RecordingError::Active(active.recording_id));
    }
    if let Some(saga_id) = &device.saga_id
        && let Some(saga) = sagas::find(tx, saga_id)?.filter(|saga| !saga.status.is_terminal())
    {
        return Err(RecordingError::Busy { saga_id: saga.saga_id, saga_type: saga.saga_type });
    }
    if device.status != DeviceStatus::Running {
        return Err(RecordingError::NotRunning(device.status.name()));
    }
    let mut row = RecordingRow {
        recording_id: RecordingId(ids.uuid(now)),
        device_id,
        host_id: device.host_id,
        user_id: device.user_id,
        status: Status::Starting,
        spec: Some(spec),
        adopted: false,
        wish: RecordingWish::Recording,
        not_after: now.after(BEGINS_WITHIN),
        command_seq: None,
        command_dirty: false,
        phase: None,
        started_at: None,
        ended_at: None,
        end_cause: None,
        duration_ms: None,
        bytes: None,
        sha256: None,
        reason: None,
        quota_bytes: spec.expected_bytes(),
        created_at: now,
        updated_at: now,
        over_at: None,
    };
    let most = policy.limits(tx, &row.user_id)?.recording_bytes;
    if !table::insert(tx, &row, most)? {
        return Err(RecordingError::QuotaExceeded(Exceeded {
            limit: "recordingBytes",
            allowed: most.unwrap_or(u64::MAX) as f64,
            used: table::quota_bytes(tx, &row.user_id)? as f64,
            needed: row.quota_bytes as f64,
            user_id: row.user_id,
        }));
    }
    let host = host::find(tx, &row.host_id)?;
    let online = |host| presence::status(&host, Duration::MAX, now) == HostStatus::Online;
    if !host.is_some_and(online) {
        return Err(RecordingError::HostAway(row.host_id));
    }
    desire::tell(tx, &mut row, now)?;
    apply::announce(tx, &row, "recording.ordered", now)?;
    Ok(row)
}

/// Accepts a stop. Repeated, or after the end, it changes nothing.
pub fn stop(
    tx: &mut Tx<'_>,
    recording_id: RecordingId,
    now: Timestamp,
) -> Result<RecordingRow, RecordingError> {
    let mut row = table::find(tx, recording_id)?.ok_or(RecordingError::NotFound(recording_id))?;
    desire::stop(tx, &mut row, now)?;
    Ok(row)
}

/// Accepts the deletion of an ended recording's video; its row stays, as its history.
/// Repeated, it changes nothing.
pub fn delete(
    tx: &mut Tx<'_>,
    recording_id: RecordingId,
    now: Timestamp,
) -> Result<RecordingRow, RecordingError> {
    let mut row = table::find(tx, recording_id)?.ok_or(RecordingError::NotFound(recording_id))?;
    if !row.status.is_terminal() {
        return Err(RecordingError::NotEnded(recording_id, row.status.name()));
    }
    if desire::delete(tx, &mut row, now)? {
        apply::announce(tx, &row, "recording.deleted", now)?;
    }
    Ok(row)
}

/// What is wrong with a spec, in the words of this API.
fn faults(spec: &RecordingSpec) -> Vec<FieldFault> {
    let mut faults = spec.faults();
    if u64::from(spec.max_duration_seconds) > LONGEST.as_secs() {
        for fault in faults.iter_mut().filter(|fault| fault.pointer == "/maxDurationSeconds") {
            fault.detail = format!(
                "maxDurationSeconds must be between 1 and {}: recordings of hours are not supported yet; start \
                 another one when this one ends",
                LONGEST.as_secs()
            );
        }
    }
    faults
}
