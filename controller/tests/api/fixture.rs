//! A controller's API in this process, and short ways to call it.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use phonefleet_controller::api::{self, Api};
use phonefleet_controller::controller::{Controller, Parts, Settings, Signals};
use phonefleet_controller::metrics::Metrics;
use phonefleet_controller::store::host::{self, HostRow};
use phonefleet_controller::store::{self, Store, Tx};
use phonefleet_link::MemoryBroker;
use phonefleet_protocol::host::{Capacity, HostReport};
use phonefleet_protocol::id::SystemIds;
use phonefleet_protocol::stream::Epoch;
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use phonefleet_store::Mode;
use phonefleet_store::rusqlite;
use phonefleet_store::stream_log::COMMAND_OUTBOX;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    pub fn data(&self) -> Value {
        let json = self.json();
        assert_eq!(json["success"], true, "{json}");
        json["data"].clone()
    }

    /// Asserts that this is a refusal in the shape of RFC 9457.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let json = self.json();
        assert_eq!((self.status.as_u16(), json["code"].as_str()), (status, Some(code)), "{json}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(json["success"], false);
        assert_eq!(json["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(json[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {json}");
        }
        json
    }
}

pub struct Fixture {
    pub router: Router,
    pub store: Store,
    _controller: Controller,
    _directory: tempfile::TempDir,
}

impl Fixture {
    /// A controller with one host, `host-1`.
    pub async fn new() -> Self {
        let fixture = Self::empty();
        fixture.add_host("host-1", Capacity::default()).await;
        fixture
    }

    /// A controller without hosts.
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let observer = Arc::clone(&metrics);
        let signals = Signals::new(Arc::new(move |notice| observer.on_notice(notice)));
        let path = directory.path().join("controller.db");
        let store = store::open(&path, Mode::Threaded, signals.on_commit()).unwrap();
        let (transport, incoming) = MemoryBroker::new().connect("controller", &[], None);
        let parts = Parts {
            store: store.clone(),
            signals,
            transport,
            incoming,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        };
        // As if `host-1` were an agent on this machine.
        let settings = Settings { machine_id: Some("machine-of-host-1".into()), ..Settings::default() };
        let controller = Controller::new(settings, parts);
        let router = api::router(Api::new(controller.handle(), metrics));
        Self { router, store, _controller: controller, _directory: directory }
    }

    pub async fn add_host(&self, name: &'static str, capacity: Capacity) {
        self.write(move |tx| {
            let now = SystemClock.now();
            let row = HostRow {
                host_id: name.parse().unwrap(),
                machine_id: format!("machine-of-{name}"),
                software: "phonefleet-agent/test".into(),
                report: HostReport {
                    capacity: capacity.clone(),
                    image: "phone:1".into(),
                    allowed_images: vec!["phone:2".into()],
                    runtime: "simulated".into(),
                    machine_cpu_cores: 64,
                    address: "127.0.0.1".into(),
                    ..HostReport::default()
                },
                heartbeat: None,
                online: true,
                last_seen_at: now,
                cordoned: false,
                conflict_with: None,
                conflict_until: Timestamp(0),
                forgotten_at: None,
                registered_at: now,
            };
            host::upsert(tx, &row)?;
            COMMAND_OUTBOX.open(tx, name, Epoch(1), now).map(|_| ())
        })
        .await;
    }

    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnMut(&mut Tx<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> T {
        self.store.write(job).await.unwrap()
    }

    pub async fn sql(&self, sql: &'static str) {
        self.write(move |tx| tx.execute_batch(sql)).await;
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        self.store.read(move |connection| connection.query_row(sql, [], |row| row.get(0))).await.unwrap()
    }

    /// Every device at rest in this status, every saga ended.
    pub async fn settle(&self, status: &'static str, phase: &'static str) {
        self.write(move |tx| {
            tx.execute("UPDATE saga_state SET status = 'COMPLETED', ended_at = 1, due_at = NULL", [])?;
            let sql = "UPDATE device SET status = ?1, phase = ?2, wish = 'running', adb_port = 20000 + rowid_of,
                webrtc_port = 21000 + rowid_of, container_id = 'c0ffee'
                FROM (SELECT device_id AS id, row_number() OVER (ORDER BY device_id) AS rowid_of FROM device) AS n
                WHERE n.id = device.device_id";
            tx.execute(sql, [status, phase]).map(|_| ())
        })
        .await;
    }

    pub async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answered { status: parts.status, headers: parts.headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answered {
        self.send(Request::delete(path).body(Body::empty()).unwrap()).await
    }

    /// POST without a body.
    pub async fn act(&self, path: &str) -> Answered {
        self.send(Request::post(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answered {
        self.post_raw(path, None, body.to_string()).await
    }

    pub async fn post_raw(&self, path: &str, key: Option<&str>, body: impl Into<Body>) -> Answered {
        let mut request = Request::post(path).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answered {
        let request = Request::put(path).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Orders a device; returns its id and saga.
    pub async fn order(&self, user: &str, name: &str) -> (String, String) {
        let answer = self.post("/devices", &order(user, name)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&answer.bytes));
        let data = answer.data();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&data["device"]["id"]), text(&data["sagaId"]))
    }
}

pub fn order(user: &str, name: &str) -> Value {
    json!({"name": name, "userId": user, "providerType": "REDROID"})
}

/// The same order with other fields.
pub fn order_with(fields: &Value) -> Value {
    let mut order = order("user-1", "phone-1");
    for (name, value) in fields.as_object().unwrap() {
        order[name] = value.clone();
    }
    order
}
