//! The calls over a real socket, with a source that fails.

use super::*;
use crate::host::resources::Resources;
use crate::status::{Board, Identity, Part, Snapshot, StatusSource};
use async_trait::async_trait;
use phonefleet_protocol::host::Capacity;
use phonefleet_protocol::time::{SystemClock, Timestamp};
use std::io::{Read as _, Write as _};
use std::path::Path;

struct Source(Result<Snapshot, String>);

#[async_trait]
impl StatusSource for Source {
    async fn snapshot(&self) -> Result<Snapshot, String> {
        self.0.clone()
    }
}

fn api() -> LocalApi {
    let identity = Identity {
        host_id: "h1".into(),
        instance: "i".into(),
        version: "1.2.3".into(),
        started_at: Timestamp(0),
    };
    let board = Board::new(Arc::new(SystemClock));
    let resources = Arc::new(Resources::new(Path::new("/")).unwrap());
    LocalApi {
        overview: Arc::new(Overview::new(identity, Capacity::default(), board)),
        metrics: Arc::new(Metrics::new(resources, "1.2.3")),
    }
}

async fn served(api: &LocalApi) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(api.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn call(address: SocketAddr, path: &'static str) -> String {
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn readiness_follows_the_board_and_health_does_not() {
    let api = api();
    let address = served(&api).await;
    let board = &api.overview.board;
    board.missing(Part::Broker, "connection refused");
    for part in [Part::Engine, Part::Adb, Part::Store] {
        board.ready(part, "");
    }
    assert!(call(address, "/healthz").await.starts_with("HTTP/1.0 200"));
    let answer = call(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.0 503") && answer.contains("connection refused"), "{answer}");
    assert!(answer.contains("\"since\""), "{answer}");
    board.ready(Part::Broker, "");
    assert!(call(address, "/readyz").await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn status_and_metrics_answer_with_and_without_a_database() {
    let api = api();
    let address = served(&api).await;
    let ask = || tokio::task::spawn_blocking(move || client::status(address).unwrap().1);
    let status = ask().await.unwrap();
    assert_eq!(status.fault.as_deref(), Some("the database is not open yet"));
    let text = status.to_string();
    assert!(text.contains("host h1") && text.contains("unlimited") && text.contains("NOT READY"), "{text}");
    assert!(call(address, "/metrics").await.contains("phonefleet_agent_part_ready{part=\"adb\"} 0"));

    api.overview.set_source(Arc::new(Source(Ok(Snapshot { outbox_pending: 3, ..Snapshot::default() }))));
    let status = ask().await.unwrap();
    assert_eq!(status.snapshot.unwrap().outbox_pending, 3);
    let metrics = call(address, "/metrics").await;
    assert!(metrics.contains("phonefleet_agent_outbox_pending 3"), "{metrics}");
    assert!(metrics.contains("openmetrics-text"), "{metrics}");
}

#[test]
fn without_an_agent_the_command_says_what_to_look_at() {
    let error = client::status("127.0.0.1:1".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("does it run"), "{error}");
}

#[tokio::test]
async fn a_public_address_is_not_served() {
    // Returns at once instead of serving.
    serve("0.0.0.0:0".parse().unwrap(), api()).await;
}
