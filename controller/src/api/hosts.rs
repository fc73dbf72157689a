//! `/hosts`: the machines that run phones.

use super::answer::{Answer, Envelope};
use super::body::parse_optional;
use super::devices::Nothing;
use super::idempotency::Call;
use super::openapi::Refusals;
use super::page::{Page, Window, query};
use super::problem::{Code, Problem};
use super::{Api, Named};
use crate::fleet::forget::{self, ForgetError};
use crate::fleet::presence::{self, HostStatus};
use crate::store::host::{self as table, HostRow};
use axum::extract::State;
use axum::http::Uri;
use phonefleet_protocol::facts::DeviceFacts;
use phonefleet_protocol::host::{Capacity, Heartbeat};
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{Connection, Error};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One host.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Host)]
pub struct HostView {
    /// Its id, as its operator named it.
    id: String,
    /// Whether it was heard lately.
    status: HostStatus,
    /// Takes no new devices.
    cordoned: bool,
    /// What it takes on; `null` is unlimited.
    #[schema(value_type = Object)]
    capacity: Capacity,
    /// Devices on it.
    devices: u32,
    /// What their orders add up to.
    allocated: Allocated,
    /// Its agent's program and version.
    software: String,
    /// `docker`, `process` or `simulated`.
    runtime: String,
    /// The engine's version.
    engine_version: String,
    /// Image of orders that name none.
    image: String,
    /// Images that orders may name.
    allowed_images: Vec<String>,
    /// The machine that its id belongs to.
    machine_id: String,
    /// Processors of the machine.
    machine_cpu_cores: u32,
    /// Memory of the machine, MiB.
    #[serde(rename = "machineMemoryMB")]
    machine_memory_mb: u64,
    /// Where it binds ports.
    address: String,
    /// What it last said of itself.
    #[schema(value_type = Option<Object>)]
    last_heartbeat: Option<Heartbeat>,
    /// When it was last heard, by the controller's clock.
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: Timestamp,
    /// The machine of a second agent with the same id.
    conflict_with: Option<String>,
    /// When it was given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    forgotten_at: Option<Timestamp>,
    /// First hello.
    #[schema(value_type = String, format = DateTime)]
    registered_at: Timestamp,
}

/// What orders add up to.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allocated {
    /// Processors.
    cpu_cores: f64,
    /// Memory, MiB.
    #[serde(rename = "memoryMB")]
    memory_mb: u64,
}

/// A host, and the devices that only it knows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostDetail {
    /// The host.
    #[serde(flatten)]
    host: HostView,
    /// Devices that it has and this controller does not know: kept, and left alone.
    #[schema(value_type = Vec<Object>)]
    strays: Vec<DeviceFacts>,
}

/// What forgetting a host gave up.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forgotten {
    /// The host.
    host: HostView,
    /// Devices that were given up with it.
    devices_given_up: usize,
}

fn view(
    connection: &Connection,
    row: HostRow,
    lost_after: Duration,
    now: Timestamp,
) -> Result<HostView, Error> {
    let status = presence::status(&row, lost_after, now);
    let load = table::load(connection, &row.host_id)?;
    let report = row.report;
    Ok(HostView {
        id: row.host_id.into(),
        status,
        cordoned: row.cordoned,
        capacity: report.capacity,
        devices: load.devices,
        allocated: Allocated { cpu_cores: load.cpu_cores, memory_mb: load.memory_mb },
        software: row.software,
        runtime: report.runtime,
        engine_version: report.engine_version,
        image: report.image,
        allowed_images: report.allowed_images,
        machine_id: row.machine_id,
        machine_cpu_cores: report.machine_cpu_cores,
        machine_memory_mb: report.machine_memory_mb,
        address: report.address,
        last_heartbeat: row.heartbeat,
        last_seen_at: row.last_seen_at,
        conflict_with: row.conflict_with,
        forgotten_at: row.forgotten_at,
        registered_at: row.registered_at,
    })
}

fn not_found(id: &str) -> Problem {
    Problem::new(
        Code::HostNotFound,
        format!("there is no host {id:?}; the first hello of its agent registers it"),
    )
}

fn host_id(text: &str) -> Result<HostId, Problem> {
    text.parse().map_err(|_| not_found(text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

/// Lists hosts by id.
#[utoipa::path(get, path = "/hosts", tag = "hosts",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, default 100"),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before")),
    responses((status = 200, description = "A page", body = Envelope<Page<HostView>>), Refusals))]
pub async fn list(State(api): State<Api>, uri: Uri) -> Result<Answer, Problem> {
    let query: ListQuery = query(&uri)?;
    let window = Window::new::<HostId>(query.limit.as_deref(), query.cursor.as_deref())?;
    let (lost_after, now) = (api.handle.settings.lost_after, api.clock().now());
    let page = api
        .read(move |connection| {
            let rows = table::page(connection, &window.after, window.rows())?;
            let rows = Page::of(rows, &window, |row| row.host_id.as_str().to_owned(), |row| row);
            let items: Result<Vec<_>, _> =
                rows.items.into_iter().map(|row| view(connection, row, lost_after, now)).collect();
            Ok(Page { items: items?, next_cursor: rows.next_cursor })
        })
        .await?;
    Answer::ok(&page, format!("{} hosts", page.items.len()))
}

/// One host.
#[utoipa::path(get, path = "/hosts/{id}", tag = "hosts",
    params(("id" = String, Path, description = "Id of the host")),
    responses((status = 200, description = "The host", body = Envelope<HostDetail>), Refusals))]
pub async fn find(State(api): State<Api>, Named(id): Named) -> Result<Answer, Problem> {
    let host = host_id(&id)?;
    let (lost_after, now) = (api.handle.settings.lost_after, api.clock().now());
    let detail = api
        .read(move |connection| {
            let Some(row) = table::find(connection, &host)? else { return Ok(None) };
            let strays = table::strays(connection, &host)?;
            Ok(Some(HostDetail { host: view(connection, row, lost_after, now)?, strays }))
        })
        .await?
        .ok_or_else(|| not_found(&id))?;
    Answer::ok(&detail, "")
}

async fn set_cordoned(api: Api, id: String, call: Call, cordoned: bool) -> Result<Answer, Problem> {
    let host = host_id(&id)?;
    let Nothing {} = parse_optional(&call.body)?;
    let lost_after = api.handle.settings.lost_after;
    call.once(&api, None, move |tx, now| {
        table::set_cordoned(tx, &host, cordoned)?;
        let row = table::find(tx, &host)?.ok_or_else(|| not_found(host.as_str()))?;
        let message = format!("host {host} takes {} devices", if cordoned { "no new" } else { "new" });
        Answer::ok(&view(tx, row, lost_after, now)?, message)
    })
    .await
}

/// Keeps new devices away from a host.
#[utoipa::path(post, path = "/hosts/{id}/cordon", tag = "hosts",
    params(("id" = String, Path, description = "Id of the host"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 200, description = "The host", body = Envelope<HostView>), Refusals))]
pub async fn cordon(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    set_cordoned(api, id, call, true).await
}

/// Lets a host take new devices again.
#[utoipa::path(post, path = "/hosts/{id}/uncordon", tag = "hosts",
    params(("id" = String, Path, description = "Id of the host"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 200, description = "The host", body = Envelope<HostView>), Refusals))]
pub async fn uncordon(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    set_cordoned(api, id, call, false).await
}

/// Gives up what an unreachable host holds, and fences it.
#[utoipa::path(post, path = "/hosts/{id}/forget", tag = "hosts",
    params(("id" = String, Path, description = "Id of the host"),
        ("Idempotency-Key" = Option<String>, Header, description = "A call with the same key takes effect once")),
    responses((status = 200, description = "What was given up", body = Envelope<Forgotten>), Refusals))]
pub async fn forget(State(api): State<Api>, Named(id): Named, call: Call) -> Result<Answer, Problem> {
    let host = host_id(&id)?;
    let Nothing {} = parse_optional(&call.body)?;
    let (engine, lost_after) = (api.handle.engine, api.handle.settings.lost_after);
    call.once(&api, None, move |tx, now| {
        let devices_given_up = forget::forget(&engine, tx, &host, now).map_err(|error| match error {
            ForgetError::NotFound => not_found(host.as_str()),
            ForgetError::Online(_) => Problem::new(Code::Conflict, error.to_string()),
            ForgetError::Sqlite(error) => error.into(),
        })?;
        let row = table::find(tx, &host)?.ok_or_else(|| not_found(host.as_str()))?;
        let host = view(tx, row, lost_after, now)?;
        let message = format!("{devices_given_up} devices were given up");
        Answer::ok(&Forgotten { host, devices_given_up }, message)
    })
    .await
}
