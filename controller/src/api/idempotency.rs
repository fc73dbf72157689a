//! Calls that take effect once, however often they come.
//!
//! The answer to a key is a row of the transaction that accepted the call, looked for in
//! the transaction that would accept it again. The writer runs one transaction after the
//! other, so a second call with a key in flight waits behind the first and then finds its
//! answer. A refusal changes nothing and is not stored: the next call is tried afresh.

use super::Api;
use super::answer::Answer;
use super::body::BODY_BYTES;
use super::problem::{Code, Problem};
use crate::store::Tx;
use crate::store::idempotency::{self as table, Scope, Stored};
use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use phonefleet_protocol::id::UserId;
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;
use tokio::time::timeout;
use xxhash_rust::xxh3::xxh3_64;

/// The header.
const HEADER: &str = "idempotency-key";
/// Longest key, in bytes.
const KEY_BYTES: usize = 255;

/// Longest time from a call's head to the end of its body: a client that trickles must not
/// hold a connection and its memory.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A call with a body: what is needed to carry it out once.
#[derive(Debug)]
pub struct Call {
    method: String,
    path: String,
    key: Option<String>,
    /// Its body; may be empty.
    pub body: Bytes,
    grows: bool,
}

impl FromRequest<Api> for Call {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let method = request.method().as_str().to_owned();
        let path = request.uri().path().to_owned();
        let key = key(request.headers())?;
        let json = is_json(request.headers());
        if request.body().size_hint().lower() > BODY_BYTES as u64 {
            return Err(too_large());
        }
        let plain = is_plain(request.headers());
        let body = match timeout(BODY_TIME, Bytes::from_request(request, api)).await {
            Ok(body) => body.map_err(|error| refused_body(&error))?,
            Err(_) => return Err(too_slow()),
        };
        if !body.is_empty() && !plain {
            let detail = "send the body without Content-Encoding: it is not decompressed here";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        if !body.is_empty() && !json {
            let detail = "send the body with Content-Type: application/json";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        Ok(Self { method, path, key, body, grows: false })
    }
}

fn too_large() -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("a body has at most {BODY_BYTES} bytes"))
}

fn refused_body(error: &BytesRejection) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        too_large()
    } else {
        Problem::new(Code::InvalidBody, format!("the body did not arrive whole: {error}"))
    }
}

fn too_slow() -> Problem {
    let detail = format!("the body did not arrive within {} s; nothing was changed", BODY_TIME.as_secs());
    Problem::new(Code::RequestTimeout, detail)
}

/// Whether the body is sent as it is.
fn is_plain(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().all(|encoding| encoding == "identity")
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let kind = kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let fits = (1..=KEY_BYTES).contains(&text.len())
        && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && values.next().is_none();
    if fits {
        return Ok(Some(text.to_owned()));
    }
    let detail =
        format!("Idempotency-Key must be given once, with 1 to {KEY_BYTES} printable ASCII characters");
    Err(Problem::new(Code::InvalidIdempotencyKey, detail))
}

impl Call {
    /// It makes something: refused while the disk is full.
    #[must_use]
    pub fn that_grows(self) -> Self {
        Self { grows: true, ..self }
    }

    /// Carries the call out in one transaction, or gives the answer that its key has.
    /// `user` is the user that the call names.
    pub async fn once(
        self,
        api: &Api,
        user: Option<&UserId>,
        mut act: impl FnMut(&mut Tx<'_>, Timestamp) -> Result<Answer, Problem> + Send + 'static,
    ) -> Result<Answer, Problem> {
        let now = api.clock().now();
        let full = self.grows && api.handle.store.is_short_of_room();
        let mut act = move |tx: &mut Tx<'_>, now| if full { Err(Problem::disk_full()) } else { act(tx, now) };
        let body_hash = xxh3_64(&self.body);
        let scope = self.key.map(|key| Scope {
            user_id: user.map(|user| user.as_str().to_owned()).unwrap_or_default(),
            method: self.method,
            path: self.path,
            key,
        });
        api.write(move |tx| {
            let Some(scope) = &scope else { return act(tx, now) };
            if planted(Mutant::IgnoreIdempotency) {
                return act(tx, now);
            }
            if let Some(stored) = table::find(tx, scope)? {
                return again(stored, body_hash);
            }
            let answer = act(tx, now)?;
            if answer.kept {
                let stored =
                    Stored { body_hash, status: answer.status.as_u16(), answer: answer.body.clone() };
                table::store(tx, scope, &stored, now)?;
            }
            Ok(answer)
        })
        .await
    }
}

fn again(stored: Stored, body_hash: u64) -> Result<Answer, Problem> {
    if stored.body_hash != body_hash {
        let detail = "this Idempotency-Key was used with another body; take a new key for a new call";
        return Err(Problem::new(Code::IdempotencyKeyReused, detail));
    }
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    Ok(Answer { status, body: stored.answer, kept: true })
}
