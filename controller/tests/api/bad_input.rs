//! What strangers send.

use crate::fixture::{Fixture, order, order_with};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_field_is_named() {
    let fixture = Fixture::new().await;
    let many_labels: Value =
        (0..33).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let table = [
        (json!({"name": ""}), "/name"),
        (json!({"name": "a".repeat(64)}), "/name"),
        (json!({"name": "-a"}), "/name"),
        (json!({"name": "télé"}), "/name"),
        (json!({"name": "a\u{0}b"}), "/name"),
        (json!({"name": "\u{202e}abc"}), "/name"),
        (json!({"name": 5}), "/name"),
        (json!({"name": null}), "/name"),
        (json!({"name": ["a"]}), "/name"),
        (json!({"userId": ""}), "/userId"),
        (json!({"userId": "a b"}), "/userId"),
        (json!({"userId": "x".repeat(129)}), "/userId"),
        (json!({"userId": {}}), "/userId"),
        (json!({"providerType": "redroid"}), "/providerType"),
        (json!({"providerType": "CUTTLEFISH"}), "/providerType"),
        (json!({"providerType": 1}), "/providerType"),
        (json!({"cpuCores": "2"}), "/cpuCores"),
        (json!({"cpuCores": 0}), "/cpuCores"),
        (json!({"cpuCores": -1}), "/cpuCores"),
        (json!({"cpuCores": 257}), "/cpuCores"),
        (json!({"memoryMB": 63}), "/memoryMB"),
        (json!({"memoryMB": -1}), "/memoryMB"),
        (json!({"memoryMB": 64.5}), "/memoryMB"),
        (json!({"memoryMB": 1_u64 << 60}), "/memoryMB"),
        (json!({"memoryMB": true}), "/memoryMB"),
        (json!({"storageMB": 0}), "/storageMB"),
        (json!({"width": 0}), "/width"),
        (json!({"height": 100_000}), "/height"),
        (json!({"width": 5_000_000_000_u64}), "/width"),
        (json!({"dpi": 1}), "/dpi"),
        (json!({"fps": 121}), "/fps"),
        (json!({"gpuMode": "Guest"}), "/gpuMode"),
        (json!({"image": "a b"}), "/image"),
        (json!({"image": "../../etc/passwd"}), "/image"),
        (json!({"image": "-v"}), "/image"),
        (json!({"hostId": "Host 1"}), "/hostId"),
        (json!({"templateId": "t"}), "/templateId"),
        (json!({"labels": {"a": 1}}), "/labels/a"),
        (json!({"labels": {"a/b~c": 1}}), "/labels/a~1b~0c"),
        (json!({"labels": []}), "/labels"),
        (json!({"labels": many_labels}), "/labels"),
        (json!({"labels": {"": "x"}}), "/labels/"),
        (json!({"labels": {"a": "x".repeat(257)}}), "/labels/a"),
        (json!({"labels": {"a/b": "x\u{0}y"}}), "/labels/a~1b"),
        (json!({"labels": {"a": "\u{1b}[2J"}}), "/labels/a"),
        (json!({"labels": {"a": "\u{202e}gpj.exe"}}), "/labels/a"),
        (json!({"labels": {"a\nb": ""}}), "/labels/a\nb"),
        (json!({"bootArgs": "ro.a=b"}), "/bootArgs"),
        (json!({"bootArgs": ["ro.a=b", "init=/bin/sh"]}), "/bootArgs/1"),
        (json!({"bootArgs": ["androidboot.serialno=x"]}), "/bootArgs/0"),
        (json!({"bootArgs": ["ro.a=b c"]}), "/bootArgs/0"),
        (json!({"memoryMb": 4096}), "/memoryMb"),
        (json!({"status": "RUNNING"}), "/status"),
        (json!({"__proto__": {}}), "/__proto__"),
    ];
    for (fields, pointer) in table {
        let refusal = fixture.post("/devices", &order_with(&fields)).await.refused(400, "INVALID_SPEC");
        assert_eq!(refusal["pointer"], pointer, "{fields}: {refusal}");
        assert_eq!(refusal["errors"][0]["pointer"], pointer);
    }
    for missing in ["name", "userId", "providerType"] {
        let mut body = order("user-1", "phone-1");
        body.as_object_mut().unwrap().remove(missing);
        let refusal = fixture.post("/devices", &body).await.refused(400, "INVALID_SPEC");
        assert_eq!(refusal["pointer"], format!("/{missing}"));
    }
    let several = json!({"memoryMB": 1, "fps": 0, "name": "?"});
    let refusal = fixture.post("/devices", &order_with(&several)).await.refused(400, "INVALID_SPEC");
    assert_eq!(refusal["errors"].as_array().unwrap().len(), 3, "{refusal}");
    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_order_at_all() {
    let fixture = Fixture::new().await;
    let deep_field = [&br#"{"labels":"#[..], &vec![b'['; 200_000]].concat();
    let deep_objects = br#"{"a":"#.repeat(20_000);
    let bodies: [(&[u8], &str); 16] = [
        (b"", "INVALID_JSON"),
        (b" ", "INVALID_JSON"),
        (b"null", "INVALID_SPEC"),
        (b"[]", "INVALID_SPEC"),
        (b"5", "INVALID_SPEC"),
        (b"\"x\"", "INVALID_SPEC"),
        (b"{", "INVALID_JSON"),
        (b"{}x", "INVALID_JSON"),
        (b"name=phone&userId=u", "INVALID_JSON"),
        (b"\xff\xfe{}", "INVALID_JSON"),
        (b"{\"name\":\"\xc3\x28\"}", "INVALID_JSON"),
        (br#"{"name":"\ud800"}"#, "INVALID_SPEC"),
        (b"\xef\xbb\xbf{}", "INVALID_JSON"),
        (br#"{"name":"a","name":"b","userId":"u","providerType":"REDROID"}"#, "INVALID_SPEC"),
        (&deep_field, "INVALID_JSON"),
        (&deep_objects, "INVALID_JSON"),
    ];
    for (body, code) in bodies {
        let answer = fixture.post_raw("/devices", None, body.to_vec()).await;
        answer.refused(400, code);
        assert!(answer.bytes.len() < 5000, "a refusal must not give back what was sent");
    }
    let deep = vec![b'['; 200_000];
    fixture.post_raw("/devices", None, deep).await.refused(400, "INVALID_JSON");
    let closed = [&br#"{"devices":["#[..], &vec![b'['; 100_000], &vec![b']'; 100_000], b"]}"].concat();
    let answer = fixture.post_raw("/devices/batch", None, closed).await;
    assert_eq!(answer.data()["results"]["#0"]["code"], "INVALID_SPEC");
    // By position, as serde would take it.
    let list =
        br#"["phone-1","user-1","REDROID",null,null,null,null,null,null,null,null,null,null,null,null,null]"#;
    fixture.post_raw("/devices", None, list.to_vec()).await.refused(400, "INVALID_SPEC");

    let valid = order("user-1", "phone-1").to_string();
    let followed = format!("{valid} {valid}");
    fixture.post_raw("/devices", None, followed).await.refused(400, "INVALID_JSON");
    let huge = format!("{valid}{}", " ".repeat(256 * 1024));
    fixture.post_raw("/devices", None, huge).await.refused(413, "PAYLOAD_TOO_LARGE");
    let pieces = futures_util::stream::iter((0..300).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024])));
    fixture.post_raw("/devices", None, Body::from_stream(pieces)).await.refused(413, "PAYLOAD_TOO_LARGE");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "\u{e9}"] {
        let request = Request::post("/devices").header("content-type", kind).body(Body::from(valid.clone()));
        fixture.send(request.unwrap()).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let request = Request::post("/devices").body(Body::from(valid.clone())).unwrap();
    fixture.send(request).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 0);
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"] {
        let body = order("user-1", &format!("phone-{}", kind.len())).to_string();
        let request = Request::post("/devices").header("content-type", kind).body(Body::from(body)).unwrap();
        assert_eq!(fixture.send(request).await.status, 202, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_may_not_ask() {
    let fixture = Fixture::new().await;
    let ask = async |header: &str, value: &str| {
        let request = Request::get("/devices").header(header, value).body(Body::empty()).unwrap();
        fixture.send(request).await
    };
    ask("host", "evil.example").await.refused(403, "ORIGIN_NOT_ALLOWED");
    ask("host", "10.0.0.1:30002").await.refused(403, "ORIGIN_NOT_ALLOWED");
    ask("origin", "https://evil.example").await.refused(403, "ORIGIN_NOT_ALLOWED");
    ask("origin", "null").await.refused(403, "ORIGIN_NOT_ALLOWED");
    // Two names, of which one is ours; a name in the request line; two origins.
    for (line, headers) in [
        ("/devices", [("host", "localhost"), ("host", "evil.example")]),
        ("http://evil.example/devices", [("host", "localhost"), ("x-none", "")]),
        ("/devices", [("origin", "http://localhost"), ("origin", "http://evil.example")]),
    ] {
        let mut request = Request::get(line);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = fixture.send(request.body(Body::empty()).unwrap()).await;
        answer.refused(403, "ORIGIN_NOT_ALLOWED");
    }
    assert_eq!(ask("host", "localhost:30002").await.status, 200);
    assert_eq!(ask("host", "[::1]:30002").await.status, 200);
    assert_eq!(ask("origin", "http://127.0.0.1:8080").await.status, 200);
}

/// A body that trickles, or stops: the call ends, and says why.
#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    let fixture = Fixture::new().await;
    tokio::time::pause();
    let trickle = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>(vec![b' ']), ()))
    });
    let silence = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let torn = futures_util::stream::iter([Ok(b"{\"name\":".to_vec()), Err(std::io::Error::other("torn"))]);
    fixture.post_raw("/devices", None, Body::from_stream(trickle)).await.refused(408, "REQUEST_TIMEOUT");
    fixture.post_raw("/devices", None, Body::from_stream(silence)).await.refused(408, "REQUEST_TIMEOUT");
    fixture.post_raw("/devices", None, Body::from_stream(torn)).await.refused(400, "INVALID_BODY");
    tokio::time::resume();
    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_body_is_not_unpacked() {
    let fixture = Fixture::new().await;
    let send = async |encoding: &str| {
        let body = order("user-1", "phone-1").to_string();
        let request = Request::post("/devices")
            .header("content-type", "application/json")
            .header("content-encoding", encoding);
        fixture.send(request.body(Body::from(body)).unwrap()).await
    };
    for encoding in ["gzip", "br", "identity, gzip", "\u{e9}"] {
        send(encoding).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert_eq!(send("identity").await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_and_limits_that_cannot_be() {
    let fixture = Fixture::new().await;
    let (_, saga) = fixture.order("user-1", "phone-1").await;
    let events = format!("/sagas/{saga}/events");
    for list in ["/devices", "/hosts", "/sagas", &events] {
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=1.5",
            "limit=x",
            "limit=",
            "limit=99999999999999999999",
            "limit=1&limit=2",
            "limit=%00",
            "cursor=A%20b",
            "cursor=%00",
            "cursor=%ff%fe",
            "cursor=%27%20OR%201=1--",
            "cursor=..%2f..%2fetc",
            "page=2",
            "a=b&a=b",
            "%ff=1",
        ] {
            fixture.get(&format!("{list}?{query}")).await.refused(400, "INVALID_QUERY");
        }
        let long = format!("{list}?cursor={}", "a".repeat(5000));
        let answer = fixture.get(&long).await;
        answer.refused(400, "INVALID_QUERY");
        assert!(answer.bytes.len() < 2500, "a refusal must not give back what was sent");
        assert_eq!(fixture.get(&format!("{list}?cursor=")).await.status, 200, "the first page");
    }
    for query in ["status=RUNNING%00", "status=running", "userId=a%20b", "hostId=A", "userId=", "hostId=%2b"]
    {
        fixture.get(&format!("/devices?{query}")).await.refused(400, "INVALID_QUERY");
    }
    for id in ["x", "%00", "..%2f..", "%F0%9F%92%A9", "0", "01890000-0000-7000-8000-00000000000g", "%20"] {
        for (method, path, code) in [
            ("GET", format!("/devices/{id}"), "DEVICE_NOT_FOUND"),
            ("DELETE", format!("/devices/{id}"), "DEVICE_NOT_FOUND"),
            ("POST", format!("/devices/{id}/start"), "DEVICE_NOT_FOUND"),
            ("GET", format!("/sagas/{id}"), "SAGA_NOT_FOUND"),
            ("POST", format!("/sagas/{id}/resume"), "SAGA_NOT_FOUND"),
            ("GET", format!("/hosts/{id}"), "HOST_NOT_FOUND"),
            ("POST", format!("/hosts/{id}/forget"), "HOST_NOT_FOUND"),
        ] {
            let request = Request::builder().method(method).uri(&path).body(Body::empty()).unwrap();
            fixture.send(request).await.refused(404, code);
        }
    }
    fixture.get("/devices/%ff").await.refused(404, "NOT_FOUND");
    fixture.get("/nothing").await.refused(404, "NOT_FOUND");
    for (method, path) in [("PATCH", "/devices"), ("PUT", "/devices/x"), ("GET", "/devices/x/start")] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = fixture.send(request).await;
        answer.refused(405, "METHOD_NOT_ALLOWED");
        assert!(answer.headers.contains_key("allow"), "{method} {path}");
    }
}

/// 400, 409, 403, 503: the first that fits is told.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_reasons_the_first_is_told() {
    let fixture = Fixture::new().await;
    fixture.order("user-1", "phone-1").await;
    fixture.put("/quotas/user-1", &json!({"maxDevices": 1})).await.data();
    fixture.act("/hosts/host-1/cordon").await.data();
    let mut all = json!({"name": "phone-1", "fps": 0});
    fixture.post("/devices", &order_with(&all)).await.refused(400, "INVALID_SPEC");
    all["fps"] = json!(30);
    all["image"] = json!("not/allowed:1");
    let refusal = fixture.post("/devices", &order_with(&all)).await.refused(400, "INVALID_SPEC");
    assert_eq!(refusal["pointer"], "/image");
    all["image"] = Value::Null;
    let refusal = fixture.post("/devices", &order_with(&all)).await.refused(409, "CONFLICT");
    assert_eq!(refusal["pointer"], "/name");
    all["name"] = json!("phone-2");
    fixture.post("/devices", &order_with(&all)).await.refused(403, "QUOTA_EXCEEDED");
    fixture.delete("/quotas/user-1").await.data();
    fixture.post("/devices", &order_with(&all)).await.refused(503, "NO_CAPACITY");
}
