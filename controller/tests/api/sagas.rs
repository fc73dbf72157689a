//! Sagas and an operator's verbs on them.

use crate::fixture::Fixture;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_listed_and_tell_their_story() {
    let fixture = Fixture::new().await;
    let (id, creation) = fixture.order("user-1", "phone-1").await;
    let deletion =
        fixture.delete(&format!("/devices/{id}")).await.data()["sagaId"].as_str().unwrap().to_owned();
    let types = async |query: &str| -> Vec<Value> {
        let data = fixture.get(&format!("/sagas?{query}")).await.data();
        data["items"].as_array().unwrap().iter().map(|saga| saga["type"].clone()).collect()
    };
    assert_eq!(types("").await.len(), 2);
    assert_eq!(types("type=DEVICE_DELETION").await, [json!("DEVICE_DELETION")]);
    assert_eq!(types("status=COMPENSATING").await, [json!("DEVICE_CREATION")]);
    assert_eq!(types("type=DEVICE_DELETION&status=FAILED").await.len(), 0);
    for bad in ["type=NOTHING", "status=BUSY", "limit=0", "sagaIds=x"] {
        fixture.get(&format!("/sagas?{bad}")).await.refused(400, "INVALID_QUERY");
    }
    let saga = fixture.get(&format!("/sagas/{creation}")).await.data();
    assert_eq!((&saga["stepIndex"], &saga["currentStep"]), (&json!(0), &json!("ALLOCATE_PORTS")));
    assert_eq!(saga["state"]["deviceId"], id);

    let batch = fixture.get(&format!("/sagas/batch?sagaIds={deletion},saga_x,{creation}")).await.data();
    let ids: Vec<_> = batch["items"].as_array().unwrap().iter().map(|saga| saga["sagaId"].clone()).collect();
    assert_eq!((ids, &batch["missing"]), (vec![json!(deletion), json!(creation)], &json!(["saga_x"])));
    for bad in ["", "?sagaIds=", "?sagaIds=,,"] {
        fixture.get(&format!("/sagas/batch{bad}")).await.refused(400, "INVALID_QUERY");
    }
    let many = vec!["a"; 201].join(",");
    fixture.get(&format!("/sagas/batch?sagaIds={many}")).await.refused(400, "INVALID_QUERY");

    let path = format!("/sagas/{creation}/events");
    let story = fixture.get(&path).await.data();
    let kinds: Vec<_> =
        story["items"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, [json!("started"), json!("turned")]);
    let first = fixture.get(&format!("{path}?limit=1")).await.data();
    assert_eq!(first["nextCursor"], "1");
    assert_eq!(fixture.get(&format!("{path}?limit=1&cursor=1")).await.data()["items"][0]["seq"], 2);
    fixture.get(&format!("{path}?cursor=x")).await.refused(400, "INVALID_QUERY");
    for path in ["/sagas/saga_x", "/sagas/%20", "/sagas/saga_x/events"] {
        fixture.get(path).await.refused(404, "SAGA_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_resumes_and_compensates() {
    let fixture = Fixture::new().await;
    let (_, saga) = fixture.order("user-1", "phone-1").await;
    fixture
        .sql("UPDATE saga_state SET status = 'NEEDS_ATTENTION', resume_status = 'RUNNING', wait_reason = 'OPERATOR'")
        .await;
    let resumed = fixture.act(&format!("/sagas/{saga}/resume")).await;
    assert_eq!((resumed.status.as_u16(), &resumed.data()["status"]), (202, &json!("RUNNING")));
    let turned = fixture.act(&format!("/sagas/{saga}/compensate")).await.data();
    assert_eq!((&turned["status"], &turned["cause"]), (&json!("COMPENSATING"), &json!("CANCELLED")));
    let refusal = fixture.act(&format!("/sagas/{saga}/compensate")).await.refused(409, "CONFLICT");
    assert_eq!(refusal["sagaStatus"], "COMPENSATING");
    fixture.settle("RUNNING", "running").await;
    fixture.act(&format!("/sagas/{saga}/resume")).await.refused(409, "CONFLICT");
    for verb in ["resume", "compensate"] {
        fixture.act(&format!("/sagas/saga_x/{verb}")).await.refused(404, "SAGA_NOT_FOUND");
    }
}

/// What neither goes on nor back, such as a saga of a version that this program does not know,
/// is given up: its device is free for the next order.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_up_a_saga_and_the_next_verb_works() {
    for verb in ["stop", "reboot", "reset"] {
        let fixture = Fixture::new().await;
        let (device, _) = fixture.order("user-1", "phone-1").await;
        fixture.settle("RUNNING", "running").await;
        let order = fixture.act(&format!("/devices/{device}/{verb}")).await.data();
        let saga = order["sagaId"].as_str().unwrap();
        let path = format!("/sagas/{saga}/abandon");
        let why = json!({"reason": "of an older release"});
        let refusal = fixture.post(&path, &why).await.refused(409, "CONFLICT");
        assert_eq!(refusal["sagaStatus"], "RUNNING", "only what stands still is given up");
        fixture
            .sql(
                "UPDATE saga_state SET version = 99, status = 'NEEDS_ATTENTION', resume_status = 'RUNNING',
                    wait_reason = 'OPERATOR', retry_at = 5, due_at = NULL WHERE ended_at IS NULL",
            )
            .await;
        fixture.act(&format!("/devices/{device}/{verb}")).await.refused(409, "CONFLICT");
        for bad in [json!({}), json!({"reason": " "}), json!({"reason": "a\u{7}"}), json!({"reason": 1})] {
            fixture.post(&path, &bad).await.refused(400, "INVALID_BODY");
        }
        let long = json!({"reason": "x".repeat(501)});
        assert_eq!(
            fixture.post(&path, &long).await.refused(400, "INVALID_BODY")["errors"][0]["pointer"],
            "/reason"
        );

        let abandoned = fixture.post(&path, &why).await;
        assert_eq!((abandoned.status.as_u16(), &abandoned.data()["status"]), (202, &json!("ABANDONED")));
        assert_eq!(
            (&abandoned.data()["waitReason"], &abandoned.data()["retryAt"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(fixture.count("SELECT count(*) FROM saga_state WHERE resume_status IS NOT NULL").await, 0);
        assert_eq!(fixture.post(&path, &json!({"reason": "again"})).await.data(), abandoned.data());
        let story = fixture.get(&format!("/sagas/{saga}/events")).await.data();
        let last = story["items"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(
            (&last["kind"], &last["detail"]),
            (&json!("ended"), &json!("ABANDONED: of an older release"))
        );

        let shown = fixture.get(&format!("/devices/{device}")).await.data();
        assert_eq!(shown["status"], "RUNNING", "what its host said last");
        assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["concurrentDevices"], 1);
        let next = fixture.act(&format!("/devices/{device}/{verb}")).await;
        assert_eq!(next.status.as_u16(), 202, "{verb}: {}", String::from_utf8_lossy(&next.bytes));
    }
}

/// A phone that stopped meanwhile holds the right to run for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_is_given_up_leaves_no_right_to_run_behind() {
    let fixture = Fixture::new().await;
    let (device, _) = fixture.order("user-1", "phone-1").await;
    fixture.settle("RUNNING", "running").await;
    let order = fixture.act(&format!("/devices/{device}/stop")).await.data();
    fixture
        .sql(
            "UPDATE saga_state SET status = 'NEEDS_ATTENTION' WHERE ended_at IS NULL;
             UPDATE device SET wish = 'stopped', phase = 'stopped', answer = '{\"result\":\"reached\"}',
                answered_generation = generation, answered_attempt = attempt;",
        )
        .await;
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["concurrentDevices"], 1);
    let path = format!("/sagas/{}/abandon", order["sagaId"].as_str().unwrap());
    fixture.post(&path, &json!({"reason": "a test"})).await.data();
    assert_eq!(fixture.get(&format!("/devices/{device}")).await.data()["status"], "STOPPED");
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["concurrentDevices"], 0);
    assert_eq!(fixture.act(&format!("/devices/{device}/start")).await.status.as_u16(), 202);
    fixture.post("/sagas/saga_x/abandon", &json!({"reason": "a test"})).await.refused(404, "SAGA_NOT_FOUND");
}
