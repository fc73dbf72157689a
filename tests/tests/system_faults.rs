//! Everything that goes wrong with one phone, on order: the right end, the right reason,
//! and a clean slate, while the phone beside it is not touched.

use nix::sys::signal::Signal;
use phonefleet_tests::real::program::signal;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, process_table, until};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A world whose boots end after 30 s, with a phone beside.
fn world() -> Option<(World, Phone)> {
    let mut world = World::without_hosts(&WorldOptions::default())?;
    world.add_host(&HostOptions {
        boot_timeout_seconds: 30,
        allowed_images: vec!["phonefleet/missing:1".to_owned()],
        ..HostOptions::default()
    });
    let beside = world.phone("beside");
    Some((world, beside))
}

/// A creation that failed for good: rolled back with its reason, and nothing is left.
fn assert_rolled_back(world: &World, saga: &str, device: &str, step: &str, reason: &str) -> Value {
    let state = world.ended(saga, Duration::from_secs(240));
    let story = world.story(saga);
    assert_eq!(state["status"], "COMPENSATED", "{state}\n{story}");
    assert_eq!((&state["cause"], &state["failedStep"]), (&json!("FAILED"), &json!(step)), "{state}\n{story}");
    let error = state["errorMessage"].as_str().unwrap_or_default();
    assert!(error.contains(reason), "{reason} is not in {error:?}\n{story}");
    assert_eq!(world.device(device)["status"], "DELETED");
    state
}

#[test]
fn creations_that_cannot_end_well_leave_nothing() {
    let Some((world, beside)) = world() else { return };
    let witness = world.witness(&beside);

    let began = Instant::now();
    let order = |name: &str, fault: &str| {
        world.order(&World::order_body(name, &[&format!("androidboot.phonesim_fault={fault}")]))
    };
    let hangs = order("hangs", "boot_hang");
    let ends = order("ends", "exit_129");
    let mut without_image = World::order_body("without-image", &[]);
    without_image["image"] = json!("phonefleet/missing:1");
    let missing = world.order(&without_image);
    without_image["image"] = json!("phonefleet/not-allowed:1");
    without_image["name"] = json!("other");
    world.api.post("/devices", Some(&without_image)).problem(400, "INVALID_SPEC");

    assert_rolled_back(&world, &missing.0, &missing.1, "CREATE_PROVIDER_DEVICE", "IMAGE_MISSING");
    let state = assert_rolled_back(&world, &ends.0, &ends.1, "START_DEVICE", "BOOT_FAILED");
    assert!(state["errorMessage"].as_str().is_some_and(|error| error.contains("129")), "{state}");
    assert!(began.elapsed() < Duration::from_secs(30), "an exit during the boot is not waited out");
    let state = assert_rolled_back(&world, &hangs.0, &hangs.1, "START_DEVICE", "BOOT_TIMEOUT");
    assert!(
        state["errorMessage"].as_str().is_some_and(|error| error.contains("sys.boot_completed")),
        "the rung is named: {state}"
    );
    assert!(began.elapsed() > Duration::from_secs(30), "it had its time");

    world.at_rest();
    assert_eq!(world.devices().len(), 1, "only the phone beside is left");
    assert_eq!(world.witness(&beside), witness);
    world.do_verb(&beside.id, "delete");
    world.clean();
}

#[test]
fn phones_that_fall_ill_are_healed_or_given_up() {
    let Some((world, beside)) = world() else { return };
    let witness = world.witness(&beside);

    // Dies 2 s after each boot: started again with a growing pause, given up at the fifth.
    let arguments = ["androidboot.phonesim_boot_ms=200", "androidboot.phonesim_fault=crash_after_ms:2000"];
    let loops = world.order(&World::order_body("loops", &arguments));
    // Its adb goes away for 5 s just when the boot has completed.
    let shy = world.order(&World::order_body("shy", &["androidboot.phonesim_fault=adb_offline:5"]));
    world.completed(&loops.0);
    world.completed(&shy.0);
    let shy = world.running_phone(&shy.1);
    let shy_witness = world.witness(&shy);
    assert_eq!(world.boots(&shy), "1", "no restart heals what heals itself");

    // A paused phone is told of, not restarted.
    let paused = world.phone("paused");
    let paused_witness = world.witness(&paused);
    let container = format!("/containers/phonefleet-{}", paused.id);
    let engine = &world.host().engine;
    engine.must("POST", &format!("{container}/pause"), None);
    reason_is(&world, &paused, Some("PAUSED"));
    assert_eq!(world.device(&paused.id)["status"], "RUNNING");
    engine.must("POST", &format!("{container}/unpause"), None);
    reason_is(&world, &paused, None);
    assert_eq!(world.witness(&paused), paused_witness);

    // A container that is removed comes back, with its data and ports.
    let robbed = world.phone("robbed");
    world.adb.connect(&robbed.address);
    world.adb.shell(&robbed.address, "echo mine > /data/local/tmp/kept; sync").expect("a file");
    let before = world.witness(&robbed);
    engine.must("DELETE", &format!("/containers/phonefleet-{}?force=1", robbed.id), None);
    until("the phone is back", Duration::from_secs(60), || {
        let device = world.device(&robbed.id);
        let fine = device["status"] == "RUNNING" && device["starts"] == 2;
        if fine { Ok(()) } else { Err(device.to_string()) }
    });
    assert_ne!(world.witness(&robbed), before);
    assert_eq!(world.running_phone(&robbed.id).port, robbed.port);
    world.adb.connect(&robbed.address);
    assert_eq!(world.adb.shell(&robbed.address, "cat /data/local/tmp/kept").as_deref(), Ok("mine"));

    // An adb server that is killed, or hangs, is replaced. No phone notices.
    for fault in [Signal::SIGKILL, Signal::SIGSTOP] {
        let server = adb_server(&world);
        signal(server, fault);
        until("another adb server", Duration::from_secs(40), || match adb_server_now(&world) {
            Some(other) if other != server => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    // By now, or soon, the fifth death.
    let device = until("given up", Duration::from_secs(120), || {
        let device = world.device(&loops.1);
        if device["status"] == "ERROR" { Ok(device) } else { Err(device.to_string()) }
    });
    assert_eq!(device["reason"]["code"], "CRASH_LOOP", "{device}");
    assert_eq!(device["starts"], 5, "{device}");
    let states = engine.states(&world.host().id).expect("the engine");
    assert!(states.contains(&(loops.1.clone(), "exited".to_owned())), "given up, but kept: {states:?}");
    world.at_rest();
    assert_eq!(world.witness(&shy), shy_witness);
    assert_eq!(world.witness(&paused), paused_witness);
    assert_eq!(world.witness(&beside), witness);
    for device in world.devices() {
        world.do_verb(&text(&device["id"]), "delete");
    }
    world.clean();
}

fn reason_is(world: &World, phone: &Phone, code: Option<&str>) {
    until(&format!("the reason is {code:?}"), Duration::from_secs(60), || {
        let device = world.device(&phone.id);
        if device["reason"]["code"].as_str() == code { Ok(()) } else { Err(device.to_string()) }
    });
}

fn adb_server_now(world: &World) -> Option<u32> {
    let socket = format!("localfilesystem:{}", world.host().adb_socket().display());
    let mut all = process_table::processes().into_iter();
    all.find(|process| process.is("adb") && process.state != 'Z' && process.mentions(&socket))
        .map(|process| process.pid)
}

fn adb_server(world: &World) -> u32 {
    until("the agent has an adb server", Duration::from_secs(30), || {
        adb_server_now(world).ok_or_else(|| "none".to_owned())
    })
}

#[test]
fn a_port_that_a_stranger_holds_is_left_alone() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    world.add_host(&HostOptions::default());
    let first = *world.host().adb_ports.start();
    let stranger = TcpListener::bind(("127.0.0.1", first)).expect("the first port is free");
    let phone = world.phone("phone-1");
    assert_eq!(phone.port, first + 1);
    assert_eq!(world.getprop(&phone, "sys.boot_completed"), "1");
    let quarantined: i64 = world.host().row("SELECT port FROM port_lease WHERE state = 'QUARANTINED'");
    assert_eq!(quarantined, i64::from(first));
    // Stopped, it loses its port to another stranger; started, it finds a new one.
    world.do_verb(&phone.id, "stop");
    let second = TcpListener::bind(("127.0.0.1", phone.port)).expect("a stopped phone's port is free");
    world.do_verb(&phone.id, "start");
    let moved = world.running_phone(&phone.id);
    assert_eq!(moved.port, first + 2);
    assert_eq!(world.boots(&moved), "2", "the same data");
    drop((stranger, second));
    world.at_rest();
    world.do_verb(&phone.id, "delete");
    world.clean();
}

#[test]
fn an_engine_that_refuses_to_start_leaves_nothing() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("CapBnd");
    if u64::from_str_radix(bounding.trim(), 16).expect("hexadecimal") & (1 << 24) != 0 {
        println!("skipped: this machine has CAP_SYS_RESOURCE, so nothing is refused");
        return;
    }
    // All privileges are more than this machine has: created, the container does not start.
    world.add_host(&HostOptions { privilege: "privileged", ..HostOptions::default() });
    let (saga, device) = world.order(&World::order_body("phone-1", &[]));
    assert_rolled_back(&world, &saga, &device, "START_DEVICE", "START_REFUSED");
    world.clean();
}

/// Recordings are nobody's business yet: a phone whose recorder fails is a good phone, and
/// what its user sees of the recorder is what was ordered.
#[test]
fn a_phone_whose_recorder_fails_is_a_good_phone() {
    let Some(world) = World::start() else { return };
    let record = "screenrecord --time-limit 2 /sdcard/x.mp4; echo status $?";
    let orders: Vec<_> = ["record_refuse", "record_fail", "record_hang"]
        .map(|fault| {
            let argument = format!("androidboot.phonesim_fault={fault}");
            (fault, world.order(&World::order_body(&fault.replace('_', "-"), &[&argument])))
        })
        .into();
    for (fault, (saga, device)) in &orders {
        world.completed(saga);
        let phone = world.running_phone(device);
        world.adb.connect(&phone.address);
        let command = match *fault {
            // Deaf to everything but a kill.
            "record_hang" => "timeout -s KILL 3 screenrecord --time-limit 1 /sdcard/x.mp4; echo status $?",
            _ => record,
        };
        let told = world.adb.shell(&phone.address, command).expect("a shell");
        let status = if *fault == "record_hang" { "status 137" } else { "status 1" };
        assert!(told.lines().any(|line| line == status), "{fault}: {told}");
    }
    world.at_rest();
    for (_, (_, device)) in &orders {
        world.do_verb(device, "delete");
    }
    world.clean();
}
