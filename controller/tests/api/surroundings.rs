//! Health, numbers, the description, connections, and periodic work.

use crate::fixture::{Fixture, order};
use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use phonefleet_controller::api::server::{self, ListenError};
use phonefleet_controller::schedule::{self, Keep};
use phonefleet_controller::store::{event_outbox, idempotency};
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_living_from_ready() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.get("/healthz").await.data()["status"], "ok");
    let refusal = fixture.get("/readyz").await.refused(503, "NOT_READY");
    let reasons = refusal["reasons"].as_array().unwrap();
    assert!(reasons.len() == 1 && reasons[0].as_str().unwrap().contains("broker"), "{refusal}");
    assert!(reasons[0].as_str().unwrap().contains("NO_CAPACITY"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_follow_what_happened() {
    let fixture = Fixture::new().await;
    fixture.order("user-1", "phone-1").await;
    fixture.get("/devices/nothing").await;
    let answer = fixture.get("/metrics").await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.bytes).unwrap();
    for line in [
        "saga_device_creation_in_progress 1",
        "saga_device_creation_total{status=\"completed\"} 0",
        "saga_device_deletion_in_progress 0",
        "phonefleet_controller_devices{status=\"CREATING\"} 1",
        "phonefleet_controller_hosts{status=\"ONLINE\"} 1",
        "phonefleet_controller_link_up 0",
        "phonefleet_controller_commands_pending 0",
        "phonefleet_controller_http_requests_total{method=\"POST\",route=\"/devices\",status=\"202\"} 1",
        "phonefleet_controller_http_requests_total{method=\"GET\",route=\"/devices/{id}\",status=\"404\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_names_every_call_and_each_is_there() {
    let fixture = Fixture::new().await;
    let document = fixture.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut described: Vec<String> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, call) in item.as_object().unwrap() {
            described.push(format!("{method} {path}"));
            assert!(!call["responses"].as_object().unwrap().is_empty(), "{method} {path}");
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(path.replace("{id}", "x").replace("{userId}", "x"))
                .body(Body::empty())
                .unwrap();
            let answer = fixture.send(request).await;
            let json = serde_json::from_slice::<serde_json::Value>(&answer.bytes).unwrap_or_default();
            let code = json["code"].as_str().unwrap_or_default();
            assert!(!["NOT_FOUND", "METHOD_NOT_ALLOWED"].contains(&code), "{method} {path}: {json}");
        }
    }
    // Its body is read, as those of POST are.
    let deletion = &document["paths"]["/recordings/{id}"]["delete"]["responses"];
    for status in ["408", "409", "413", "415", "422"] {
        assert!(deletion.get(status).is_some(), "{status} is not in {deletion}");
    }
    let names: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|call| call["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(names.iter().collect::<std::collections::HashSet<_>>().len(), names.len(), "{names:?}");
    described.sort();
    let mut expected: Vec<_> = [
        "get /devices",
        "post /devices",
        "post /devices/batch",
        "get /devices/{id}",
        "delete /devices/{id}",
        "post /devices/{id}/start",
        "post /devices/{id}/stop",
        "post /devices/{id}/reboot",
        "post /devices/{id}/reset",
        "post /devices/{id}/recordings",
        "get /recordings",
        "get /recordings/{id}",
        "delete /recordings/{id}",
        "post /recordings/{id}/stop",
        "get /recordings/{id}/content",
        "get /hosts",
        "get /hosts/{id}",
        "post /hosts/{id}/cordon",
        "post /hosts/{id}/uncordon",
        "post /hosts/{id}/forget",
        "get /ports/allocated",
        "get /sagas",
        "get /sagas/batch",
        "get /sagas/{id}",
        "get /sagas/{id}/events",
        "post /sagas/{id}/resume",
        "post /sagas/{id}/abandon",
        "post /sagas/{id}/compensate",
        "get /quotas/{userId}",
        "put /quotas/{userId}",
        "delete /quotas/{userId}",
        "get /quotas/{userId}/usage",
        "get /healthz",
        "get /readyz",
        "get /metrics",
        "get /openapi.json",
    ]
    .map(str::to_owned)
    .into();
    expected.sort();
    assert_eq!(described, expected);
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn only_loopback_addresses_are_listened_on() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:30002"] {
        let error = server::listen(address.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, ListenError::NotLoopback(_)), "{error}");
        assert!(error.to_string().contains("no authentication"), "{error}");
    }
    server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_connection_and_an_orderly_end() {
    let fixture = Fixture::new().await;
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(listener, fixture.router.clone(), async {
        let _ = ended.await;
    }));
    let talk = async |text: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection stays open: {}", String::from_utf8_lossy(&answer));
        String::from_utf8_lossy(&answer).into_owned()
    };
    let body = order("user-1", "phone-1").to_string();
    let head = "POST /devices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let answer = talk(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    // A length that would fill the memory is refused by its word.
    let answer = talk(format!("{head}Content-Length: 99999999999\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(talk(b"\x16\x03\x01 this is TLS\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    assert!(talk(b"GET / HTTP/9.9\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1 << 20));
    assert!(talk(long.as_bytes()).await.starts_with("HTTP/1.1 4"));

    // An idle connection does not hold up the end.
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    end.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_come_back() {
    let fixture = Fixture::new().await;
    let (began, running) = oneshot::channel();
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let mut began = Some(began);
    let store = fixture.store.clone();
    let slow = tokio::spawn(async move {
        let job = move |_: &mut phonefleet_controller::store::Tx<'_>| {
            began.take().map(|began| began.send(()));
            // Until the others were refused; also when they were not, and the test has failed.
            let _ = told.recv_timeout(Duration::from_secs(60));
            Ok::<_, phonefleet_store::rusqlite::Error>(())
        };
        store.write(job).await.unwrap();
    });
    running.await.unwrap();
    // Nothing is answered while the job runs, but what finds no place.
    let mut calls = futures_util::stream::FuturesUnordered::new();
    let refused = loop {
        calls.extend((0..512).map(|_| fixture.act("/hosts/host-1/cordon")));
        assert!(calls.len() < 50_000, "no queue is that long");
        if let Ok(refused) = tokio::time::timeout(Duration::from_millis(200), calls.next()).await {
            break refused.unwrap();
        }
    };
    refused.refused(503, "BUSY");
    assert_eq!(refused.headers["retry-after"], "1");
    go_on.send(()).unwrap();
    slow.await.unwrap();
    let answers: Vec<_> = calls.collect().await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert!(count(200) > 500, "those that had a place are carried out");
    assert_eq!(count(200) + count(503), answers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_enough_goes() {
    let fixture = Fixture::new().await;
    fixture.order("user-1", "phone-1").await;
    fixture.settle("RUNNING", "running").await; // ended in 1970
    let (_, unfinished) = fixture.order("user-1", "phone-2").await;
    let now = SystemClock.now();
    fixture
        .write(move |tx| {
            for number in 0..1200 {
                let scope = idempotency::Scope {
                    user_id: "user-1".into(),
                    method: "POST".into(),
                    path: "/devices".into(),
                    key: format!("key-{number}"),
                };
                let stored = idempotency::Stored { body_hash: 1, status: 202, answer: "{}".into() };
                let at = if number < 1100 { Timestamp(5) } else { now };
                idempotency::store(tx, &scope, &stored, at)?;
            }
            event_outbox::append(tx, "device", "x", "old", &json!({}), Timestamp(5))?;
            event_outbox::append(tx, "device", "x", "new", &json!({}), now)
        })
        .await;
    let events = fixture.count("SELECT count(*) FROM event_outbox").await;
    let removed = schedule::prune_once(&fixture.store, Keep::default(), now).await.unwrap();
    assert_eq!(removed, 1 + 1100 + 1);
    assert_eq!(fixture.count("SELECT count(*) FROM idempotency").await, 100);
    assert_eq!(fixture.count("SELECT count(*) FROM event_outbox").await, events - 1);
    assert_eq!(fixture.count("SELECT count(*) FROM saga_state").await, 1);
    assert_eq!(fixture.get(&format!("/sagas/{unfinished}")).await.status, 200);
}

/// A device that is gone is history for as long as its saga, and for ever while its host has not
/// confirmed it or something works on it.
#[tokio::test(flavor = "multi_thread")]
async fn devices_that_are_gone_for_sure_are_forgotten() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for name in ["living", "gone", "young", "unconfirmed", "told", "busy"] {
        ids.push(fixture.order(name, name).await.0);
        if name == "told" {
            fixture.sql("UPDATE saga_state SET status = 'COMPLETED', ended_at = 1, due_at = NULL").await;
        }
    }
    fixture
        .sql(
            "UPDATE device SET command_seq = NULL, command_dirty = 0, phase = 'absent';
             UPDATE device SET deleted_at = 5 WHERE name <> 'living';
             UPDATE device SET deleted_at = unixepoch() * 1000 WHERE name = 'young';
             UPDATE device SET phase = 'running' WHERE name = 'unconfirmed';
             UPDATE device SET command_seq = 7 WHERE name = 'told';",
        )
        .await;
    schedule::prune_once(&fixture.store, Keep::default(), SystemClock.now()).await.unwrap();
    let mut left = Vec::new();
    for (id, name) in ids.iter().zip(["living", "gone", "young", "unconfirmed", "told", "busy"]) {
        if fixture.get(&format!("/devices/{id}")).await.status == 200 {
            left.push(name);
        }
    }
    assert_eq!(left, ["living", "young", "unconfirmed", "told", "busy"]);
    fixture.sql("UPDATE saga_state SET status = 'COMPLETED', ended_at = 1, due_at = NULL").await;
    let removed = schedule::prune_once(&fixture.store, Keep::default(), SystemClock.now()).await.unwrap();
    assert_eq!(removed, 1 + 1, "the saga, and its device");
}
