//! A host works alone: without a broker its phones run on and those that die are started
//! again; when the broker is back, as empty as a new one, nothing is missing.

use phonefleet_tests::real::{World, until};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_host_works_alone_and_nothing_is_missing_afterwards() {
    let Some(mut world) = World::start() else { return };
    let quiet = world.phone("quiet");
    let dying = world.phone("dying");
    world.at_rest();
    let witness = world.witness(&quiet);
    let starts = world.device(&dying.id)["starts"].as_u64().expect("starts");
    let before: i64 = world.host().row("SELECT max(seq) FROM event_outbox");

    world.broker.kill();
    // An order is accepted all the same, and waits.
    let (waiting, _) = world.order(&World::order_body("waiting", &[]));

    // A phone dies, and is started again by its host alone.
    let host = world.host_of(&dying);
    host.engine.must("POST", &format!("/containers/phonefleet-{}/kill", dying.id), None);
    until("the phone that died runs again", Duration::from_secs(60), || {
        let sql = format!("SELECT phase || ' ' || starts FROM device WHERE device_id = '{}'", dying.id);
        let row: String = host.row(&sql);
        if row == format!("running {}", starts + 1) { Ok(()) } else { Err(row) }
    });
    assert_eq!(world.getprop(&dying, "sys.boot_completed"), "1");
    assert_eq!(world.boots(&dying), "2", "the same data");
    let after: i64 = host.row("SELECT max(seq) FROM event_outbox");
    assert!(after > before, "it has something to tell");
    assert_eq!(world.device(&dying.id)["starts"], json!(starts), "nobody could be told yet");

    // An agent that starts without a broker does its work, too.
    world.agent().kill();
    world.agent().start_again();
    let host = world.host_of(&dying);
    host.engine.must("POST", &format!("/containers/phonefleet-{}/kill", dying.id), None);
    until("the phone that died once more runs again", Duration::from_secs(60), || {
        let sql = format!("SELECT phase || ' ' || starts FROM device WHERE device_id = '{}'", dying.id);
        let row: String = host.row(&sql);
        if row == format!("running {}", starts + 2) { Ok(()) } else { Err(row) }
    });
    let sagas = world.saga(&waiting);
    assert!(sagas["endedAt"].is_null(), "{sagas}");

    world.broker.start_again();
    world.completed(&waiting);
    until("the controller knows", Duration::from_secs(60), || {
        let device = world.device(&dying.id);
        if device["starts"] == json!(starts + 2) && device["status"] == "RUNNING" {
            Ok(())
        } else {
            Err(device.to_string())
        }
    });
    world.at_rest();
    assert_eq!(world.witness(&quiet), witness, "the quiet phone was touched");
    for device in world.devices() {
        world.do_verb(device["id"].as_str().expect("an id"), "delete");
    }
    world.clean();
}
