//! Orders, lists and verbs.

use crate::fixture::{Fixture, order, order_with};
use phonefleet_protocol::host::Capacity;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_accepted_and_seen_everywhere() {
    let fixture = Fixture::new().await;
    let body = order_with(&json!({
        "cpuCores": 1.5, "memoryMB": 512, "storageMB": 1000, "image": "phone:2", "width": 320, "height": 640,
        "dpi": 160, "fps": 15, "gpuMode": "auto", "hostId": "host-1", "labels": {"team": "qa"},
        "bootArgs": ["androidboot.phonesim_boot_ms=1"], "templateId": null
    }));
    let answer = fixture.post("/devices", &body).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.headers["content-type"], "application/json");
    let data = answer.data();
    let saga = data["sagaId"].as_str().unwrap();
    assert!(saga.starts_with("saga_"), "{saga}");
    let device = &data["device"];
    let id = device["id"].as_str().unwrap();
    for (field, value) in body.as_object().unwrap() {
        if field != "templateId" {
            assert_eq!(&device[field], value, "{field}");
        }
    }
    assert_eq!(device["status"], "CREATING");
    assert_eq!(device["sagaId"], saga);
    assert_eq!(device["generation"], 0);
    for unknown_yet in ["ports", "adbAddress", "containerId", "reason", "deletedAt"] {
        assert_eq!(device[unknown_yet], Value::Null, "{unknown_yet}");
    }
    let moment = device["createdAt"].as_str().unwrap();
    assert!(moment.ends_with('Z') && moment.contains('T'), "{moment}");

    assert_eq!(fixture.get(&format!("/devices/{id}")).await.data(), *device);
    assert_eq!(fixture.get("/devices").await.data()["items"], json!([device]));
    assert_eq!(fixture.get(&format!("/sagas/{saga}")).await.data()["deviceId"], id);
    assert_eq!(fixture.get("/ports/allocated").await.json(), json!([]));

    fixture.settle("RUNNING", "running").await;
    let device = fixture.get(&format!("/devices/{id}")).await.data();
    assert_eq!(device["adbAddress"], "127.0.0.1:20001");
    assert_eq!(device["ports"], json!({"adb": 20001, "webrtc": 21001}));
    let ports = json!([
        {"hostId": "host-1", "port": 20001, "kind": "adb", "deviceId": id},
        {"hostId": "host-1", "port": 21001, "kind": "webrtc", "deviceId": id}
    ]);
    assert_eq!(fixture.get("/ports/allocated").await.json(), ports);
    assert_eq!(fixture.get("/ports/allocated?hostId=host-1").await.json(), ports);
    assert_eq!(fixture.get("/ports/allocated?hostId=host-2").await.json(), json!([]));
    fixture.get("/ports/allocated?hostId=A%20B").await.refused(400, "INVALID_QUERY");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_codes_and_change_nothing() {
    let fixture = Fixture::new().await;
    fixture.order("user-1", "phone-1").await;
    let refusal = fixture.post("/devices", &order("user-1", "phone-1")).await.refused(409, "CONFLICT");
    assert_eq!(refusal["pointer"], "/name");
    fixture.order("user-2", "phone-1").await;

    fixture.put("/quotas/user-3", &json!({"maxDevices": 0})).await.data();
    let refusal = fixture.post("/devices", &order("user-3", "a")).await.refused(403, "QUOTA_EXCEEDED");
    assert_eq!((&refusal["limit"], &refusal["allowed"]), (&json!("maxDevices"), &json!(0.0)));

    // A wrong spec is told before an exceeded quota, and that before missing room.
    let wrong = json!({"userId": "user-3", "memoryMB": 1, "hostId": "nowhere"});
    fixture.post("/devices", &order_with(&wrong)).await.refused(400, "INVALID_SPEC");
    let no_room = json!({"userId": "user-3", "hostId": "nowhere"});
    fixture.post("/devices", &order_with(&no_room)).await.refused(403, "QUOTA_EXCEEDED");
    let no_room = json!({"name": "x", "hostId": "nowhere"});
    fixture.post("/devices", &order_with(&no_room)).await.refused(503, "NO_CAPACITY");
    let too_many_cores = json!({"name": "x", "cpuCores": 65});
    fixture.post("/devices", &order_with(&too_many_cores)).await.refused(503, "NO_CAPACITY");
    let refusal = fixture.post("/devices", &order_with(&json!({"name": "x", "image": "other:1"}))).await;
    assert_eq!(refusal.refused(400, "INVALID_SPEC")["pointer"], "/image");

    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 2);
    assert_eq!(fixture.count("SELECT count(*) FROM saga_state").await, 2);
    assert_eq!(fixture.get("/quotas/user-3/usage").await.data()["devices"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_orders_at_once_never_oversell_a_quota_of_ten() {
    let fixture = Fixture::new().await;
    fixture.put("/quotas/user-1", &json!({"maxDevices": 10})).await.data();
    let answers =
        (0..100).map(|number| {
            let fixture = &fixture;
            async move {
                fixture.post("/devices", &order("user-1", &format!("phone-{number}"))).await.status.as_u16()
            }
        });
    let answers = futures_util::future::join_all(answers).await;
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((count(202), count(403)), (10, 90));
    let usage = fixture.get("/quotas/user-1/usage").await.data();
    assert_eq!((&usage["devices"], &usage["concurrentDevices"]), (&json!(10), &json!(10)));
    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged() {
    let fixture = Fixture::new().await;
    fixture.add_host("host-2", Capacity::default()).await;
    for number in 0..5 {
        fixture.order("user-1", &format!("a-{number}")).await;
    }
    fixture.order("user-2", "b").await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let data = fixture.get(&format!("/devices?limit=4{cursor}")).await.data();
        seen.extend(data["items"].as_array().unwrap().clone());
        match data["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 6);
    let all = fixture.get("/devices?limit=6").await.data();
    assert_eq!((&all["items"], &all["nextCursor"]), (&json!(seen), &Value::Null));
    let length = async |query: &str| {
        fixture.get(&format!("/devices?{query}")).await.data()["items"].as_array().unwrap().len()
    };
    assert_eq!(length("userId=user-1").await, 5);
    assert_eq!(length("userId=user-2&status=CREATING").await, 1);
    assert_eq!(length("status=RUNNING").await, 0);
    // Spread: three each.
    assert_eq!((length("hostId=host-1").await, length("hostId=host-2").await), (3, 3));
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "status=running",
        "userId=%20",
        "cursor=%00",
        "unknown=1",
        "limit=1&limit=2",
    ] {
        fixture.get(&format!("/devices?{bad}")).await.refused(400, "INVALID_QUERY");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_are_sagas_of_their_own() {
    let fixture = Fixture::new().await;
    let (id, creation) = fixture.order("user-1", "phone-1").await;
    for verb in ["start", "stop", "reboot", "reset"] {
        let refusal = fixture.act(&format!("/devices/{id}/{verb}")).await.refused(409, "CONFLICT");
        assert_eq!(refusal["sagaId"], creation);
    }
    for (verb, status, saga_type) in [
        ("stop", "STOPPING", "DEVICE_STOP"),
        ("reboot", "STARTING", "DEVICE_REBOOT"),
        ("reset", "STARTING", "DEVICE_RESET"),
    ] {
        fixture.settle("RUNNING", "running").await;
        let data = fixture.act(&format!("/devices/{id}/{verb}")).await.data();
        assert_eq!(data["device"]["status"], status);
        let saga = fixture.get(&format!("/sagas/{}", data["sagaId"].as_str().unwrap())).await.data();
        assert_eq!(saga["type"], saga_type);
    }
    fixture.settle("STOPPED", "stopped").await;
    let refusal = fixture.act(&format!("/devices/{id}/reboot")).await.refused(409, "CONFLICT");
    assert_eq!(refusal["deviceStatus"], "STOPPED");
    // An empty object is as good as no body; anything else is not.
    fixture.post(&format!("/devices/{id}/start"), &json!({"force": true})).await.refused(400, "INVALID_BODY");
    assert_eq!(fixture.post(&format!("/devices/{id}/start"), &json!({})).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_accepted_in_every_state_and_repeats_itself() {
    let fixture = Fixture::new().await;
    let (id, creation) = fixture.order("user-1", "phone-1").await;
    let first = fixture.delete(&format!("/devices/{id}")).await;
    assert_eq!(first.status, 202);
    let again = fixture.delete(&format!("/devices/{id}")).await;
    assert_eq!(again.status, 202);
    assert_eq!(first.data()["sagaId"], again.data()["sagaId"]);
    assert_eq!(first.data()["device"]["status"], "DELETING");
    let saga = fixture.get(&format!("/sagas/{creation}")).await.data();
    assert_eq!((&saga["status"], &saga["cause"]), (&json!("COMPENSATING"), &json!("CANCELLED")));
    for status in ["RUNNING", "STOPPED", "ERROR", "LOST", "STARTING"] {
        let (id, _) = fixture.order("user-2", &format!("phone-{status}")).await;
        fixture.settle(status, "error").await;
        assert_eq!(fixture.delete(&format!("/devices/{id}")).await.status, 202, "{status}");
        fixture
            .sql("UPDATE device SET status = 'DELETED', deleted_at = 1; DELETE FROM quota_reservation;")
            .await;
        assert_eq!(fixture.get(&format!("/devices/{id}")).await.data()["status"], "DELETED");
    }
    assert_eq!(fixture.get("/devices").await.data()["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_404() {
    let fixture = Fixture::new().await;
    for id in ["0190a1b2-0000-7000-8000-000000000000", "phone-1", "%ff", "..%2f", "%00"] {
        let path = format!("/devices/{id}");
        let get = fixture.get(&path).await;
        assert_eq!(get.status, 404, "{id}");
        assert_eq!(get.headers["content-type"], "application/problem+json");
    }
    let missing = "/devices/0190a1b2-0000-7000-8000-000000000000";
    fixture.get(missing).await.refused(404, "DEVICE_NOT_FOUND");
    fixture.delete(missing).await.refused(404, "DEVICE_NOT_FOUND");
    fixture.act(&format!("{missing}/start")).await.refused(404, "DEVICE_NOT_FOUND");
    fixture.get("/nothing").await.refused(404, "NOT_FOUND");
    fixture.delete("/devices").await.refused(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_batch_a_bad_item_does_not_stop_the_others() {
    let fixture = Fixture::new().await;
    let mut bad = order("user-1", "bad");
    bad["memoryMB"] = json!(1);
    let mut worse = order("user-1", "worse");
    worse["bootArgs"] = json!(["ro.a=b", 7]);
    let body = json!({"devices": [
        order("user-1", "one"), bad, order("user-1", "one"), worse, 5, order("user-1", "two")
    ]});
    let answer = fixture.post("/devices/batch", &body).await;
    assert_eq!(answer.status, 202);
    let results = answer.data()["results"].clone();
    assert_eq!(results["one"]["data"]["name"], "one");
    assert_eq!(results["two"]["success"], true);
    assert_eq!(results["bad"]["pointer"], "/devices/1/memoryMB");
    assert_eq!(results["#2"]["code"], "CONFLICT");
    assert_eq!(results["worse"]["pointer"], "/devices/3/bootArgs/1");
    assert_eq!(results["#4"]["code"], "INVALID_SPEC");
    assert_eq!(fixture.count("SELECT count(*) FROM device").await, 2);
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["devices"], 2);

    let none = fixture.post_raw("/devices/batch", Some("k"), json!({"devices": [5]}).to_string()).await;
    assert_eq!(none.status, 200);
    assert_eq!(fixture.count("SELECT count(*) FROM idempotency").await, 0);
    let refusal = fixture.post("/devices/batch", &json!({"devices": []})).await.refused(400, "INVALID_SPEC");
    assert_eq!(refusal["pointer"], "/devices");
}
