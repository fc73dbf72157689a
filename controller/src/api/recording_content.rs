//! `/recordings/{id}/content`: the video itself, from a file of this machine, or by an
//! address that its host serves.
//!
//! ```text
//!   row ended? ─no─▶ 409      FAILED ─▶ 410
//!   host on this machine, and its folder's marker says so ─▶ file ─▶ 200, 206 or 416
//!   host has [content] ─▶ 307 to a signed address, good for 5 min
//!   neither ─▶ 503 with what to configure
//! ```

use super::openapi::Refusals;
use super::problem::{Code, Problem};
use super::recordings::recording_id;
use super::{Api, Named};
use crate::recording::content::{self, Whereabouts};
use crate::recording::kept_file::{self, KeptFile, KeptFileError};
use crate::recording::order::RecordingError;
use crate::store::host::{self, HostRow};
use crate::store::recording::{self as table, RecordingRow, Status};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use phonefleet_protocol::byte_range::{Asked, asked};
use phonefleet_protocol::recording::RecordingWish;
use std::fs::File;
use std::io::{self, SeekFrom};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks read ahead of a client.
const CHUNKS_AHEAD: usize = 4;
/// How long a client may take for one chunk before the file is closed under it: one that
/// stopped reading must not keep it open for ever.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// Header that says `FINAL` or `CORRUPT`.
const STATUS_HEADER: &str = "phonefleet-recording-status";

/// The video of a recording that has ended. HEAD is answered too. The bytes of a CORRUPT one
/// are given as they are; the header `Phonefleet-Recording-Status` says so.
#[utoipa::path(get, path = "/recordings/{id}/content", tag = "recordings",
    params(("id" = String, Path, description = "Id of the recording"),
        ("Range" = Option<String>, Header, description = "One range of bytes; several are answered with all of it"),
        ("If-Range" = Option<String>, Header, description = "The ETag that the range is meant of")),
    responses((status = 200, description = "All of it", body = Vec<u8>, content_type = "video/mp4"),
        (status = 206, description = "The range that was asked for", body = Vec<u8>, content_type = "video/mp4"),
        (status = 307, description = "At its host; the address is good for 5 minutes"),
        (status = 409, description = "It has not ended",
            body = super::problem::ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "There is no video, or not any more",
            body = super::problem::ProblemDocument, content_type = "application/problem+json"),
        (status = 416, description = "The video does not have these bytes",
            body = super::problem::ProblemDocument, content_type = "application/problem+json"),
        Refusals))]
pub async fn content(
    State(api): State<Api>,
    Named(id): Named,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = recording_id(&id)?;
    let found = api
        .read(move |connection| {
            let Some(row) = table::find(connection, id)? else { return Ok(None) };
            let host = host::find(connection, &row.host_id)?;
            Ok(Some((row, host)))
        })
        .await?;
    let (row, host) = found.ok_or_else(|| Problem::from(RecordingError::NotFound(id)))?;
    match row.status {
        Status::Starting | Status::Recording | Status::Stopping => {
            let detail = "this recording has not ended; stop it, or wait for its end";
            return Err(Problem::new(Code::Conflict, detail).with("recordingStatus", row.status.name()));
        }
        Status::Failed => {
            let why = row.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            return Err(Problem::new(Code::Gone, format!("this recording has no video{why}")));
        }
        Status::Final | Status::Corrupt => {}
    }
    if row.wish == RecordingWish::Deleted {
        return Err(Problem::new(Code::Gone, "the video of this recording was deleted"));
    }
    let host = host.ok_or_else(|| unavailable(&row))?;
    let now = api.clock().now();
    // A machine without an id cannot tell whether this is its own host: the marker alone says so.
    let own = api.handle.settings.machine_id.as_deref().unwrap_or(host.machine_id.as_str());
    if let Whereabouts::Here(directory) = content::whereabouts(&host, Some(own), &row, now) {
        let (host_id, device) = (host.host_id.clone(), row.device_id);
        let open = move || kept_file::open(&directory, &host_id, device, id);
        let opened = tokio::task::spawn_blocking(open).await;
        match opened
            .map_err(|error| Problem::new(Code::Internal, format!("the file was not opened: {error}")))?
        {
            Ok(file) => return serve(&row, file, &method, &headers).await,
            Err(KeptFileError::Gone) => return Err(gone(&row)),
            Err(error @ KeptFileError::Unreadable(_)) => {
                tracing::error!(recording = %id, %error, "a video cannot be read");
                let detail = "the video is there and cannot be read; the controller's log says why";
                return Err(Problem::new(Code::ContentUnavailable, detail));
            }
            // Not the same machine after all, or a container of it.
            Err(error @ KeptFileError::NotItsFolder(_)) => {
                tracing::debug!(recording = %id, %error, "not served from here");
            }
        }
    }
    elsewhere(&host, &row, content::whereabouts(&host, None, &row, now))
}

fn elsewhere(host: &HostRow, row: &RecordingRow, whereabouts: Whereabouts) -> Result<Response, Problem> {
    if host.forgotten_at.is_some() {
        let detail = "the host of this recording was given up, and its videos with it";
        return Err(Problem::new(Code::Gone, detail));
    }
    let Whereabouts::There(address) = whereabouts else { return Err(unavailable(row)) };
    let location = HeaderValue::from_str(&address).map_err(|_| unavailable(row))?;
    let headers = [
        (header::LOCATION, location),
        // The address is as good as the video while it lasts.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response())
}

fn unavailable(row: &RecordingRow) -> Problem {
    let detail = format!(
        "this controller cannot read the videos of host {} (another machine, or files of another user), and \
         the host does not serve them; set listen and advertise_url in [content] of its agent.toml",
        row.host_id
    );
    Problem::new(Code::ContentUnavailable, detail).with("hostId", row.host_id.as_str())
}

fn gone(row: &RecordingRow) -> Problem {
    let detail = format!("host {} no longer keeps this video: see keep_days in its [recording]", row.host_id);
    Problem::new(Code::Gone, detail)
}

async fn serve(
    row: &RecordingRow,
    kept: KeptFile,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    if row.bytes.is_some_and(|bytes| bytes != kept.bytes) {
        tracing::error!(recording = %row.recording_id, bytes = kept.bytes, expected = row.bytes, "a kept video was changed");
        return Err(Problem::new(
            Code::Gone,
            "the file was changed after its end: it is not this video any more",
        ));
    }
    let etag = row.sha256.as_ref().map(|hash| format!("\"{hash}\""));
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let several = headers.get_all(header::RANGE).iter().count() > 1;
    // A range of something else is no use; a date never fits, there is none to compare it with.
    let same = !headers.contains_key(header::IF_RANGE)
        || (etag.is_some() && text(header::IF_RANGE) == etag.as_deref());
    let range = text(header::RANGE).filter(|_| same && !several);
    let (status, first, length) = match range.map_or(Asked::Whole, |range| asked(range, kept.bytes)) {
        Asked::Whole => (StatusCode::OK, 0, kept.bytes),
        Asked::Part(part) => (StatusCode::PARTIAL_CONTENT, part.start, part.end - part.start),
        Asked::Beyond => {
            let problem =
                Problem::new(Code::RangeNotSatisfiable, format!("the video has {} bytes", kept.bytes));
            let mut response = problem.into_response();
            put(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", kept.bytes));
            return Ok(response);
        }
    };
    let body = if *method == Method::HEAD { Body::empty() } else { stream(kept.file, first, length).await? };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    put(&mut response, header::CONTENT_TYPE, "video/mp4");
    put(&mut response, header::CONTENT_LENGTH, &length.to_string());
    put(&mut response, header::ACCEPT_RANGES, "bytes");
    let name = format!("attachment; filename=\"{}.mp4\"", row.recording_id);
    put(&mut response, header::CONTENT_DISPOSITION, &name);
    put(&mut response, header::HeaderName::from_static(STATUS_HEADER), row.status.name());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{}", first + length - 1, kept.bytes);
        put(&mut response, header::CONTENT_RANGE, &range);
    }
    if let Some(etag) = etag {
        put(&mut response, header::ETAG, &etag);
    }
    Ok(response)
}

/// Numbers, ids, hashes and names of this file: always fit for a header.
fn put(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// `length` bytes from `first` on, a chunk at a time, read by a task of its own that ends with
/// the client, or when that stops reading.
async fn stream(file: File, first: u64, length: u64) -> Result<Body, Problem> {
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(first)).await.map_err(|error| {
        tracing::error!(%error, "a video cannot be read");
        Problem::new(Code::ContentUnavailable, "the video cannot be read; the controller's log says why")
    })?;
    let (send, mut chunks) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_AHEAD);
    tokio::spawn(async move {
        let mut left = length;
        while left > 0 {
            let chunk = read(&mut file, left).await;
            let failed = chunk.is_err();
            left -= chunk.as_ref().map_or(left, |bytes| bytes.len() as u64);
            // The client is gone, or has stopped reading: it sees a length that does not fit.
            if !matches!(send.send_timeout(chunk, CLIENT_PATIENCE).await, Ok(())) || failed {
                return;
            }
        }
    });
    Ok(Body::from_stream(futures_util::stream::poll_fn(move |context| chunks.poll_recv(context))))
}

async fn read(file: &mut tokio::fs::File, left: u64) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES)));
    let most = chunk.capacity() as u64;
    file.take(most.min(left)).read_buf(&mut chunk).await?;
    if chunk.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the video became shorter"));
    }
    Ok(chunk.into())
}
