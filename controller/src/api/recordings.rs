//! `/recordings`: orders of recordings, their stop, and what became of them.

use super::answer::{Answer, Envelope};
use super::body::{parse, parse_optional};
use super::devices::{Nothing, device_id};
use super::idempotency::Call;
use super::openapi::Refusals;
use super::page::{Page, Window, parameter, query};
use super::problem::{Code, Problem};
use super::recording_view::{RecordingView, Sizes, SummaryView};
use super::{Api, Named};
use crate::recording::order::{self, RecordingError};
use crate::store::recording::{self as table, Filter, Status};
use axum::extract::State;
use axum::http::Uri;
use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::recording::{RecordingSpec, VideoSize};
use phonefleet_protocol::spec::FieldFault;
use serde::{Deserialize, Serialize};

/// An order of a recording. Every field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRecordingBody {
    /// Time limit in seconds. Default 180, which is the most so far.
    #[schema(minimum = 1, maximum = 180)]
    max_duration_seconds: Option<u32>,
    /// Bits a second. Default 4000000.
    #[schema(minimum = 100_000, maximum = 200_000_000)]
    bit_rate: Option<u32>,
    /// `WIDTHxHEIGHT` in pixels, both even, 16 to 7680. Default: that of the display.
    #[schema(
        example = "720x1280",
        pattern = "^(1[68]|[2-9][02468]|[1-9][0-9][02468]|[1-6][0-9]{2}[02468]|7[0-5][0-9][02468]|76[0-7][02468]|7680)x(1[68]|[2-9][02468]|[1-9][0-9][02468]|[1-6][0-9]{2}[02468]|7[0-5][0-9][02468]|76[0-7][02468]|7680)$"
    )]
    size: Option<String>,
}

impl NewRecordingBody {
    fn spec(self) -> Result<RecordingSpec, Problem> {
        let usual = RecordingSpec::default();
        let size = match self.size.as_deref() {
            None => None,
            Some(text) => Some(size(text).ok_or_else(|| {
                let detail = "size must be WIDTHxHEIGHT in pixels, such as 720x1280";
                Problem::fields(Code::InvalidSpec, vec![FieldFault::new("/size", detail)])
            })?),
        };
        Ok(RecordingSpec {
            max_duration_seconds: self.max_duration_seconds.unwrap_or(usual.max_duration_seconds),
            bit_rate: self.bit_rate.unwrap_or(usual.bit_rate),
            size,
        })
    }
}

/// Digits, `x`, digits.
fn size(text: &str) -> Option<VideoSize> {
    let pixels = |text: &str| {
        let digits = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let (width, height) = text.split_once('x')?;
    Some(VideoSize { width: pixels(width)?, height: pixels(height)? })
}

/// What an accepted order answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderedRecording {
    /// Its id.
    recording_id: String,
    /// The recording as it now stands.
    recording: RecordingView,
}

/// One page of recordings, and numbers over all of them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordingPage {
    /// The recordings.
    items: Vec<RecordingView>,
    /// What to give as `cursor` for the next page; `null` on the last one.
    next_cursor: Option<String>,
    /// Numbers over all recordings.
    summary: SummaryView,
}

impl From<RecordingError> for Problem {
    fn from(error: RecordingError) -> Self {
        let detail = error.to_string();
        match error {
            RecordingError::InvalidSpec(faults) => Self::fields(Code::InvalidSpec, faults),
            RecordingError::NoDevice(_) => Self::new(Code::DeviceNotFound, detail),
            RecordingError::NotFound(_) => Self::new(Code::RecordingNotFound, detail),
            RecordingError::Active(id) => {
                Self::new(Code::Conflict, detail).with("recordingId", id.to_string())
            }
            RecordingError::NotEnded(_, status) => {
                Self::new(Code::Conflict, detail).with("recordingStatus", status)
            }
            RecordingError::Busy { saga_id, saga_type } => {
                Self::new(Code::Conflict, detail).with("sagaId", saga_id.as_str()).with("sagaType", saga_type)
            }
            RecordingError::NotRunning(status) => {
                Self::new(Code::Conflict, detail).with("deviceStatus", status)
            }
            RecordingError::QuotaExceeded(exceeded) => Self::new(Code::QuotaExceeded, detail)
                .with("limit", exceeded.limit)
                .with("allowed", exceeded.allowed)
                .with("used", exceeded.used)
                .with("needed", exceeded.needed),
            RecordingError::HostAway(host) => {
                Self::new(Code::HostUnreachable, detail).with("hostId", host.as_str()).retry_after(10)
            }
            RecordingError::Sqlite(error) => error.into(),
        }
    }
}

/// Reads the id in a path.
pub(super) fn recording_id(text: &str) -> Result<RecordingId, Problem> {
    text.parse().map_err(|error| {
        Problem::new(Code::RecordingNotFound, format!("there is no such recording: {error}"))
    })
}

/// Records a running device. Of several reasons to refuse, the first is told: 400
/// `INVALID_SPEC`, 404, 409 `CONFLICT` (with the `recordingId` that runs, or the `sagaId` that
/// works on the device, or the `deviceStatus`), 403 `QUOTA_EXCEEDED`, 503 `HOST_UNREACHABLE`.
#[utoipa::path(post, path = "/devices/{id}/recordings", tag = "recordings",
    params(("id" = String, Path, description = "Id of the device"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    request_body(content = Option<NewRecordingBody>, description = "May be empty: everything has a default"),
    responses((status = 202, description = "Accepted; not begun yet, and not begun later than 30 s from now",
        body = Envelope<OrderedRecording>), Refusals))]
pub async fn start(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    let device = device_id(&id)?;
    // Described as a body that may be null.
    let body = if matches!(call.body.trim_ascii(), b"" | b"null") {
        NewRecordingBody::default()
    } else {
        parse(&call.body, Code::InvalidSpec)?
    };
    let spec = body.spec()?;
    let handle = api.handle.clone();
    call.that_grows()
        .once(&api, None, move |tx, now| {
            let row = order::start(tx, handle.settings.quota, device, spec, &*handle.ids, now)?;
            let recording_id = row.recording_id.to_string();
            let message = format!("recording {recording_id} begins");
            let recording = Sizes::default().view(tx, row, now)?;
            Answer::accepted(&OrderedRecording { recording_id, recording }, message)
        })
        .await
}

/// Ends a recording; what it has is made whole. Repeated, or after its end, it changes nothing.
#[utoipa::path(post, path = "/recordings/{id}/stop", tag = "recordings",
    params(("id" = String, Path, description = "Id of the recording"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 202, description = "The recording as it now stands",
        body = Envelope<OrderedRecording>), Refusals))]
pub async fn stop(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    let recording = recording_id(&id)?;
    let Nothing {} = parse_optional(&call.body)?;
    call.once(&api, None, move |tx, now| {
        let row = order::stop(tx, recording, now)?;
        let recording_id = row.recording_id.to_string();
        let message = format!("recording {recording_id} is {}", row.status.name());
        let recording = Sizes::default().view(tx, row, now)?;
        Answer::accepted(&OrderedRecording { recording_id, recording }, message)
    })
    .await
}

/// Deletes the video of a recording that has ended. Its bytes are given back to the quota at
/// once, and its host deletes the file when it hears of it; the recording itself stays listed,
/// with `deleted`. Repeated, it changes nothing. One that has not ended is 409 `CONFLICT`.
#[utoipa::path(delete, path = "/recordings/{id}", tag = "recordings",
    params(("id" = String, Path, description = "Id of the recording"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 202, description = "The recording as it now stands",
        body = Envelope<OrderedRecording>), Refusals))]
pub async fn delete(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    let recording = recording_id(&id)?;
    let Nothing {} = parse_optional(&call.body)?;
    call.once(&api, None, move |tx, now| {
        let row = order::delete(tx, recording, now)?;
        let recording_id = row.recording_id.to_string();
        let message = format!("the video of recording {recording_id} is deleted");
        let recording = Sizes::default().view(tx, row, now)?;
        Answer::accepted(&OrderedRecording { recording_id, recording }, message)
    })
    .await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    device_id: Option<String>,
    user_id: Option<String>,
    status: Option<String>,
    active: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<Filter, Problem> {
        let status = match self.status.as_deref() {
            None => None,
            Some(name) => Some(Status::from_name(name).ok_or_else(|| {
                let names: Vec<_> = Status::ALL.iter().map(|status| status.name()).collect();
                Problem::new(Code::InvalidQuery, format!("status must be one of {}", names.join(", ")))
            })?),
        };
        let active = match self.active.as_deref() {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => return Err(Problem::new(Code::InvalidQuery, "active must be true or false")),
        };
        Ok(Filter {
            device_id: parameter("deviceId", self.device_id.as_deref())?,
            user_id: parameter("userId", self.user_id.as_deref())?,
            status,
            active,
        })
    }
}

/// Lists recordings, the oldest first, with numbers over all of them. Recordings are kept
/// 30 days after their end.
#[utoipa::path(get, path = "/recordings", tag = "recordings",
    params(("deviceId" = Option<String>, Query, description = "Of this device only"),
        ("userId" = Option<String>, Query, description = "Of this user only"),
        ("status" = Option<Status>, Query, description = "With this status only"),
        ("active" = Option<bool>, Query, description = "Only those that have not ended; or only those that have"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before")),
    responses((status = 200, description = "A page", body = Envelope<RecordingPage>), Refusals))]
pub async fn list(State(api): State<Api>, uri: Uri) -> Result<Answer, Problem> {
    let query: ListQuery = query(&uri)?;
    let filter = query.filter()?;
    let window = Window::new::<RecordingId>(query.limit.as_deref(), query.cursor.as_deref())?;
    let now = api.clock().now();
    let page = api
        .read(move |connection| {
            let rows = table::page(connection, &filter, &window.after, window.rows())?;
            let rows = Page::of(rows, &window, |row| row.recording_id.to_string(), |row| row);
            let mut sizes = Sizes::default();
            let items: Result<Vec<_>, _> =
                rows.items.into_iter().map(|row| sizes.view(connection, row, now)).collect();
            let summary = table::summary(connection)?.into();
            Ok(RecordingPage { items: items?, next_cursor: rows.next_cursor, summary })
        })
        .await?;
    Answer::ok(&page, format!("{} recordings", page.items.len()))
}

/// One recording.
#[utoipa::path(get, path = "/recordings/{id}", tag = "recordings",
    params(("id" = String, Path, description = "Id of the recording")),
    responses((status = 200, description = "The recording", body = Envelope<RecordingView>), Refusals))]
pub async fn find(State(api): State<Api>, Named(id): Named) -> Result<Answer, Problem> {
    let recording = recording_id(&id)?;
    let now = api.clock().now();
    let view = api
        .read(move |connection| {
            let row = table::find(connection, recording)?;
            row.map(|row| Sizes::default().view(connection, row, now)).transpose()
        })
        .await?
        .ok_or_else(|| Problem::from(RecordingError::NotFound(recording)))?;
    Answer::ok(&view, "")
}
