//! Calls that take effect once.

use crate::fixture::{Fixture, order};
use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use std::collections::HashSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gives_the_same_answer_to_the_byte() {
    let fixture = Fixture::new().await;
    let body = order("user-1", "phone-1").to_string();
    let first = fixture.post_raw("/devices", Some("key 1"), body.clone()).await;
    assert_eq!(first.status, 202);
    fixture.settle("RUNNING", "running").await;
    let again = fixture.post_raw("/devices", Some("key 1"), body.clone()).await;
    assert_eq!((again.status, &again.bytes), (first.status, &first.bytes));
    assert_eq!(again.headers["content-type"], first.headers["content-type"]);

    let other = order("user-1", "phone-2").to_string();
    fixture.post_raw("/devices", Some("key 1"), other.clone()).await.refused(422, "IDEMPOTENCY_KEY_REUSED");
    // Even the same order in other bytes is another body.
    fixture
        .post_raw("/devices", Some("key 1"), format!("{body} "))
        .await
        .refused(422, "IDEMPOTENCY_KEY_REUSED");
    // Without the key, with another one, or by another user it is another call.
    fixture.post_raw("/devices", None, body.clone()).await.refused(409, "CONFLICT");
    assert_eq!(fixture.post_raw("/devices", Some("key 2"), other).await.status, 202);
    let another_user = order("user-2", "phone-1").to_string();
    assert_eq!(fixture.post_raw("/devices", Some("key 1"), another_user).await.status, 202);
    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_at_once_with_one_key_are_one() {
    let fixture = Fixture::new().await;
    let body = order("user-1", "phone-1").to_string();
    let calls = (0..50).map(|_| fixture.post_raw("/devices", Some("k"), body.clone()));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(answers.iter().map(|answer| &answer.bytes).collect::<HashSet<_>>().len(), 1);
    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 1);
    assert_eq!(fixture.count("SELECT count(*) FROM idempotency").await, 1);

    // Two bodies race for one key: one of them gets it, every other is told.
    let calls = (0..40).map(|number| {
        let body = order("user-2", &format!("phone-{}", number % 2)).to_string();
        let fixture = &fixture;
        async move { fixture.post_raw("/devices", Some("k"), body).await.status.as_u16() }
    });
    let answers = futures_util::future::join_all(calls).await;
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((count(202), count(422)), (20, 20));
    assert_eq!(fixture.count("SELECT count(*) FROM device WHERE user_id = 'user-2'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_not_stored() {
    let fixture = Fixture::empty();
    let body = order("user-1", "phone-1").to_string();
    fixture.post_raw("/devices", Some("k"), body.clone()).await.refused(503, "NO_CAPACITY");
    assert_eq!(fixture.count("SELECT count(*) FROM idempotency").await, 0);
    fixture.add_host("host-1", phonefleet_protocol::host::Capacity::default()).await;
    assert_eq!(fixture.post_raw("/devices", Some("k"), body).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_have_keys_too() {
    let fixture = Fixture::new().await;
    let (id, _) = fixture.order("user-1", "phone-1").await;
    fixture.settle("RUNNING", "running").await;
    let path = format!("/devices/{id}/stop");
    let call = async |body: &str| {
        let mut request = Request::post(&path).header("idempotency-key", "k");
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        fixture.send(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let first = call("").await;
    let again = call("").await;
    assert_eq!((first.status.as_u16(), &first.bytes), (202, &again.bytes));
    call("{}").await.refused(422, "IDEMPOTENCY_KEY_REUSED");
    // Another path is another scope.
    fixture.post_raw(&format!("/devices/{id}/start"), Some("k"), "").await.refused(409, "CONFLICT");
    let cordoned = fixture.post_raw("/hosts/host-1/cordon", Some("k"), "").await;
    fixture.act("/hosts/host-1/uncordon").await.data();
    let again = fixture.post_raw("/hosts/host-1/cordon", Some("k"), "").await;
    assert_eq!(cordoned.bytes, again.bytes);
    assert_eq!(fixture.get("/hosts/host-1").await.data()["cordoned"], false, "a replay does nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_kept() {
    let fixture = Fixture::new().await;
    let body = order("user-1", "phone-1").to_string();
    let long = "k".repeat(256);
    for key in ["", "ü", "a\tb", long.as_str()] {
        fixture.post_raw("/devices", Some(key), body.clone()).await.refused(400, "INVALID_IDEMPOTENCY_KEY");
    }
    let request = Request::post("/devices")
        .header("content-type", "application/json")
        .header("idempotency-key", "a")
        .header("idempotency-key", "b")
        .body(Body::from(body.clone()))
        .unwrap();
    fixture.send(request).await.refused(400, "INVALID_IDEMPOTENCY_KEY");
    assert_eq!(fixture.post_raw("/devices", Some(&long[..255]), body).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_call() {
    let fixture = Fixture::new().await;
    let body = json!({"devices": [order("user-1", "a"), order("user-1", "b")]}).to_string();
    let first = fixture.post_raw("/devices/batch", Some("k"), body.clone()).await;
    let again = fixture.post_raw("/devices/batch", Some("k"), body).await;
    assert_eq!((first.status.as_u16(), &first.bytes), (202, &again.bytes));
    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 2);
}
