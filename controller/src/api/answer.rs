//! What a call answers with: one envelope around everything that went well.

use super::problem::{Code, Problem};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The envelope of every answer that is not a refusal.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Envelope<T> {
    /// Always `true`.
    pub success: bool,
    /// What was asked for.
    pub data: T,
    /// One sentence for people.
    pub message: String,
}

/// An answer whose bytes are fixed, so that they can be stored and given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON.
    pub body: String,
    /// Whether it changed something, and an `Idempotency-Key` gives it again.
    pub kept: bool,
}

impl Answer {
    /// An answer with its data in the envelope.
    pub fn new<T: Serialize>(
        status: StatusCode,
        data: &T,
        message: impl Into<String>,
    ) -> Result<Self, Problem> {
        let envelope = Envelope { success: true, data, message: message.into() };
        let body = serde_json::to_string(&envelope).map_err(|error| {
            Problem::new(Code::Internal, format!("the answer cannot be written: {error}"))
        })?;
        Ok(Self { status, body, kept: true })
    }

    /// 200.
    pub fn ok<T: Serialize>(data: &T, message: impl Into<String>) -> Result<Self, Problem> {
        Self::new(StatusCode::OK, data, message)
    }

    /// 202: accepted, and going on behind this answer.
    pub fn accepted<T: Serialize>(data: &T, message: impl Into<String>) -> Result<Self, Problem> {
        Self::new(StatusCode::ACCEPTED, data, message)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
