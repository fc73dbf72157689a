//! The connections: loopback only, so many at a time, ended in order.

use super::connection::{Connection, REST};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use phonefleet_service::Pulse;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at a time; further ones wait in the system's queue.
const CONNECTIONS: usize = 512;
/// Time in which a client must send a head; also how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Time that calls get to finish when the daemon ends.
const FINISH_TIME: Duration = Duration::from_secs(10);
/// Pause after the system refused to accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Why the API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is open to others.
    #[error(
        "{0} is not a loopback address, and this API has no authentication yet: anyone who reaches it may do \
         everything; use 127.0.0.1 or [::1], and an SSH tunnel from elsewhere"
    )]
    NotLoopback(SocketAddr),
    /// The system refuses.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Listens on a loopback address.
///
/// # Errors
/// Addresses that others can reach, and what the system refuses.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    if !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source })
}

/// Serves until `shutdown`, then lets calls in flight finish.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_with_pulse(listener, router, shutdown, Pulse::unheard()).await;
}

/// The same, showing that the loop of connections comes round. One that is full does: it
/// waits for clients, which are none of the daemon's faults.
pub async fn serve_with_pulse(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    mut pulse: Pulse,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (ending, end) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            // Never closed, so there is always a permit some day.
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            () = pulse.asked() => {}
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (router, end) = (router.clone(), end.clone());
                    connections.spawn(async move {
                        let _place = place;
                        converse(stream, router, end).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a call panicked");
                }
            }
        }
    }
    drop(listener);
    // Receivers live in the connections; without any there is nobody to tell.
    let _ = ending.send(true);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH_TIME, finish).await.is_err() {
        tracing::warn!("calls did not finish in time and are cut off");
    }
}

async fn converse(stream: TcpStream, router: Router, mut ending: watch::Receiver<bool>) {
    // Only latency is lost without it.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let service = TowerToHyperService::new(router);
    let stream = TokioIo::new(Connection::new(stream, REST));
    let mut connection = pin!(builder.serve_connection(stream, service));
    // Also when the sender is gone.
    let end = async { _ = ending.wait_for(|ending| *ending).await };
    let result = tokio::select! {
        result = &mut connection => result,
        () = end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
