//! Peers of other releases: one that speaks more versions of the protocol, and tells what nobody
//! here knows yet, is welcome; one that has no version in common is told so, and cuts nobody off.

use crate::stranger::{all_is_well, counted, number, publish, topic};
use phonefleet_protocol::stream::{Chain, Epoch};
use phonefleet_tests::real::{World, until};
use serde_json::{Value, json};
use std::time::Duration;

const REFUSED: &str = "phonefleet_controller_hellos_refused";

/// A hello as a release of the future may say it: with words that this one does not have.
fn hello(session: u64, host: &str, versions: (u32, u32), further: &Value) -> Value {
    let mut hello = json!({
        "session": format!("{session:016x}"),
        "protocol": {"lowest": versions.0, "highest": versions.1, "preferred": versions.1},
        "capabilities": ["compression", "telepathy"],
        "software": "phonefleet/9.0.0",
        "hostId": host,
        "log": {"epoch": Epoch(session), "oldest": 1, "last": 0, "chain": Chain::genesis(Epoch(session)), "sort": "x"},
        "mood": {"is": "good"},
    });
    hello.as_object_mut().expect("an object").extend(further.as_object().expect("an object").clone());
    json!({ "hello": hello })
}

fn say(world: &World, topic: &str, message: &Value) {
    publish(world, topic, message.to_string().as_bytes(), false);
}

#[test]
fn peers_of_other_releases_agree_or_are_told_why_not() {
    let Some(world) = World::start() else { return };
    let phone = world.phone("phone");
    world.at_rest();
    let witness = world.witness(&phone);

    // An agent of the future registers, and its news is kept for the controller's upgrade.
    let agent = json!({
        "machineId": "machine-of-the-future",
        "report": {"capacity": {"maxDevices": 0, "dreams": 3}, "image": "phonefleet/phonesim:dev", "flavour": "new"},
    });
    let up = topic("future", "up");
    say(&world, &up, &hello(7, "future", (1, 9), &agent));
    let online = || world.api.call("GET", "/hosts/future", None);
    until("the agent of the future is registered", Duration::from_secs(20), || match online().status {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    let item = json!({"kind": "phone.dreamt", "data": {"of": "sheep"}});
    let frame = json!({"frame": {
        "epoch": Epoch(7), "first": 1, "chain": Chain::genesis(Epoch(7)), "items": [item], "colour": "blue",
    }});
    say(&world, &up, &frame);
    until("its news is kept", Duration::from_secs(20), || {
        let kept =
            world.controller_column("SELECT kind || ' ' || payload FROM inbox_unknown WHERE peer = 'future'");
        match &kept[..] {
            [one] if one.starts_with("phone.dreamt ") && one.contains("sheep") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    // One that is too new is not registered.
    let refused = number(&world, REFUSED);
    say(&world, &topic("too-new", "up"), &hello(8, "too-new", (2, 9), &agent));
    counted(&world, REFUSED, refused + 1);
    assert_eq!(world.api.call("GET", "/hosts/too-new", None).status, 404);
    let told = world.controller.output();
    assert!(
        told.contains("it speaks protocol 2 to 9, this controller 1 to 1; upgrade the older one"),
        "{told}"
    );

    // Nor does an agent obey a controller that is; the one that it has stays.
    let host = world.host();
    let fleet: String = world.controller_row("SELECT value FROM meta WHERE key = 'fleet_id'");
    say(&world, &topic(&host.id, "down"), &hello(9, &host.id, (2, 9), &json!({ "fleetId": fleet })));
    until("the agent tells why", Duration::from_secs(20), || {
        let told = host.agent.output();
        if told.contains("no common protocol version: the other end speaks 2 to 9") {
            Ok(())
        } else {
            Err(told)
        }
    });
    assert_eq!(number(&world, "phonefleet_agent_link_open"), 1);
    assert_eq!(world.witness(&phone), witness);
    all_is_well(&world, "after-the-others");
    world.do_verb(&phone.id, "delete");
}
