//! A recording as the API shows it.

use super::device_view::ReasonView;
use crate::store::host;
use crate::store::recording::{RecordingRow, Status, Summary};
use phonefleet_protocol::id::{HostId, RecordingId};
use phonefleet_protocol::recording::{EndCause, RecordingWish};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, Error};
use serde::Serialize;
use std::collections::HashMap;

/// One recording.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Recording)]
pub struct RecordingView {
    /// Its id, a UUIDv7.
    id: String,
    /// What it does now.
    status: Status,
    /// The device.
    device_id: String,
    /// Where the device is.
    host_id: String,
    /// Whose it is.
    user_id: String,
    /// How it is made; `null` where only its host knows.
    spec: Option<SpecView>,
    /// When its process began, by its host's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When its process ended, by its host's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// `STOPPED`, `TIME_LIMIT`, `PROCESS_ENDED`, `DEVICE_STOPPED` or `DEVICE_DIED`.
    end_cause: Option<&'static str>,
    /// Length of the video in milliseconds, as its own header says.
    duration_ms: Option<u64>,
    /// Size of the video; of one that runs, at its host's newest heartbeat.
    bytes: Option<u64>,
    /// SHA-256 of the video, hexadecimal.
    sha256: Option<String>,
    /// Why it is CORRUPT or FAILED.
    reason: Option<ReasonView>,
    /// Its video was deleted by order, or given up with its host.
    deleted: bool,
    /// Seconds since its order.
    age_seconds: u64,
    /// Accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// How a recording is made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecordingSpec)]
pub struct SpecView {
    /// Time limit, 1 to 180 s.
    max_duration_seconds: u32,
    /// Bits a second.
    bit_rate: u32,
    /// `WIDTHxHEIGHT` in pixels; `null` is that of the display.
    #[schema(example = "720x1280")]
    size: Option<String>,
}

/// Numbers over all recordings, whatever the list is filtered by.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecordingSummary)]
pub struct SummaryView {
    /// Recordings that have not ended.
    active: u64,
    /// Recorder processes that hosts found without a row and ended, since their agents began.
    orphans: u64,
    /// Mean length of the newest 10000 whole videos; `null` while there are none.
    mean_duration_seconds: Option<f64>,
}

impl From<Summary> for SummaryView {
    fn from(summary: Summary) -> Self {
        let Summary { active, orphans, mean_duration_seconds } = summary;
        Self { active, orphans, mean_duration_seconds }
    }
}

/// What hosts said of the sizes of running recordings, looked up once a page.
#[derive(Debug, Default)]
pub struct Sizes(HashMap<HostId, HashMap<RecordingId, u64>>);

impl Sizes {
    /// Shows a row.
    pub fn view(
        &mut self,
        connection: &Connection,
        row: RecordingRow,
        now: Timestamp,
    ) -> Result<RecordingView, Error> {
        let bytes = match row.bytes {
            None if !row.status.is_terminal() => self.of(connection, &row.host_id, row.recording_id)?,
            known => known,
        };
        Ok(RecordingView {
            id: row.recording_id.to_string(),
            status: row.status,
            device_id: row.device_id.to_string(),
            host_id: row.host_id.into(),
            user_id: row.user_id.into(),
            spec: row.spec.map(|spec| SpecView {
                max_duration_seconds: spec.max_duration_seconds,
                bit_rate: spec.bit_rate,
                size: spec.size.map(|size| format!("{}x{}", size.width, size.height)),
            }),
            started_at: row.started_at,
            ended_at: row.ended_at,
            end_cause: row.end_cause.map(EndCause::name),
            duration_ms: row.duration_ms,
            bytes,
            sha256: row.sha256,
            reason: row.reason.map(ReasonView::from),
            deleted: row.wish == RecordingWish::Deleted,
            age_seconds: now.since(row.created_at).as_secs(),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }

    fn of(
        &mut self,
        connection: &Connection,
        host: &HostId,
        recording: RecordingId,
    ) -> Result<Option<u64>, Error> {
        if !self.0.contains_key(host) {
            let heartbeat = host::find(connection, host)?.and_then(|row| row.heartbeat);
            let sizes = heartbeat.into_iter().flat_map(|heartbeat| heartbeat.recordings);
            self.0.insert(
                host.clone(),
                sizes.map(|progress| (progress.recording_id, progress.bytes)).collect(),
            );
        }
        Ok(self.0.get(host).and_then(|sizes| sizes.get(&recording).copied()))
    }
}
