//! Hosts and an operator's verbs on them.

use crate::fixture::{Fixture, order};
use phonefleet_protocol::event::Event;
use phonefleet_protocol::facts::DeviceFacts;
use phonefleet_protocol::host::Capacity;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_shown_with_their_load() {
    let fixture = Fixture::new().await;
    let capacity = Capacity { max_devices: Some(7), ..Capacity::default() };
    fixture.add_host("host-2", capacity).await;
    fixture.order("user-1", "phone-1").await;
    let data = fixture.get("/hosts").await.data();
    let hosts = data["items"].as_array().unwrap();
    assert_eq!((hosts.len(), &data["nextCursor"]), (2, &Value::Null));
    let host = &hosts[0];
    assert_eq!(
        (&host["id"], &host["status"], &host["cordoned"]),
        (&json!("host-1"), &json!("ONLINE"), &json!(false))
    );
    assert_eq!((&host["devices"], &host["allocated"]["memoryMB"]), (&json!(1), &json!(4096)));
    assert_eq!(host["capacity"]["maxDevices"], Value::Null);
    assert_eq!(hosts[1]["capacity"]["maxDevices"], 7);
    let detail = fixture.get("/hosts/host-1").await.data();
    assert_eq!((&detail["id"], &detail["strays"]), (&json!("host-1"), &json!([])));
    let first = fixture.get("/hosts?limit=1").await.data();
    assert_eq!(first["nextCursor"], "host-1");
    assert_eq!(fixture.get("/hosts?limit=1&cursor=host-1").await.data()["items"][0]["id"], "host-2");

    fixture.sql("UPDATE host SET online = 0 WHERE host_id = 'host-1'").await;
    assert_eq!(fixture.get("/hosts/host-1").await.data()["status"], "UNREACHABLE");
    fixture.sql("UPDATE host SET last_seen_at = 1 WHERE host_id = 'host-1'").await;
    assert_eq!(fixture.get("/hosts/host-1").await.data()["status"], "LOST");
    for path in ["/hosts/nobody", "/hosts/NOT%20AN%20ID"] {
        fixture.get(path).await.refused(404, "HOST_NOT_FOUND");
    }
    for verb in ["cordon", "uncordon", "forget"] {
        fixture.act(&format!("/hosts/nobody/{verb}")).await.refused(404, "HOST_NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_host_takes_no_new_devices() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.act("/hosts/host-1/cordon").await.data()["cordoned"], true);
    let refusal = fixture.post("/devices", &order("user-1", "phone-1")).await.refused(503, "NO_CAPACITY");
    assert!(refusal["detail"].as_str().unwrap().contains("cordoned"), "{refusal}");
    assert_eq!(fixture.act("/hosts/host-1/uncordon").await.data()["cordoned"], false);
    fixture.order("user-1", "phone-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_unreachable_host_is_forgotten() {
    let fixture = Fixture::new().await;
    let (id, saga) = fixture.order("user-1", "phone-1").await;
    fixture.act("/hosts/host-1/forget").await.refused(409, "CONFLICT");
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["devices"], 1);
    fixture.sql("UPDATE host SET online = 0").await;
    let data = fixture.act("/hosts/host-1/forget").await.data();
    assert_eq!((&data["devicesGivenUp"], &data["host"]["status"]), (&json!(1), &json!("LOST")));
    assert_eq!(fixture.get(&format!("/devices/{id}")).await.data()["status"], "DELETED");
    assert_eq!(fixture.get("/quotas/user-1/usage").await.data()["devices"], 0);
    assert_ne!(fixture.get(&format!("/sagas/{saga}")).await.data()["status"], "RUNNING");
    fixture.post("/devices", &order("user-1", "phone-2")).await.refused(503, "NO_CAPACITY");
}

/// What only a host knows is shown for as long as it names it.
#[tokio::test(flavor = "multi_thread")]
async fn strays_are_those_of_the_newest_inventory() {
    let fixture = Fixture::new().await;
    fixture.add_host("host-2", Capacity::default()).await;
    let facts = |last: u8| -> DeviceFacts {
        let id = format!("0190a1b2-0000-7000-8000-00000000000{last}");
        let facts = json!({"deviceId": id, "generation": 1, "attempt": 1, "phase": "parked"});
        serde_json::from_value(facts).unwrap()
    };
    let inventory = async |host: &'static str, devices: Vec<DeviceFacts>| {
        fixture.event(host, Event::InventoryBegin {}).await;
        fixture.event(host, Event::InventoryDevices { devices }).await;
        fixture.event(host, Event::InventoryEnd {}).await;
    };
    let strays = async |host: &str| -> Vec<Value> {
        let detail = fixture.get(&format!("/hosts/{host}")).await.data();
        detail["strays"].as_array().unwrap().iter().map(|stray| stray["deviceId"].clone()).collect()
    };
    inventory("host-1", vec![facts(1), facts(2)]).await;
    inventory("host-2", vec![facts(3)]).await;
    assert_eq!(strays("host-1").await.len(), 2);
    inventory("host-1", vec![facts(2)]).await;
    assert_eq!(strays("host-1").await, [json!(facts(2).device_id)]);
    assert_eq!(strays("host-2").await, [json!(facts(3).device_id)], "each host tells of its own");
    fixture.sql("UPDATE host SET online = 0").await;
    fixture.act("/hosts/host-1/forget").await.data();
    assert_eq!((strays("host-1").await.len(), strays("host-2").await.len()), (0, 1));
}
