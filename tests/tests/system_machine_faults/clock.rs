//! The wall clock of controller and agents is set back an hour, and forward again, with orders
//! and a recording in flight. Nothing waits for the hour to pass, nothing is torn, no host is
//! taken for silent. Set forward, the deadlines of what is in flight pass: it ends, all or nothing.

use crate::MINUTE;
use phonefleet_tests::real::http::Api;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const HOUR: i64 = 3600;
/// Whatever was in flight has ended; with the hour it would be far from that.
const SOON: Duration = Duration::from_secs(60);

/// A recording that has begun, and when it was seen to.
fn recording(world: &World, phone: &Phone) -> (String, Instant) {
    let body = json!({ "maxDurationSeconds": 100 });
    let data = world.api.post(&format!("/devices/{}/recordings", phone.id), Some(&body)).data(202);
    let id = text(&data["recordingId"]);
    until("it records", SOON, || {
        let view = world.api.get(&format!("/recordings/{id}"));
        if view["status"] == "RECORDING" { Ok(()) } else { Err(view.to_string()) }
    });
    (id, Instant::now())
}

/// It is stopped, and is as long as it was.
fn ends_whole(world: &World, (id, began): &(String, Instant)) {
    let at_least = began.elapsed();
    let _ = world.api.post(&format!("/recordings/{id}/stop"), None).data(202);
    let view = until("the recording ends", SOON, || {
        let view: Value = world.api.get(&format!("/recordings/{id}"));
        let over = ["FINAL", "CORRUPT", "FAILED"].iter().any(|status| view["status"] == **status);
        if over { Ok(view) } else { Err(view.to_string()) }
    });
    assert_eq!(view["status"], "FINAL", "{view}");
    let length = Duration::from_millis(view["durationMs"].as_u64().expect("a length"));
    assert!(length + Duration::from_secs(2) > at_least, "{at_least:?}: {view}");
    assert!(length < began.elapsed() + Duration::from_secs(10), "{view}");
}

/// The signed address of a video at its host.
fn signed(world: &World, recording: &str) -> String {
    // As if the host were another machine: an agent makes the mark at its start.
    let _ = std::fs::remove_file(world.host().state.join("recordings/.phonefleet-host"));
    let reply = world.api.call("GET", &format!("/recordings/{recording}/content"), None);
    assert_eq!(reply.status, 307, "{}", reply.text());
    let location = reply.head.lines().find_map(|line| line.strip_prefix("location: ")).expect("a location");
    let path = location.trim().strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    format!("/{}", path.expect("an address").1)
}

#[test]
fn a_clock_that_is_set_back_and_forward_holds_up_and_tears_nothing() {
    let content = SocketAddr::from(([127, 0, 0, 1], 28_990));
    let Some(mut world) = World::without_hosts(&WorldOptions { clock: true, ..WorldOptions::default() })
    else {
        return;
    };
    let further = format!("[content]\nlisten = \"{content}\"\nadvertise_url = \"http://{content}\"");
    world.add_host(&HostOptions { first_port: 26_800, further, ..HostOptions::default() });
    let clock = world.clock.clone().expect("a clock");
    let host = world.host().id.clone();
    let phone = world.phone("phone");
    world.at_rest();
    let witness = world.witness(&phone);
    let video = |address: &str| Api { address: content }.call("GET", address, None).status;

    // Back, with an order that boots, and one that waits for its host.
    let films = recording(&world, &phone);
    let (boots, in_flight) = world.order(&World::order_body("boots", &["androidboot.phonesim_boot_ms=4000"]));
    clock.set(-HOUR);
    assert_eq!(world.ended(&boots, SOON)["status"], "COMPLETED", "{}", world.story(&boots));
    ends_whole(&world, &films);
    let address = signed(&world, &films.0);
    assert_eq!(video(&address), 200);
    world.agent().kill();
    let stops = world.verb(&in_flight, "stop");
    world.controller.kill();
    // Back once more, while nobody is there to see it.
    clock.set(-2 * HOUR);
    world.controller.start_again();
    world.agent().start_again();
    assert_eq!(world.ended(&stops, SOON)["status"], "COMPLETED", "{}", world.story(&stops));
    world.until_online(&host);
    world.phone("younger-than-all");
    world.at_rest();
    assert_eq!(video(&signed(&world, &films.0)), 200);

    // Forward, with the same in flight.
    let films = recording(&world, &phone);
    let (boots, _) = world.order(&World::order_body("boots-later", &["androidboot.phonesim_boot_ms=4000"]));
    let silent = world.controller.output().matches("host is unreachable").count();
    clock.set(0);
    let set = Instant::now();
    let ended = world.ended(&boots, SOON);
    let in_time = ended["status"] == "COMPLETED";
    assert!(in_time || (ended["status"] == "COMPENSATED" && ended["cause"] == "TIMEOUT"), "{ended}");
    ends_whole(&world, &films);
    assert_eq!(video(&address), 403, "it was good for minutes");
    assert_eq!(video(&signed(&world, &films.0)), 200);
    until("hosts are looked at a few times", MINUTE, || {
        if set.elapsed() > Duration::from_secs(12) { Ok(()) } else { Err(String::new()) }
    });
    let told = world.controller.output();
    assert!(told.matches("the clock was set").count() >= 2, "{told}");
    assert_eq!(told.matches("host is unreachable").count(), silent, "{told}");
    world.at_rest();
    assert_eq!(world.witness(&phone), witness);
    for device in world.devices() {
        world.do_verb(&text(&device["id"]), "delete");
    }
    world.clean();
}
