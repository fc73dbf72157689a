//! `/ports`: which ports of which host are leased.

use super::Api;
use super::openapi::Refusals;
use super::page::{parameter, query};
use super::problem::Problem;
use crate::store::device as table;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use phonefleet_protocol::id::HostId;
use serde::{Deserialize, Serialize};

/// What a port is for.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// ADB.
    Adb,
    /// A WebRTC streamer.
    Webrtc,
}

/// One leased port.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllocatedPort {
    /// On which host.
    host_id: String,
    /// Which port.
    port: u16,
    /// For what.
    kind: PortKind,
    /// For which device.
    device_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PortsQuery {
    host_id: Option<String>,
}

/// Lists leased ports: a bare array, without the envelope.
#[utoipa::path(get, path = "/ports/allocated", tag = "ports",
    params(("hostId" = Option<String>, Query, description = "Of this host only")),
    responses((status = 200, description = "Every leased port", body = Vec<AllocatedPort>), Refusals))]
pub async fn allocated(State(api): State<Api>, uri: Uri) -> Result<Json<Vec<AllocatedPort>>, Problem> {
    let query: PortsQuery = query(&uri)?;
    let host: Option<HostId> = parameter("hostId", query.host_id.as_deref())?;
    let leases = api.read(move |connection| table::ports(connection, host.as_ref())).await?;
    let ports = leases.into_iter().flat_map(|(host_id, device_id, ports)| {
        [(PortKind::Adb, ports.adb), (PortKind::Webrtc, ports.webrtc)].map(|(kind, port)| AllocatedPort {
            host_id: host_id.clone(),
            port,
            kind,
            device_id: device_id.clone(),
        })
    });
    Ok(Json(ports.collect()))
}
