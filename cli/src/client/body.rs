//! Bodies of answers: whole and bounded, or piece by piece.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::error::Error;

/// Largest answer that is read whole. A page of 1000 devices has about 1 MB.
const ANSWER_BYTES: usize = 64 << 20;

/// Reads an answer whole.
pub async fn read_whole(response: Response<Incoming>) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let mut body = Limited::new(response.into_body(), ANSWER_BYTES);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Content that is still coming.
pub struct Content {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
}

impl Content {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body }
    }

    /// Whether this is the rest behind the range that was asked for, and not the whole.
    pub fn is_rest(&self) -> bool {
        self.status == StatusCode::PARTIAL_CONTENT
    }

    /// Bytes that are to come, where the sender says so.
    pub fn length(&self) -> Option<u64> {
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The mark of this version of the content.
    pub fn tag(&self) -> Option<&str> {
        self.headers.get(header::ETAG)?.to_str().ok()
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// A connection that breaks.
    pub async fn piece(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
