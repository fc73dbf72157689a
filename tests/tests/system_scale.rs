//! Many phones, many orders, several hosts.

use phonefleet_tests::real::engine::Engine;
use phonefleet_tests::real::network::Network;
use phonefleet_tests::real::world::{far_host, text};
use phonefleet_tests::real::{HostOptions, World, WorldOptions, adb, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const MANY: usize = 50;

#[test]
fn fifty_phones_at_once_on_one_host() {
    let Some(world) = World::start() else { return };
    world.api.put("/quotas/alice", &json!({"maxDevices": MANY})).data(200);
    let ideal = raw_creation(&world);

    let began = Instant::now();
    let orders: Vec<_> =
        (1..=MANY).map(|number| world.order(&World::order_body(&format!("phone-{number}"), &[]))).collect();
    let accepted = began.elapsed();
    for (saga, _) in &orders {
        let state = world.ended(saga, Duration::from_secs(300));
        assert_eq!(state["status"], "COMPLETED", "{state}\n{}", world.story(saga));
    }
    let took = began.elapsed();
    world.api.post("/devices", Some(&World::order_body("one-more", &[]))).problem(403, "QUOTA_EXCEEDED");
    let ports = world.api.call("GET", "/ports/allocated", None).json();
    let ports: Vec<u64> =
        ports.as_array().into_iter().flatten().filter_map(|row| row["port"].as_u64()).collect();
    let different: BTreeSet<_> = ports.iter().collect();
    assert_eq!((ports.len(), different.len()), (2 * MANY, 2 * MANY), "a port twice: {ports:?}");
    world.at_rest();

    let began = Instant::now();
    let deletions: Vec<_> = orders.iter().map(|(_, device)| world.verb(device, "delete")).collect();
    for saga in &deletions {
        let state = world.ended(saga, Duration::from_secs(300));
        assert_eq!(state["status"], "COMPLETED", "{state}\n{}", world.story(saga));
    }
    let removed = began.elapsed();
    world.clean();
    println!(
        "{MANY} phones: accepted in {accepted:?}, running after {took:?} ({:?} each), gone {removed:?} later; \
         raw create and start {ideal:?} each, four at a time; ratio {:.2}",
        took / MANY as u32,
        took.as_secs_f64() / MANY as f64 / ideal.as_secs_f64()
    );
}

/// What the engine alone takes for `create` and `start` of the same container: the mean of
/// twelve, four at a time, as many as the agent does at once.
fn raw_creation(world: &World) -> Duration {
    let phone = world.phone("model");
    let engine = &world.host().engine;
    let model = engine.containers(&phone.host).remove(0);
    let json = engine.must("GET", &format!("/containers/{}/json", model.id), None).json();
    let mut body = json["Config"].clone();
    body["Labels"] = json!({"phonefleet.raw": "1"});
    body["Hostname"] = json!("");
    body["HostConfig"] = json["HostConfig"].clone();
    world.do_verb(&phone.id, "delete");
    let began = Instant::now();
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let body = &body;
            scope.spawn(move || {
                for number in 0..3 {
                    raw_container(engine, body, lane, number);
                }
            });
        }
    });
    let took = began.elapsed() / 12;
    for lane in 0..4 {
        for number in 0..3 {
            engine.must("DELETE", &format!("/containers/raw-{lane}-{number}?force=1"), None);
        }
    }
    took
}

fn raw_container(engine: &Engine, body: &Value, lane: u16, number: u16) {
    let mut body = body.clone();
    let port = (20_900 + lane * 3 + number).to_string();
    body["HostConfig"]["PortBindings"]["5555/tcp"] = json!([{"HostIp": "127.0.0.1", "HostPort": port}]);
    let mounts = body["HostConfig"]["Mounts"].as_array_mut();
    // Its data is gone; any folder will do.
    mounts.into_iter().flatten().for_each(|mount| mount["Source"] = json!("/run"));
    if let Some(tmpfs) = body["HostConfig"]["Mounts"].as_array_mut() {
        tmpfs.retain(|mount| mount["Type"] != "bind");
    }
    engine.must("POST", &format!("/containers/create?name=raw-{lane}-{number}"), Some(&body));
    engine.must("POST", &format!("/containers/raw-{lane}-{number}/start"), None);
}

#[test]
fn a_hundred_orders_at_once_against_a_quota_of_ten() {
    let Some(world) = World::start() else { return };
    world.api.put("/quotas/alice", &json!({"maxDevices": 10})).data(200);
    let statuses: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..100)
            .map(|number| {
                let api = world.api;
                scope.spawn(move || {
                    let order = World::order_body(&format!("phone-{number}"), &[]);
                    let reply = api.try_call("POST", "/devices", None, Some(&order)).expect("an answer");
                    (reply.status, reply.json())
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("a caller")).collect()
    });
    let count = |status: u16| statuses.iter().filter(|(found, _)| *found == status).count();
    assert_eq!((count(202), count(403)), (10, 90), "{statuses:?}");
    assert!(
        statuses
            .iter()
            .filter(|(status, _)| *status == 403)
            .all(|(_, body)| body["code"] == "QUOTA_EXCEEDED")
    );
    let accepted: Vec<&Value> =
        statuses.iter().filter(|(status, _)| *status == 202).map(|(_, body)| &body["data"]).collect();
    for data in &accepted {
        world.completed(&text(&data["sagaId"]));
    }
    world.at_rest();
    let sagas: Vec<_> =
        accepted.iter().map(|data| world.verb(&text(&data["device"]["id"]), "delete")).collect();
    for saga in sagas {
        world.completed(&saga);
    }
    world.clean();
}

#[test]
fn two_hosts_on_one_engine() {
    let Some(mut world) = World::start() else { return };
    world.add_host(&HostOptions { first_port: 22_000, ..HostOptions::default() });
    let orders: Vec<_> =
        (1..=6).map(|number| world.order(&World::order_body(&format!("phone-{number}"), &[]))).collect();
    for (saga, _) in &orders {
        world.completed(saga);
    }
    world.at_rest();
    let phones: Vec<_> = orders.iter().map(|(_, device)| world.running_phone(device)).collect();
    let second = world.hosts[1].id.clone();
    let (there, here): (Vec<_>, Vec<_>) = phones.iter().partition(|phone| phone.host == second);
    assert_eq!((here.len(), there.len()), (3, 3), "they are spread");
    let witnesses: Vec<_> = there.iter().map(|phone| world.witness(phone)).collect();

    // One host loses everything, its agent is killed on the way; the other notices nothing.
    let sagas: Vec<_> = here.iter().map(|phone| world.verb(&phone.id, "delete")).collect();
    world.agent().kill();
    world.agent().start_again();
    for saga in sagas {
        world.completed(&saga);
    }
    world.at_rest();
    assert_eq!(there.iter().map(|phone| world.witness(phone)).collect::<Vec<_>>(), witnesses);
    for phone in there {
        world.do_verb(&phone.id, "delete");
    }
    world.clean();
}

#[test]
fn two_hosts_on_two_engines() {
    if std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT").is_none() {
        println!("skipped: run it with tests/environment/run");
        return;
    }
    let network = Network::make("far");
    let options =
        WorldOptions { broker_addresses: vec![Network::HERE.to_owned()], ..WorldOptions::default() };
    let Some(mut world) = World::without_hosts(&options) else { return };
    let engine = Engine::start("far", &["--netns", network.name()]);
    world.add_host(&HostOptions::default());
    world.add_host(&far_host(&network, engine.clone()));
    let far = world.hosts[1].id.clone();
    let orders: Vec<_> =
        (1..=4).map(|number| world.order(&World::order_body(&format!("phone-{number}"), &[]))).collect();
    for (saga, _) in &orders {
        world.completed(saga);
    }
    world.at_rest();
    let phones: Vec<_> = orders.iter().map(|(_, device)| world.running_phone(device)).collect();
    let (there, here): (Vec<_>, Vec<_>) = phones.iter().partition(|phone| phone.host == far);
    assert_eq!((here.len(), there.len()), (2, 2), "they are spread");
    // The same ports on both: they are two machines.
    let ports = |phones: &[&phonefleet_tests::real::Phone]| {
        phones.iter().map(|phone| phone.port).collect::<BTreeSet<_>>()
    };
    assert_eq!(ports(&here), ports(&there));
    let far_adb = adb::Adb::start(&world.hosts[1].state, network.prefix());
    for phone in &there {
        far_adb.connect(&phone.address);
        let serial = far_adb.shell(&phone.address, "getprop ro.boot.serialno");
        assert_eq!(serial, Ok(phone.id.replace('-', "")));
    }

    // One engine is away: the other's phones can be ordered and deleted meanwhile.
    let witnesses: Vec<_> = here.iter().map(|phone| world.witness(phone)).collect();
    engine.kill(true);
    let waiting = world.verb(&there[0].id, "delete");
    world.do_verb(&here[0].id, "stop");
    assert!(world.saga(&waiting)["endedAt"].is_null());
    engine.restart();
    world.completed(&waiting);
    assert_eq!(world.witness(here[1]), witnesses[1]);
    drop(far_adb);
    until("everything is deleted", Duration::from_secs(120), || {
        let sagas: Vec<_> =
            world.devices().iter().map(|device| world.verb(&text(&device["id"]), "delete")).collect();
        if sagas.is_empty() { Ok(()) } else { Err(format!("{sagas:?}")) }
    });
    world.clean();
    drop(world);
    engine.stop();
}
