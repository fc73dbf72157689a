//! Limits and usage.

use crate::fixture::{Fixture, order_with};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_where_they_are_named() {
    let fixture = Fixture::new().await;
    let usual = fixture.get("/quotas/user-1").await.data();
    assert_eq!((&usual["userId"], &usual["maxDevices"]), (&json!("user-1"), &json!(5)));
    assert_eq!(usual["totalMemoryMB"], Value::Null);
    let change = json!({"maxDevices": 7, "totalMemoryMB": 8192, "deviceCpuCores": 1.5});
    let changed = fixture.put("/quotas/user-1", &change).await;
    assert_eq!(changed.status, 200);
    assert_eq!(changed.data(), fixture.get("/quotas/user-1").await.data());
    let changed = fixture.put("/quotas/user-1", &json!({"totalMemoryMB": null})).await.data();
    assert_eq!((&changed["maxDevices"], &changed["totalMemoryMB"]), (&json!(7), &Value::Null));
    let changed = fixture.put("/quotas/user-1", &json!({"maxDevices": null})).await.data();
    assert_eq!((&changed["maxDevices"], &changed["deviceCpuCores"]), (&Value::Null, &json!(1.5)));
    for number in 0..8 {
        let order = order_with(&json!({"name": format!("p{number}"), "cpuCores": 1}));
        assert_eq!(fixture.post("/devices", &order).await.status, 202);
    }
    let usage = fixture.get("/quotas/user-1/usage").await.data();
    assert_eq!(
        (&usage["devices"], &usage["cpuCores"], &usage["memoryMB"]),
        (&json!(8), &json!(8.0), &json!(32768))
    );

    let refusal = fixture.post("/devices", &order_with(&json!({"cpuCores": 2}))).await;
    assert_eq!(refusal.refused(403, "QUOTA_EXCEEDED")["limit"], "deviceCpuCores");
    fixture.put("/quotas/user-1", &json!({"totalMemoryMB": 32768})).await.data();
    let refusal = fixture.post("/devices", &order_with(&json!({"cpuCores": 1}))).await;
    assert_eq!(refusal.refused(403, "QUOTA_EXCEEDED")["limit"], "totalMemoryMB");
    fixture.put("/quotas/user-1", &json!({"totalMemoryMB": null, "maxConcurrentDevices": 8})).await.data();
    let refusal = fixture.post("/devices", &order_with(&json!({"cpuCores": 1}))).await;
    assert_eq!(refusal.refused(403, "QUOTA_EXCEEDED")["limit"], "maxConcurrentDevices");

    // Back to the default, twice, and for somebody who never had another.
    for user in ["user-1", "user-1", "user-2"] {
        let reset = fixture.delete(&format!("/quotas/{user}")).await.data();
        assert_eq!((&reset["maxDevices"], &reset["deviceCpuCores"]), (&json!(5), &Value::Null));
        assert_eq!(reset, fixture.get(&format!("/quotas/{user}")).await.data());
    }
    fixture.delete("/quotas/a%20b").await.refused(400, "INVALID_QUERY");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_make_no_sense() {
    let fixture = Fixture::new().await;
    let table = [
        (json!({"maxDevices": -1}), "/maxDevices"),
        (json!({"maxDevices": "5"}), "/maxDevices"),
        (json!({"maxDevices": 1.5}), "/maxDevices"),
        (json!({"maxDevices": 1_u64 << 60}), "/maxDevices"),
        (json!({"totalCpuCores": -0.5}), "/totalCpuCores"),
        (json!({"deviceCpuCores": 1e300}), "/deviceCpuCores"),
        (json!({"maxPhones": 1}), "/maxPhones"),
        (json!({"userId": "user-2"}), "/userId"),
    ];
    for (body, pointer) in table {
        let refusal = fixture.put("/quotas/user-1", &body).await.refused(400, "INVALID_BODY");
        assert_eq!(refusal["pointer"], pointer, "{body}");
    }
    fixture.put("/quotas/user-1", &json!([])).await.refused(400, "INVALID_BODY");
    fixture.get("/quotas/a%20b").await.refused(400, "INVALID_QUERY");
    assert_eq!(fixture.count("SELECT count(*) FROM quota_limit").await, 0);
}
