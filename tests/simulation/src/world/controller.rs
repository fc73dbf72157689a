//! One life of a controller, with its HTTP API in the same process.

use super::daemon::{Gate, Life, follow_disk};
use super::network::Network;
use crate::watch::Watch;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use phonefleet_controller::api::{self, Api};
use phonefleet_controller::controller::{Controller, Parts, Settings, Signals};
use phonefleet_controller::metrics::Metrics;
use phonefleet_controller::store::{self, Notice};
use phonefleet_protocol::topic::Channel;
use phonefleet_store::Mode;
use phonefleet_tests::simulation::time::SeededIds;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// A call of the API on its way; what comes back is status and body.
pub struct ApiCall {
    /// The call.
    pub request: Request<Body>,
    /// Its answer. Dropped when the controller dies first.
    pub answer: oneshot::Sender<(u16, String)>,
}

/// Where calls go; `None` while there is no controller.
pub type Door = watch::Sender<Option<mpsc::UnboundedSender<ApiCall>>>;

/// Runs a controller until it ends by itself, or is dropped.
pub async fn live(life: Life, network: Network, ids: Arc<SeededIds>, watch: Arc<Watch>, door: Arc<Door>) {
    door.send_replace(None);
    let metrics = Arc::new(Metrics::default());
    let observer = Arc::clone(&metrics);
    let seen = Arc::clone(&watch);
    let signals = Signals::new(Arc::new(move |notice| {
        if let Notice::EventApplied { host, epoch, number } = notice {
            seen.applied(host.as_str(), epoch.0, *number);
        }
        observer.on_notice(notice);
    }));
    let witness = watch.commits_of(&life.database);
    let gate = Gate::new(witness, life.crash.clone(), watch);
    let mode = Mode::Inline { gate: Some(Arc::new(gate)) };
    // The lock of the one that was killed is gone when its last task is.
    let Ok(store) = store::open(&life.database, mode, signals.on_commit()) else { return };
    let disk = follow_disk(store.clone(), life.full);
    let filters = [Channel::Up, Channel::Presence, Channel::Telemetry].map(Channel::of_all);
    let filters = filters.each_ref().map(String::as_str);
    let (transport, incoming) = network.connect("controller", &filters);
    let parts = Parts { store, signals, transport, incoming, clock: life.clock, ids };
    let controller = Controller::new(Settings::default(), parts);
    let router = api::router(Api::new(controller.handle(), metrics));
    let (calls, mut queue) = mpsc::unbounded_channel::<ApiCall>();
    door.send_replace(Some(calls));
    let _closed = Closed(&door);
    let serve = async {
        let mut answering = JoinSet::new();
        while let Some(ApiCall { request, answer }) = queue.recv().await {
            let router = router.clone();
            answering.spawn(async move {
                let Ok(response) = router.oneshot(request).await;
                let status = response.status().as_u16();
                if let Ok(body) = response.into_body().collect().await {
                    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                    // Whoever asked may have gone.
                    let _ = answer.send((status, body));
                }
            });
        }
    };
    tokio::select! {
        biased;
        _ = controller.run() => {}
        () = serve => {}
        () = disk => {}
    }
}

/// Closes the door when the controller is killed.
struct Closed<'a>(&'a Door);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}
