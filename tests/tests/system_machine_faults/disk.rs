//! Full disks: new work is refused with the reason, stops and deletions go on, nothing is lost,
//! also when the daemon is killed meanwhile; room is all that it takes to heal.

use crate::{MINUTE, part_is};
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, World, WorldOptions, until};

/// Kibibytes: a ballast, twice that to make it again, and the daemon's own things.
const DISK: u32 = 40 << 10;

#[test]
fn an_agent_whose_disk_is_full_refuses_phones_and_still_stops_and_removes_them() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    world.add_host(&HostOptions { disk: Some(DISK), first_port: 26_000, ..HostOptions::default() });
    let phones = ["beside", "to-stop", "to-delete"].map(|name| world.phone(name));
    let [beside, to_stop, to_delete] = &phones;
    world.at_rest();
    let witness = world.witness(beside);

    world.host().disk.as_ref().expect("a disk").fill();
    let why = part_is(&world, "store", false);
    assert!(why.contains("disk") && why.contains("make room"), "{why}");
    let (saga, refused) = world.order(&World::order_body("too-many", &[]));
    let ended = world.ended(&saga, MINUTE);
    assert_eq!(ended["status"], "COMPENSATED", "{ended}\n{}", world.story(&saga));
    assert!(text(&ended["errorMessage"]).contains("DISK_FULL"), "{ended}");
    assert_eq!(world.device(&refused)["status"], "DELETED");
    world.do_verb(&to_stop.id, "stop");
    world.agent().kill();
    world.agent().start_again();
    world.do_verb(&to_delete.id, "delete");
    part_is(&world, "store", false);
    assert_eq!(world.witness(beside), witness);

    world.host().disk.as_ref().expect("a disk").empty();
    part_is(&world, "store", true);
    world.phone("accepted");
    world.do_verb(&to_stop.id, "start");
    world.at_rest();
    assert_eq!(world.witness(beside), witness);
    for device in world.devices() {
        world.do_verb(&text(&device["id"]), "delete");
    }
    world.clean();
}

#[test]
fn a_controller_whose_disk_is_full_refuses_orders_and_still_takes_stops_and_deletions() {
    let options = WorldOptions { controller_disk: Some(DISK), ..WorldOptions::default() };
    let Some(mut world) = World::without_hosts(&options) else { return };
    world.add_host(&HostOptions { first_port: 26_200, ..HostOptions::default() });
    let phones = ["beside", "to-stop", "to-delete"].map(|name| world.phone(name));
    let [beside, to_stop, to_delete] = &phones;
    world.at_rest();
    let witness = world.witness(beside);

    world.disk.as_ref().expect("a disk").fill();
    let full = |world: &World| {
        until("the controller says that its disk is full", MINUTE, || {
            let reply =
                world.api.try_call("GET", "/readyz", None, None).map_err(|error| error.to_string())?;
            if reply.status == 503 && reply.text().contains("full") { Ok(()) } else { Err(reply.text()) }
        });
    };
    full(&world);
    let refuse = |world: &World| {
        let refusal = world.api.post("/devices", Some(&World::order_body("too-many", &[])));
        let refusal = refusal.problem(503, "STORE_UNAVAILABLE");
        assert!(text(&refusal["detail"]).contains("disk"), "{refusal}");
    };
    refuse(&world);
    world.do_verb(&to_stop.id, "stop");
    world.controller.kill();
    world.controller.start_again();
    full(&world);
    refuse(&world);
    world.do_verb(&to_delete.id, "delete");
    // What a host tells is taken in.
    let host = world.host_of(beside);
    host.engine.must("POST", &format!("/containers/phonefleet-{}/pause", beside.id), None);
    until("the controller hears of it", MINUTE, || {
        let device = world.device(&beside.id);
        if device["reason"]["code"] == "PAUSED" { Ok(()) } else { Err(device.to_string()) }
    });
    host.engine.must("POST", &format!("/containers/phonefleet-{}/unpause", beside.id), None);

    world.disk.as_ref().expect("a disk").empty();
    world.until_ready();
    world.phone("accepted");
    world.do_verb(&to_stop.id, "start");
    world.at_rest();
    assert_eq!(world.witness(beside), witness);
    for device in world.devices() {
        world.do_verb(&text(&device["id"]), "delete");
    }
    world.clean();
}
