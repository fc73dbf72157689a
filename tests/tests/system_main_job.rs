//! The main job on real parts: a phone is ordered over HTTP, runs behind a real `adb`, is
//! stopped, started, rebooted and reset, is deleted, and nothing is left.

use phonefleet_tests::real::program::run;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, process_table, until};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

#[test]
fn order_use_delete_and_nothing_is_left() {
    let Some(world) = World::start() else { return };

    // The order answers at once, before anything is started.
    let (saga, device) = world.order(&World::order_body("phone-1", &[]));
    let state = world.completed(&saga);
    assert_eq!((&state["stepIndex"], &state["currentStep"]), (&json!(4), &json!("START_DEVICE")), "{state}");
    let phone = world.running_phone(&device);
    assert!(world.host().adb_ports.contains(&phone.port), "{phone:?}");
    world.at_rest();

    // A real adb finds a phone that has booted, and it is this one.
    assert_eq!(world.getprop(&phone, "sys.boot_completed"), "1");
    assert_eq!(world.getprop(&phone, "ro.boot.serialno"), device.replace('-', ""));
    let picture = world.adb.exec_out(&phone.address, "screencap -p").expect("a screenshot");
    assert_eq!(picture.get(..8), Some(b"\x89PNG\r\n\x1a\n".as_slice()));
    assert_eq!(picture.get(16..24), Some([0, 0, 2, 208, 0, 0, 5, 0].as_slice()), "720 × 1280");

    // What is in /data lives through stop, start and reboot, and dies with a reset.
    keep(&world, &phone, "first");
    world.do_verb(&device, "stop");
    assert_eq!(world.device(&device)["status"], "STOPPED");
    world.at_rest();
    assert!(!process_table::listening_ports().contains(&phone.port), "a stopped phone listens");
    world.do_verb(&device, "start");
    world.at_rest();
    assert_eq!(kept(&world, &phone), "first");
    assert_eq!(world.boots(&phone), "2");
    world.do_verb(&device, "reboot");
    world.at_rest();
    assert_eq!(kept(&world, &phone), "first");
    assert_eq!(world.boots(&phone), "3");
    world.do_verb(&device, "reset");
    world.at_rest();
    let same = world.running_phone(&device);
    assert_eq!(same.port, phone.port, "a reset keeps the ports");
    assert_eq!(kept(&world, &phone), "");
    assert_eq!(world.boots(&phone), "1", "the data is new");
    let phones = world.host().state.join("phones").join(&device);
    let epochs = entries(&phones).into_iter().filter(|name| name.starts_with("data-")).count();
    assert_eq!(epochs, 1, "old data is gone: {:?}", entries(&phones));

    // Nothing is left, anywhere.
    let deletion = world.verb(&device, "delete");
    assert_eq!(world.verb(&device, "delete"), deletion, "repeated, it is the same removal");
    world.completed(&deletion);
    world.clean();
    assert_eq!(world.device(&device)["status"], "DELETED", "its history stays");
    assert_eq!(world.api.call("GET", "/ports/allocated", None).json(), json!([]));
    let usage = world.api.get("/quotas/alice/usage");
    assert_eq!((&usage["devices"], &usage["concurrentDevices"]), (&json!(0), &json!(0)), "{usage}");
    assert_eq!(entries(&world.host().state.join("phones")), Vec::<String>::new());
}

fn keep(world: &World, phone: &Phone, text: &str) {
    world.adb.connect(&phone.address);
    let command = format!("echo {text} > /data/local/tmp/kept; sync");
    world.adb.shell(&phone.address, &command).expect("a file in /data");
}

/// What [`keep`] wrote, as the phone reads it.
fn kept(world: &World, phone: &Phone) -> String {
    world.adb.connect(&phone.address);
    world.adb.shell(&phone.address, "cat /data/local/tmp/kept 2>/dev/null; true").expect("a look into /data")
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[test]
fn the_api_as_documented() {
    let options = WorldOptions { max_devices: 5, ..WorldOptions::default() };
    let Some(mut world) = World::without_hosts(&options) else { return };
    let api = world.api;

    // Without a host there is no room; and a bad order is refused before that is asked.
    let order = World::order_body("phone-1", &[]);
    api.post("/devices", Some(&order)).problem(503, "NO_CAPACITY");
    let mut bad = order.clone();
    bad["memoryMB"] = json!(1);
    let problem = api.post("/devices", Some(&bad)).problem(400, "INVALID_SPEC");
    assert!(problem.to_string().contains("/memoryMB"), "{problem}");
    assert_eq!(api.call("GET", "/ports/allocated", None).json(), json!([]));

    world.add_host(&HostOptions::default());
    let host = world.host().id.clone();

    // Once, however often it is sent; another body with the same key is refused.
    let first = api.try_call("POST", "/devices", Some("key-1"), Some(&order)).expect("an answer");
    let again = api.try_call("POST", "/devices", Some("key-1"), Some(&order)).expect("an answer");
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.body, again.body, "the same answer to the byte");
    let other = World::order_body("phone-2", &[]);
    let reused = api.try_call("POST", "/devices", Some("key-1"), Some(&other)).expect("an answer");
    assert_eq!(reused.status, 422, "{}", reused.text());
    let data = first.data(202);
    let (saga, device) = (text(&data["sagaId"]), text(&data["device"]["id"]));
    assert_eq!(data["device"]["status"], "CREATING");
    assert_eq!(world.devices().len(), 1);
    api.post("/devices", Some(&order)).problem(409, "CONFLICT");

    // While a saga works, other verbs are told which; its story is told from the start.
    let busy = api.post(&format!("/devices/{device}/stop"), None);
    if busy.status == 409 {
        assert_eq!(busy.json()["sagaId"], saga.as_str());
    }
    world.completed(&saga);
    let events = api.get(&format!("/sagas/{saga}/events"));
    let steps: Vec<String> = events["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|event| event["kind"] == "done")
        .map(|event| text(&event["step"]))
        .collect();
    let expected = [
        "ALLOCATE_PORTS",
        "CREATE_PROVIDER_DEVICE",
        "CREATE_DATABASE_RECORD",
        "REPORT_QUOTA_USAGE",
        "START_DEVICE",
    ];
    assert_eq!(steps, expected);
    let batch = api.get(&format!("/sagas/batch?sagaIds={saga},saga_1_0000000000000000"));
    assert_eq!(batch["items"].as_array().map(Vec::len), Some(1), "{batch}");
    let created = api.get("/sagas?type=DEVICE_CREATION&status=COMPLETED");
    assert_eq!(created["items"].as_array().map(Vec::len), Some(1), "{created}");

    // Ports, hosts, quota, devices.
    let ports = api.call("GET", &format!("/ports/allocated?hostId={host}"), None).json();
    let view = world.device(&device);
    let of =
        |kind: &str| json!({"hostId": host, "port": view["ports"][kind], "kind": kind, "deviceId": device});
    assert_eq!(ports, json!([of("adb"), of("webrtc")]));
    let hosts = api.get("/hosts");
    assert_eq!(hosts["items"][0]["devices"], 1, "{hosts}");
    until("a heartbeat tells of the phone", Duration::from_secs(30), || {
        let host = api.get(&format!("/hosts/{host}"));
        if host["lastHeartbeat"]["phonesRunning"] == 1 { Ok(()) } else { Err(host.to_string()) }
    });
    assert_eq!(api.get("/quotas/alice")["maxDevices"], 5);
    assert_eq!(api.get("/quotas/alice/usage")["devices"], 1);
    let bodies: Vec<Value> =
        (2..=6).map(|number| World::order_body(&format!("phone-{number}"), &[])).collect();
    let results = api.post("/devices/batch", Some(&json!({ "devices": bodies }))).data(202);
    let results = results["results"].as_object().expect("results by name").clone();
    assert_eq!(results.values().filter(|result| result["success"] == true).count(), 4, "{results:?}");
    assert_eq!(results["phone-6"]["code"], "QUOTA_EXCEEDED", "{results:?}");
    for result in results.values().filter(|result| result["success"] == true) {
        world.completed(&text(&result["data"]["sagaId"]));
    }
    world.at_rest();

    // A host that is cordoned takes nothing new, and what it has goes on.
    api.post(&format!("/hosts/{host}/cordon"), None).data(200);
    api.put("/quotas/alice", &json!({"maxDevices": 7})).data(200);
    let order = World::order_body("phone-7", &[]);
    api.post("/devices", Some(&order)).problem(503, "NO_CAPACITY");
    api.post(&format!("/hosts/{host}/uncordon"), None).data(200);
    api.post(&format!("/hosts/{host}/forget"), None).problem(409, "CONFLICT");

    // Both daemons tell of themselves.
    let metrics = api.call("GET", "/metrics", None).text();
    for name in [
        "saga_device_creation_total{status=\"completed\"} 5",
        "saga_device_creation_duration_seconds_count 5",
        "phonefleet_controller_devices{status=\"RUNNING\"} 5",
        "phonefleet_controller_hosts{status=\"ONLINE\"} 1",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    assert_eq!(api.call("GET", "/openapi.json", None).json()["openapi"].as_str().map(|v| &v[..1]), Some("3"));
    assert_eq!(api.call("GET", "/healthz", None).status, 200);
    let local = world.host().local_api;
    for path in ["/healthz", "/readyz"] {
        let reply = local.call("GET", path, None);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    let metrics = local.call("GET", "/metrics", None).text();
    assert!(metrics.contains("phonefleet_agent"), "{metrics}");
    let status = local.call("GET", "/status", None).text();
    assert!(status.contains(&device), "{status}");

    // A broker that is gone shows at both, and harms nothing else.
    world.broker.kill();
    until("the controller is not ready without a broker", Duration::from_secs(30), || {
        let reply = api.call("GET", "/readyz", None);
        if reply.status == 503 { Ok(()) } else { Err(reply.text()) }
    });
    assert_eq!(api.call("GET", "/healthz", None).status, 200, "healthy without a broker");
    world.broker.start_again();
    world.until_ready();
    let sagas: Vec<_> =
        world.devices().iter().map(|device| world.verb(&text(&device["id"]), "delete")).collect();
    for saga in sagas {
        world.completed(&saga);
    }
    world.clean();
}

/// The script that a stranger follows, to the end.
#[test]
fn the_script_main_job() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    // Only its broker is needed: two controllers must not speak to one host.
    world.controller.kill();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("main-job");
    let programs = phonefleet_tests::real::program::built("phonefleet-agent");
    let programs = programs.parent().expect("a folder");
    let broker = world.broker.url();
    let told = run([
        "env".as_ref(),
        format!("PHONEFLEET_PROGRAMS={}", programs.display()).as_ref(),
        format!("PHONEFLEET_MQTT={broker}").as_ref(),
        script.as_os_str(),
    ])
    .expect("main-job");
    println!("{told}");
    assert!(told.contains("nothing is left"), "{told}");
    let leftovers: Vec<_> = process_table::processes()
        .into_iter()
        .filter(|process| {
            process.is("phonefleet-agent") || (process.is("adb") && process.mentions("main-job"))
        })
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}
