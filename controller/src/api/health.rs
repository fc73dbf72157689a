//! Whether the daemon lives, whether it is ready, and its numbers.

use super::Api;
use super::answer::{Answer, Envelope};
use super::problem::{Code, Problem};
use crate::fleet::presence;
use crate::metrics::Snapshot;
use crate::store::overview;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, Error};
use serde::Serialize;
use std::time::Duration;

/// Hosts read at a time when they are counted.
const HOST_PAGE: u32 = 500;

/// That the daemon lives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Alive {
    /// Always `ok`.
    status: &'static str,
    /// This program's version.
    version: &'static str,
}

/// Whether the daemon can do all of its work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ready {
    /// Always `true`; otherwise the answer is a refusal with `reasons`.
    ready: bool,
}

/// 200 for as long as the daemon answers at all.
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "It lives", body = Envelope<Alive>)))]
pub async fn alive() -> Result<Answer, Problem> {
    Answer::ok(&Alive { status: "ok", version: env!("CARGO_PKG_VERSION") }, "")
}

/// 200 when the daemon can do all of its work, otherwise 503 with the reasons.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, description = "It is ready", body = Envelope<Ready>),
        (status = 503, description = "Something is missing; `reasons` says what",
            body = super::problem::ProblemDocument, content_type = "application/problem+json")))]
pub async fn ready(State(api): State<Api>) -> Result<Answer, Problem> {
    let mut reasons = Vec::new();
    if !api.handle.directory.is_connected() {
        reasons.push(format!(
            "no connection to the MQTT broker: phones run on, what was accepted waits, and new devices are \
             refused with NO_CAPACITY as soon as no host was heard for {} s",
            api.handle.settings.presence.as_secs()
        ));
    }
    // An empty transaction goes through the writer and its disk.
    if api.write(|_| Ok(())).await.is_err() {
        reasons.push("the database cannot be written: every change is refused".to_owned());
    }
    if api.handle.store.is_short_of_room() {
        reasons.push("the database's disk is full: only stops and deletions are accepted".to_owned());
    }
    if reasons.is_empty() {
        Answer::ok(&Ready { ready: true }, "")
    } else {
        Err(Problem::new(Code::NotReady, reasons.join("; ")).with("reasons", reasons))
    }
}

/// Numbers for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text")))]
pub async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let (lost_after, now) = (api.handle.settings.lost_after, api.clock().now());
    let mut snapshot = api.read(move |connection| snapshot(connection, lost_after, now)).await?;
    snapshot.link_up = api.handle.directory.is_connected();
    snapshot.refusals = api.handle.directory.refusals();
    let text = api
        .metrics
        .render(&snapshot)
        .map_err(|error| Problem::new(Code::Internal, format!("the metrics cannot be written: {error}")))?;
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn snapshot(connection: &Connection, lost_after: Duration, now: Timestamp) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot {
        devices: crate::store::device::count_by_status(connection)?,
        sagas: crate::store::saga::count_unfinished(connection)?,
        recordings: crate::store::recording::summary(connection)?,
        ..Snapshot::default()
    };
    let backlog = overview::command_backlog(connection)?;
    snapshot.commands_pending = backlog.pending;
    snapshot.oldest_command = backlog.oldest.map(|at| now.since(at)).unwrap_or_default();
    let (dead_letters, unknown_items) = phonefleet_store::stream_log::aside_counts(connection)?;
    snapshot.dead_letters = dead_letters;
    snapshot.unknown_items = unknown_items;
    snapshot.logs_begun_anew = phonefleet_store::stream_log::left_count(connection)?;
    let mut after = String::new();
    loop {
        let hosts = crate::store::host::page(connection, &after, HOST_PAGE)?;
        let Some(last) = hosts.last() else { return Ok(snapshot) };
        last.host_id.as_str().clone_into(&mut after);
        for host in &hosts {
            snapshot.count_host(presence::status(host, lost_after, now));
        }
    }
}
