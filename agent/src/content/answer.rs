//! The answer to one call: a whole video, a part of it, or why not.

use super::Content;
use crate::store::recording;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use phonefleet_protocol::byte_range::{Asked, asked};
use phonefleet_protocol::id::RecordingId;
use serde::Deserialize;
use std::io::{self, SeekFrom};
use std::ops::Range;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes read at a time.
const BLOCK: u64 = 64 * 1024;

/// What makes an address one that a controller has signed.
#[derive(Deserialize)]
pub struct Signed {
    #[serde(default)]
    expires: String,
    #[serde(default)]
    signature: String,
}

/// `GET` and `HEAD` of a video.
pub async fn content(
    State(content): State<Content>,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // Whoever has no signature learns nothing, not even whether there is such a video.
    let allowed = id
        .parse::<RecordingId>()
        .ok()
        .filter(|id| content.key.allows(*id, &signed.expires, &signed.signature, content.clock.now()));
    let Some(id) = allowed else {
        return text(
            StatusCode::FORBIDDEN,
            "this address is not signed, or no longer good; ask the controller again",
        );
    };
    let row = match content.store.read(move |connection| recording::get(connection, id)).await {
        Ok(row) => row,
        Err(error) => {
            tracing::warn!(recording = %id, %error, "the database does not answer");
            return text(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer; try again");
        }
    };
    let kept = row.and_then(|row| Some((row.device(), row.sha256.clone()?, row.finished_at?)));
    let Some((device, sha256, _)) = kept else {
        return text(StatusCode::NOT_FOUND, "this host keeps no video of that recording");
    };
    let opened = File::open(content.videos.path(device, id)).await;
    let opened = match opened {
        Ok(file) => file.metadata().await.map(|about| (file, about.len())),
        Err(error) => Err(error),
    };
    let (file, length) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return text(StatusCode::NOT_FOUND, "the video is not kept any more");
        }
        Err(error) => {
            tracing::warn!(recording = %id, %error, "the video cannot be read");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the video cannot be read");
        }
    };
    let etag = format!("\"{sha256}\"");
    video(file, length, &etag, &method, &headers).await
}

fn text(status: StatusCode, words: &'static str) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], words).into_response()
}

async fn video(file: File, length: u64, etag: &str, method: &Method, headers: &HeaderMap) -> Response {
    let named = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let has = |list: &str| list.split(',').any(|one| one.trim() == etag || one.trim() == "*");
    // A part of another file than the client has the rest of would be of no use.
    let same = named(header::IF_RANGE).is_none_or(|known| known == etag);
    let asked = match named(header::RANGE) {
        Some(range) if same && method == Method::GET => asked(range, length),
        _ => Asked::Whole,
    };
    let (status, range) = match asked {
        _ if named(header::IF_NONE_MATCH).is_some_and(has) => (StatusCode::NOT_MODIFIED, 0..0),
        Asked::Whole => (StatusCode::OK, 0..length),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Beyond => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let mut answer = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "video/mp4")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, "private, no-transform")
        .header(header::ETAG, etag);
    if status == StatusCode::PARTIAL_CONTENT {
        let span = format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1));
        answer = answer.header(header::CONTENT_RANGE, span);
    }
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        answer = answer.header(header::CONTENT_RANGE, format!("bytes */{length}"));
    }
    if status != StatusCode::NOT_MODIFIED {
        answer = answer.header(header::CONTENT_LENGTH, range.end - range.start);
    }
    let body = if *method == Method::HEAD || range.is_empty() {
        Body::empty()
    } else {
        match pieces(file, range).await {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(%error, "the video cannot be read");
                return text(StatusCode::INTERNAL_SERVER_ERROR, "the video cannot be read");
            }
        }
    };
    answer.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Bytes of the file, read when the client takes them.
async fn pieces(mut file: File, range: Range<u64>) -> io::Result<Body> {
    file.seek(SeekFrom::Start(range.start)).await?;
    let left = range.end - range.start;
    let pieces = stream::try_unfold((file, left), async |(mut file, left)| {
        if left == 0 {
            return Ok::<_, io::Error>(None);
        }
        let mut block = vec![0; usize::try_from(left.min(BLOCK)).unwrap_or(BLOCK as usize)];
        let count = file.read(&mut block).await?;
        if count == 0 {
            // Shorter than was promised: the client has to see that.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        block.truncate(count);
        Ok(Some((Bytes::from(block), (file, left - count as u64))))
    });
    Ok(Body::from_stream(pieces))
}
