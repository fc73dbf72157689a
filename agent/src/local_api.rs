//! The agent's own HTTP API, on loopback only: it has no login.
//!
//! | call | answer |
//! |---|---|
//! | `GET /healthz` | 200: the process answers |
//! | `GET /readyz` | 200, or 503 with the parts that are missing, why, and since when |
//! | `GET /metrics` | numbers for Prometheus |
//! | `GET /orphans` | what belongs to no device, looked for now ([`Report`](crate::orphan::Report)) |
//! | `GET /status` | everything, as JSON ([`Status`](crate::status::Status)) |
//!
//! It serves before the database is open and while parts are missing: that is when it is
//! asked. [`client`] is the other end, for `phonefleet-agent status` and `orphans`.

pub mod client;

use crate::metrics::Metrics;
use crate::status::Overview;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Pause before an address that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What the calls show.
#[derive(Clone)]
pub struct LocalApi {
    /// Parts, devices, identity.
    pub overview: Arc<Overview>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
}

/// The calls.
pub fn router(api: LocalApi) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "alive": true }))))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/orphans", get(orphans))
        .route("/status", get(status))
        .with_state(api)
}

/// Serves until it is dropped. An address that is taken is tried again and again: phones
/// do not depend on this API. One that is not loopback is refused.
pub async fn serve(listen: SocketAddr, api: LocalApi) {
    if !listen.ip().is_loopback() {
        tracing::error!(%listen, "the local API has no login and is served on loopback only");
        return;
    }
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                tracing::info!(%listen, "local API");
                // Ends with an error of the listening socket only.
                let Err(error) = axum::serve(listener, router(api.clone())).await else { return };
                tracing::warn!(%listen, %error, "the local API ended; trying again");
            }
            Err(error) => tracing::warn!(%listen, %error, "the local API cannot listen; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn readyz(State(api): State<LocalApi>) -> Response {
    let parts = api.overview.board.parts();
    let ready = parts.values().all(|part| part.ready);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": ready, "parts": parts }))).into_response()
}

async fn metrics(State(api): State<LocalApi>) -> Response {
    let text = api.metrics.text(&api.overview.status().await, &api.overview.phones());
    ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], text).into_response()
}

async fn orphans(State(api): State<LocalApi>) -> Response {
    Json(api.overview.orphans(true).await).into_response()
}

async fn status(State(api): State<LocalApi>) -> Response {
    Json(api.overview.status().await).into_response()
}

#[cfg(test)]
mod tests;
