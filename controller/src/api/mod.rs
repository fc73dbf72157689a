//! The HTTP API of the controller.
//!
//! ```text
//!   connection ─▶ server ─▶ guard ─▶ one file a resource ─▶ one write job (order, verb, …) ─▶ commit ─▶ answer
//!                 (cap)    (origin,      │                     └─ with the answer's row, for Idempotency-Key
//!                           time limit,  └─▶ read job, a page at a time
//!                           metrics)
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`devices`] [`devices_batch`] [`recordings`] [`hosts`] [`ports`] [`sagas`] [`quotas`] [`health`] | the calls, by resource |
//! | [`recording_content`] | the bytes of a video, whole or in part |
//! | [`device_view`] [`recording_view`] | a device and a recording as the API shows them |
//! | [`answer`] [`problem`] | the two shapes of an answer |
//! | [`body`] [`page`] | what comes in: bodies, queries, windows of lists |
//! | [`idempotency`] | calls that take effect once |
//! | [`guard`] [`server`] `connection` | what stands around every call, and around every connection |
//! | [`openapi`] | the description of all of it |
//!
//! Nothing is decided here: orders are accepted by [`crate::order`], sagas moved by the
//! engine. A call answers after its commit, and never before.

pub mod answer;
pub mod body;
mod connection;
pub mod device_view;
pub mod devices;
pub mod devices_batch;
pub mod guard;
pub mod health;
pub mod hosts;
pub mod idempotency;
pub mod openapi;
pub mod page;
pub mod ports;
pub mod problem;
pub mod quotas;
pub mod recording_content;
pub mod recording_view;
pub mod recordings;
pub mod sagas;
pub mod server;

use crate::controller::Handle;
use crate::metrics::Metrics;
use crate::store::Tx;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use phonefleet_protocol::time::Clock;
use phonefleet_store::damage::is_damage;
use phonefleet_store::rusqlite::{self, Connection};
use phonefleet_store::{ReadError, WriteError};
use problem::{Code, Problem};
use std::sync::Arc;
use tokio::sync::Notify;

/// What every call works with; cheap to clone.
#[derive(Clone)]
pub struct Api {
    handle: Handle,
    metrics: Arc<Metrics>,
    store_stopped: Arc<Notify>,
}

impl Api {
    /// An API over a running controller.
    pub fn new(handle: Handle, metrics: Arc<Metrics>) -> Self {
        Self { handle, metrics, store_stopped: Arc::new(Notify::new()) }
    }

    /// Resolves when a call found that the store has stopped, or is damaged: the daemon must start
    /// again.
    pub async fn store_stopped(&self) {
        self.store_stopped.notified().await;
    }

    fn clock(&self) -> &dyn Clock {
        &*self.handle.clock
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnMut(&mut Tx<'_>) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let written = self.handle.store.try_write(job).await;
        if let Err(WriteError::Unknown(_) | WriteError::Closed) = &written {
            self.store_stopped.notify_one();
        }
        written.map_err(Problem::from)
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let found = self.handle.store.read(job).await;
        match &found {
            Err(ReadError::Closed) => self.store_stopped.notify_one(),
            Err(ReadError::Sqlite(error)) if is_damage(error) => self.store_stopped.notify_one(),
            Ok(_) | Err(ReadError::Sqlite(_)) => {}
        }
        found.map_err(Problem::from)
    }
}

/// The last part of a path that names a thing.
#[derive(Debug)]
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name))
            .map_err(|_| Problem::new(Code::NotFound, "the id in the path cannot be read"))
    }
}

/// Every call.
pub fn router(api: Api) -> axum::Router {
    axum::Router::new()
        .route("/devices", get(devices::list).post(devices::create))
        .route("/devices/batch", post(devices_batch::create))
        .route("/devices/{id}", get(devices::find).delete(devices::delete))
        .route("/devices/{id}/start", post(devices::start))
        .route("/devices/{id}/stop", post(devices::stop))
        .route("/devices/{id}/reboot", post(devices::reboot))
        .route("/devices/{id}/reset", post(devices::reset))
        .route("/devices/{id}/recordings", post(recordings::start))
        .route("/recordings", get(recordings::list))
        .route("/recordings/{id}", get(recordings::find).delete(recordings::delete))
        .route("/recordings/{id}/stop", post(recordings::stop))
        .route("/recordings/{id}/content", get(recording_content::content))
        .route("/hosts", get(hosts::list))
        .route("/hosts/{id}", get(hosts::find))
        .route("/hosts/{id}/cordon", post(hosts::cordon))
        .route("/hosts/{id}/uncordon", post(hosts::uncordon))
        .route("/hosts/{id}/forget", post(hosts::forget))
        .route("/ports/allocated", get(ports::allocated))
        .route("/sagas", get(sagas::list))
        .route("/sagas/batch", get(sagas::batch))
        .route("/sagas/{id}", get(sagas::find))
        .route("/sagas/{id}/events", get(sagas::events))
        .route("/sagas/{id}/resume", post(sagas::resume))
        .route("/sagas/{id}/compensate", post(sagas::compensate))
        .route("/sagas/{id}/abandon", post(sagas::abandon))
        .route("/quotas/{userId}", get(quotas::limits).put(quotas::set_limits).delete(quotas::reset_limits))
        .route("/quotas/{userId}/usage", get(quotas::usage))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(|| async { Problem::new(Code::NotFound, "there is no such path; see /openapi.json") })
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "this path has other methods; see /openapi.json")
        })
        .layer(DefaultBodyLimit::max(body::BODY_BYTES))
        .layer(from_fn_with_state(api.clone(), guard::guard))
        .with_state(api)
}
