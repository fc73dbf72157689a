//! Refusals: `application/problem+json` (RFC 9457) with a stable code for programs.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use phonefleet_protocol::spec::FieldFault;
use phonefleet_store::{ReadError, WriteError, rusqlite};
use serde::Serialize;
use serde_json::{Map, Value};

/// What went wrong, as programs know it. Names never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The body is not JSON at all.
    InvalidJson,
    /// Fields of an order, of a device or a recording, are wrong.
    InvalidSpec,
    /// Fields of another body are wrong.
    InvalidBody,
    /// The path or the query string is wrong.
    InvalidQuery,
    /// The `Idempotency-Key` header is wrong.
    InvalidIdempotencyKey,
    /// The user's quota has no room.
    QuotaExceeded,
    /// A page of another site, or another name than this machine's, is asking.
    OriginNotAllowed,
    /// There is no such call.
    NotFound,
    /// There is no such device.
    DeviceNotFound,
    /// There is no such host.
    HostNotFound,
    /// There is no such saga.
    SagaNotFound,
    /// There is no such recording.
    RecordingNotFound,
    /// There is no video, or not any more.
    Gone,
    /// The call has other methods.
    MethodNotAllowed,
    /// It does not fit what is there now.
    Conflict,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// The file does not have these bytes.
    RangeNotSatisfiable,
    /// The same key came with another body.
    IdempotencyKeyReused,
    /// A bug.
    Internal,
    /// No host has room.
    NoCapacity,
    /// The host that it needs is not online.
    HostUnreachable,
    /// A video cannot be had from here.
    ContentUnavailable,
    /// Too many writes wait.
    Busy,
    /// The database cannot be used now.
    StoreUnavailable,
    /// Something that this daemon needs is missing.
    NotReady,
    /// It took too long.
    Timeout,
}

impl Code {
    /// Name, HTTP status and title of each code.
    const fn row(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::InvalidJson => ("INVALID_JSON", StatusCode::BAD_REQUEST, "The body is not JSON"),
            Self::InvalidSpec => {
                ("INVALID_SPEC", StatusCode::BAD_REQUEST, "What was ordered cannot be built")
            }
            Self::InvalidBody => ("INVALID_BODY", StatusCode::BAD_REQUEST, "The body has wrong fields"),
            Self::InvalidQuery => ("INVALID_QUERY", StatusCode::BAD_REQUEST, "The path or query is wrong"),
            Self::InvalidIdempotencyKey => {
                ("INVALID_IDEMPOTENCY_KEY", StatusCode::BAD_REQUEST, "The Idempotency-Key is wrong")
            }
            Self::QuotaExceeded => ("QUOTA_EXCEEDED", StatusCode::FORBIDDEN, "The quota has no room"),
            Self::OriginNotAllowed => {
                ("ORIGIN_NOT_ALLOWED", StatusCode::FORBIDDEN, "Only this machine may ask")
            }
            Self::NotFound => ("NOT_FOUND", StatusCode::NOT_FOUND, "There is no such call"),
            Self::DeviceNotFound => ("DEVICE_NOT_FOUND", StatusCode::NOT_FOUND, "There is no such device"),
            Self::HostNotFound => ("HOST_NOT_FOUND", StatusCode::NOT_FOUND, "There is no such host"),
            Self::SagaNotFound => ("SAGA_NOT_FOUND", StatusCode::NOT_FOUND, "There is no such saga"),
            Self::RecordingNotFound => {
                ("RECORDING_NOT_FOUND", StatusCode::NOT_FOUND, "There is no such recording")
            }
            Self::Gone => ("GONE", StatusCode::GONE, "There is no video"),
            Self::MethodNotAllowed => {
                ("METHOD_NOT_ALLOWED", StatusCode::METHOD_NOT_ALLOWED, "The call has other methods")
            }
            Self::Conflict => ("CONFLICT", StatusCode::CONFLICT, "It does not fit what is there now"),
            Self::RequestTimeout => {
                ("REQUEST_TIMEOUT", StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")
            }
            Self::PayloadTooLarge => {
                ("PAYLOAD_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large")
            }
            Self::UnsupportedMediaType => {
                ("UNSUPPORTED_MEDIA_TYPE", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON")
            }
            Self::RangeNotSatisfiable => (
                "RANGE_NOT_SATISFIABLE",
                StatusCode::RANGE_NOT_SATISFIABLE,
                "The video does not have these bytes",
            ),
            Self::IdempotencyKeyReused => (
                "IDEMPOTENCY_KEY_REUSED",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key belongs to another body",
            ),
            Self::Internal => ("INTERNAL", StatusCode::INTERNAL_SERVER_ERROR, "A fault of the controller"),
            Self::NoCapacity => ("NO_CAPACITY", StatusCode::SERVICE_UNAVAILABLE, "No host has room"),
            Self::HostUnreachable => {
                ("HOST_UNREACHABLE", StatusCode::SERVICE_UNAVAILABLE, "The host is not online")
            }
            Self::ContentUnavailable => {
                ("CONTENT_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE, "The video cannot be had from here")
            }
            Self::Busy => ("BUSY", StatusCode::SERVICE_UNAVAILABLE, "Too many writes are waiting"),
            Self::StoreUnavailable => {
                ("STORE_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE, "The database cannot be used now")
            }
            Self::NotReady => ("NOT_READY", StatusCode::SERVICE_UNAVAILABLE, "The controller is not ready"),
            Self::Timeout => ("TIMEOUT", StatusCode::SERVICE_UNAVAILABLE, "It took too long"),
        }
    }

    /// The name in the API.
    pub const fn name(self) -> &'static str {
        self.row().0
    }
}

/// One refusal. Nothing was changed, except where the detail says otherwise.
#[derive(Debug)]
pub struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    detail: String,
    faults: Vec<FieldFault>,
    members: Map<String, Value>,
    retry_after: Option<u32>,
}

impl Problem {
    /// A refusal; the detail says what to do.
    pub fn new(code: Code, detail: impl AsRef<str>) -> Self {
        let detail = phonefleet_protocol::limits::shorten(detail.as_ref());
        Self(Box::new(Inner { code, detail, faults: Vec::new(), members: Map::new(), retry_after: None }))
    }

    /// A refusal because of fields.
    pub fn fields(code: Code, faults: Vec<FieldFault>) -> Self {
        let details: Vec<_> = faults.iter().map(|fault| fault.detail.as_str()).collect();
        let mut problem = Self::new(code, details.join("; "));
        problem.0.faults = faults;
        problem
    }

    /// A refusal because of one field.
    pub fn field(code: Code, pointer: &str, detail: impl AsRef<str>) -> Self {
        let detail = phonefleet_protocol::limits::shorten(detail.as_ref());
        Self::fields(code, vec![FieldFault::new(phonefleet_protocol::limits::shorten(pointer), detail)])
    }

    /// Adds a member for programs. Its name must not be one of the document's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says when to come back, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// The database stopped, or its last commit is unknown.
    pub fn store_closed() -> Self {
        Self::new(
            Code::StoreUnavailable,
            "the database has stopped and the controller starts again; whether this call took effect is unknown: \
             ask, or send it again with the same Idempotency-Key",
        )
        .retry_after(5)
    }

    /// The disk is full: what would need more of it is refused.
    pub fn disk_full() -> Self {
        Self::new(
            Code::StoreUnavailable,
            "the disk of the controller's database is full, and nothing was changed: make room; until then \
             only stops and deletions are accepted",
        )
        .retry_after(30)
    }

    fn store_unavailable() -> Self {
        Self::new(Code::StoreUnavailable, "the database cannot be used now; nothing was changed: try again")
            .retry_after(5)
    }
}

/// The document as it is sent.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument<'a> {
    /// `urn:phonefleet:problem:` and the code in lower case.
    #[serde(rename = "type")]
    kind: String,
    /// The same for every refusal of this code.
    title: &'a str,
    /// HTTP status.
    #[schema(example = 403)]
    status: u16,
    /// What is wrong and what to do.
    detail: &'a str,
    /// Always `false`.
    success: bool,
    /// Stable name for programs.
    #[schema(example = "QUOTA_EXCEEDED")]
    code: &'a str,
    /// JSON pointer of the bad field, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    /// Every bad field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemField<'a>>,
    /// Further members, such as `sagaId`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    members: &'a Map<String, Value>,
}

/// One bad field.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ProblemField<'a> {
    /// Its JSON pointer.
    #[schema(example = "/memoryMB")]
    pointer: &'a str,
    /// What is wrong with it.
    detail: &'a str,
}

impl Problem {
    /// The document, as it is sent or put into another answer.
    pub fn document(&self) -> ProblemDocument<'_> {
        let inner = &*self.0;
        let (code, status, title) = inner.code.row();
        ProblemDocument {
            kind: format!("urn:phonefleet:problem:{}", code.to_ascii_lowercase().replace('_', "-")),
            title,
            status: status.as_u16(),
            detail: &inner.detail,
            success: false,
            code,
            pointer: inner.faults.first().map(|fault| fault.pointer.as_str()),
            errors: inner
                .faults
                .iter()
                .map(|fault| ProblemField { pointer: &fault.pointer, detail: &fault.detail })
                .collect(),
            members: &inner.members,
        }
    }

    /// The same refusal inside a larger body: pointers begin with `prefix`.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        for fault in &mut self.0.faults {
            fault.pointer.insert_str(0, prefix);
        }
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let inner = &*self.0;
        let (_, status, _) = inner.code.row();
        let mut response = (status, Json(self.document())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = inner.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        tracing::error!(%error, "the database refused what the API asked");
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly,
            ) => Self::store_unavailable(),
            _ => Self::new(Code::Internal, "the database refused; the controller's log says why"),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Sqlite(error) => error.into(),
            ReadError::Closed => Self::store_closed(),
        }
    }
}

impl From<WriteError<Problem>> for Problem {
    fn from(error: WriteError<Problem>) -> Self {
        match error {
            WriteError::Refused(problem) => problem,
            WriteError::Busy => Self::new(
                Code::Busy,
                "too many writes are waiting; nothing was changed: try again in a moment",
            )
            .retry_after(1),
            WriteError::Panicked(why) => {
                tracing::error!(why, "a call of the API panicked");
                Self::new(Code::Internal, "this call found a fault of the controller; nothing was changed")
            }
            WriteError::Unavailable(why) => {
                tracing::warn!(why, "the database cannot write");
                Self::store_unavailable()
            }
            WriteError::Unknown(_) | WriteError::Closed => Self::store_closed(),
        }
    }
}
