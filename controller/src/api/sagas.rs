//! `/sagas`: what is being done, what was done, and an operator's verbs.

use super::answer::{Answer, Envelope};
use super::body::{parse, parse_optional};
use super::devices::Nothing;
use super::idempotency::Call;
use super::openapi::Refusals;
use super::page::{Page, Window, query};
use super::problem::{Code, Problem};
use super::{Api, Named};
use crate::order::deceives;
use crate::saga::{REGISTRY, VerbError};
use crate::store::Tx;
use crate::store::saga::{self as table, Cause, SagaEvent, SagaRow, SagaStatus};
use axum::extract::State;
use axum::http::Uri;
use phonefleet_protocol::id::SagaId;
use phonefleet_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Longest reason of an operator, in characters.
const REASON_CHARACTERS: usize = 500;

/// Sagas of one batch at most.
const MOST_IDS: usize = 200;

/// One saga.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Saga)]
pub struct SagaView {
    /// Its id; ids sort by age.
    saga_id: String,
    /// What it does, such as `DEVICE_CREATION`.
    #[serde(rename = "type")]
    saga_type: String,
    /// Version of its definition.
    version: u32,
    /// Where it stands.
    status: SagaStatus,
    /// Why it turned round.
    cause: Option<Cause>,
    /// The step that failed.
    failed_step: Option<String>,
    /// What it waits for.
    wait_reason: Option<String>,
    /// Index of its step, from 0.
    step_index: u32,
    /// Name of its step.
    current_step: String,
    /// Its own data.
    #[schema(value_type = Object)]
    state: Box<RawValue>,
    /// Retries of its step.
    retry_count: u32,
    /// Its newest error.
    error_message: Option<String>,
    /// The device that it is about.
    device_id: Option<String>,
    /// Its pause ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    retry_at: Option<Timestamp>,
    /// Its deadline.
    #[schema(value_type = Option<String>, format = DateTime)]
    timeout_at: Option<Timestamp>,
    /// Start.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// End.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

impl From<SagaRow> for SagaView {
    fn from(row: SagaRow) -> Self {
        Self {
            saga_id: row.saga_id.into(),
            saga_type: row.saga_type,
            version: row.version,
            status: row.status,
            cause: row.cause,
            failed_step: row.failed_step,
            wait_reason: row.wait_reason,
            step_index: row.step_index,
            current_step: row.current_step,
            // A saga of another version may hold what this one cannot read: show it as it is.
            state: RawValue::from_string(row.state).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            retry_count: row.retry_count,
            error_message: row.error_message,
            device_id: row.device_id.map(|id| id.to_string()),
            retry_at: row.retry_at,
            timeout_at: row.timeout_at,
            started_at: row.started_at,
            updated_at: row.updated_at,
            ended_at: row.ended_at,
        }
    }
}

/// Some sagas.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SagaBatch {
    /// Those that were found, in the order of the question.
    items: Vec<SagaView>,
    /// Ids that no saga has.
    missing: Vec<String>,
}

/// Why a saga is given up.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Abandonment)]
pub struct AbandonBody {
    /// What an operator wants to be read in its story later, without control characters.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*[^\s\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069][^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*$"
    )]
    reason: String,
}

impl AbandonBody {
    /// The reason, as it is written down.
    fn reason(self) -> Result<String, Problem> {
        let reason = self.reason.trim();
        let given = &self.reason;
        if reason.is_empty() || given.chars().count() > REASON_CHARACTERS || given.chars().any(deceives) {
            let detail = format!(
                "reason must have 1 to {REASON_CHARACTERS} characters, without control characters and changes \
                 of the writing direction"
            );
            return Err(Problem::field(Code::InvalidBody, "/reason", detail));
        }
        Ok(reason.to_owned())
    }
}

impl From<VerbError> for Problem {
    fn from(error: VerbError) -> Self {
        let detail = error.to_string();
        match error {
            VerbError::NotFound => Self::new(Code::SagaNotFound, detail),
            VerbError::Status(status, _) => Self::new(Code::Conflict, detail).with("sagaStatus", status),
            VerbError::Sqlite(error) => error.into(),
        }
    }
}

fn not_found(id: &str) -> Problem {
    Problem::new(
        Code::SagaNotFound,
        format!("there is no saga {id:?}; sagas are kept 30 days after their end"),
    )
}

fn saga_id(text: &str) -> Result<SagaId, Problem> {
    text.parse().map_err(|_| not_found(text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(rename = "type")]
    saga_type: Option<String>,
    status: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// Lists sagas, the oldest first.
#[utoipa::path(get, path = "/sagas", tag = "sagas",
    params(("type" = Option<String>, Query, description = "Of this type only"),
        ("status" = Option<SagaStatus>, Query, description = "With this status only"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before")),
    responses((status = 200, description = "A page", body = Envelope<Page<SagaView>>), Refusals))]
pub async fn list(State(api): State<Api>, uri: Uri) -> Result<Answer, Problem> {
    let query: ListQuery = query(&uri)?;
    let types: Vec<_> = REGISTRY.0.iter().map(|definition| definition.saga_type).collect();
    if query.saga_type.as_deref().is_some_and(|name| !types.contains(&name)) {
        let detail = format!("type must be one of {}", types.join(", "));
        return Err(Problem::new(Code::InvalidQuery, detail));
    }
    let status = match query.status.as_deref() {
        None => None,
        Some(name) => Some(SagaStatus::from_name(name).ok_or_else(|| {
            let names: Vec<_> = SagaStatus::ALL.iter().map(|status| status.name()).collect();
            Problem::new(Code::InvalidQuery, format!("status must be one of {}", names.join(", ")))
        })?),
    };
    let window = Window::new::<SagaId>(query.limit.as_deref(), query.cursor.as_deref())?;
    let page = api
        .read(move |connection| {
            let saga_type = query.saga_type.as_deref();
            let rows = table::page(connection, saga_type, status, &window.after, window.rows())?;
            Ok(Page::of(rows, &window, |row| row.saga_id.as_str().to_owned(), SagaView::from))
        })
        .await?;
    Answer::ok(&page, format!("{} sagas", page.items.len()))
}

/// One saga.
#[utoipa::path(get, path = "/sagas/{id}", tag = "sagas",
    params(("id" = String, Path, description = "Id of the saga")),
    responses((status = 200, description = "The saga", body = Envelope<SagaView>), Refusals))]
pub async fn find(State(api): State<Api>, Named(id): Named) -> Result<Answer, Problem> {
    let saga = saga_id(&id)?;
    let row = api.read(move |connection| table::find(connection, &saga)).await?;
    Answer::ok(&SagaView::from(row.ok_or_else(|| not_found(&id))?), "")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BatchQuery {
    saga_ids: Option<String>,
}

/// Some sagas by their ids.
#[utoipa::path(get, path = "/sagas/batch", tag = "sagas",
    params(("sagaIds" = String, Query, description = "Up to 200 ids with commas between them")),
    responses((status = 200, description = "Those that were found", body = Envelope<SagaBatch>), Refusals))]
pub async fn batch(State(api): State<Api>, uri: Uri) -> Result<Answer, Problem> {
    let query: BatchQuery = query(&uri)?;
    let text = query.saga_ids.unwrap_or_default();
    let names: Vec<String> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if !(1..=MOST_IDS).contains(&names.len()) {
        let detail = format!("sagaIds must name 1 to {MOST_IDS} sagas, with commas between them");
        return Err(Problem::new(Code::InvalidQuery, detail));
    }
    let found = api
        .read(move |connection| {
            let mut batch = SagaBatch { items: Vec::new(), missing: Vec::new() };
            for name in names {
                let row = match name.parse() {
                    Ok(id) => table::find(connection, &id)?,
                    Err(_) => None,
                };
                match row {
                    Some(row) => batch.items.push(row.into()),
                    None => batch.missing.push(name),
                }
            }
            Ok(batch)
        })
        .await?;
    Answer::ok(&found, format!("{} found, {} missing", found.items.len(), found.missing.len()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

/// A saga's story, from its start.
#[utoipa::path(get, path = "/sagas/{id}/events", tag = "sagas",
    params(("id" = String, Path, description = "Id of the saga"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before")),
    responses((status = 200, description = "A page", body = Envelope<Page<SagaEvent>>), Refusals))]
pub async fn events(State(api): State<Api>, Named(id): Named, uri: Uri) -> Result<Answer, Problem> {
    let saga = saga_id(&id)?;
    let query: EventsQuery = query(&uri)?;
    let window = Window::new::<u32>(query.limit.as_deref(), query.cursor.as_deref())?;
    // Empty on the first page, and otherwise a number.
    let after = window.after.parse().unwrap_or(0);
    let page = api
        .read(move |connection| {
            if table::find(connection, &saga)?.is_none() {
                return Ok(None);
            }
            let events = table::events(connection, &saga, after, window.rows())?;
            Ok(Some(Page::of(events, &window, |event| event.seq.to_string(), |event| event)))
        })
        .await?
        .ok_or_else(|| not_found(&id))?;
    Answer::ok(&page, format!("{} events", page.items.len()))
}

async fn act(
    api: Api,
    saga: SagaId,
    call: Call,
    verb: impl Fn(&mut Tx<'_>, &SagaId, Timestamp) -> Result<(), VerbError> + Send + 'static,
) -> Result<Answer, Problem> {
    call.once(&api, None, move |tx, now| {
        verb(tx, &saga, now)?;
        let row = table::find(tx, &saga)?.ok_or_else(|| not_found(saga.as_str()))?;
        let message = format!("saga {saga} is {}", row.status.name());
        Answer::accepted(&SagaView::from(row), message)
    })
    .await
}

/// Lets a saga that needs attention go on, and ends a pause.
#[utoipa::path(post, path = "/sagas/{id}/resume", tag = "sagas",
    params(("id" = String, Path, description = "Id of the saga"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 202, description = "Accepted", body = Envelope<SagaView>), Refusals))]
pub async fn resume(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    let saga = saga_id(&id)?;
    let Nothing {} = parse_optional(&call.body)?;
    let engine = api.handle.engine;
    act(api, saga, call, move |tx, saga, now| engine.resume(tx, saga, now)).await
}

/// Turns a saga round.
#[utoipa::path(post, path = "/sagas/{id}/compensate", tag = "sagas",
    params(("id" = String, Path, description = "Id of the saga"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 202, description = "Accepted", body = Envelope<SagaView>), Refusals))]
pub async fn compensate(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    let saga = saga_id(&id)?;
    let Nothing {} = parse_optional(&call.body)?;
    let engine = api.handle.engine;
    act(api, saga, call, move |tx, saga, now| engine.compensate(tx, saga, now)).await
}

/// Gives up a saga that needs attention. It ends where it stands: nothing more is done, and nothing
/// undone. Its device is what its host says, and takes other orders.
#[utoipa::path(post, path = "/sagas/{id}/abandon", tag = "sagas",
    params(("id" = String, Path, description = "Id of the saga"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    request_body = AbandonBody,
    responses((status = 202, description = "Accepted", body = Envelope<SagaView>), Refusals))]
pub async fn abandon(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    let saga = saga_id(&id)?;
    let reason = parse::<AbandonBody>(&call.body, Code::InvalidBody)?.reason()?;
    let engine = api.handle.engine;
    act(api, saga, call, move |tx, saga, now| engine.abandon(tx, saga, &reason, now)).await
}
