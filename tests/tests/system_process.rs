//! A host without a container engine: its phones are processes. The main job with a real
//! `adb`, an agent that is killed, and what only phonesim's own adbd can show.

use nix::sys::signal::Signal;
use phonefleet_tests::real::processes::Processes;
use phonefleet_tests::real::program::{run, signal};
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, process_table, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Until something that waits for nobody has happened.
const SOON: Duration = Duration::from_secs(30);

fn world(boot_timeout_seconds: u64) -> Option<World> {
    let mut world = World::without_hosts(&WorldOptions::default())?;
    world.add_host(&HostOptions {
        processes: true,
        boot_timeout_seconds,
        first_port: 28_000,
        ..HostOptions::default()
    });
    Some(world)
}

fn processes(world: &World) -> &Processes {
    world.host().processes.as_ref().expect("its phones are processes")
}

/// PID 1 of a phone that runs.
fn init(world: &World, phone: &Phone) -> u32 {
    let containers = processes(world).containers();
    let own = containers.iter().find(|container| container.device == phone.id && container.pid > 0);
    let own = own.unwrap_or_else(|| panic!("{} does not run: {containers:?}", phone.name));
    own.pid.try_into().expect("a process number")
}

/// No device, and nothing of one: process, mount, port, folder.
fn assert_nothing_is_left(world: &World) {
    world.clean();
    let processes = processes(world);
    assert_eq!(processes.supervisors(), []);
    assert_eq!(processes.entries(), Vec::<std::path::PathBuf>::new());
    let ports = process_table::listening_ports();
    assert!(ports.intersection(&world.host().adb_ports.clone().collect()).next().is_none(), "{ports:?}");
    let state = world.host().state.to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("own mounts");
    assert!(!mounts.contains(&state), "{mounts}");
    assert_eq!(std::fs::read_dir(world.host().state.join("phones")).map_or(0, Iterator::count), 0);
    assert_eq!(world.host().engine.states(&world.host().id).expect("the engine"), [], "it was not asked");
}

fn recording(world: &World, phone: &Phone, seconds: u64) -> String {
    let body = json!({ "maxDurationSeconds": seconds });
    let data = world.api.post(&format!("/devices/{}/recordings", phone.id), Some(&body)).data(202);
    text(&data["recordingId"])
}

/// Waits for a recording's end, which must be good, and has ffprobe judge the video.
fn assert_whole(world: &World, phone: &Phone, recording: &str) -> Value {
    let view = until(&format!("the end of recording {recording}"), Duration::from_secs(60), || {
        let view = world.api.get(&format!("/recordings/{recording}"));
        let over = ["FINAL", "CORRUPT", "FAILED"].iter().any(|status| view["status"] == **status);
        if over { Ok(view) } else { Err(view.to_string()) }
    });
    assert_eq!(view["status"], "FINAL", "{view}");
    let file = world.host().state.join("recordings").join(&phone.id).join(format!("{recording}.mp4"));
    let told = run([
        "ffprobe".as_ref(),
        "-v".as_ref(),
        "error".as_ref(),
        "-show_entries".as_ref(),
        "format=duration".as_ref(),
        "-of".as_ref(),
        "csv=p=0".as_ref(),
        file.as_os_str(),
    ]);
    let seconds: f64 = told.expect("a video").trim().parse().expect("its length");
    let duration = view["durationMs"].as_f64().expect("a duration");
    assert!((duration - seconds * 1000.0).abs() <= 10.0, "{seconds} s: {view}");
    view
}

#[test]
fn the_main_job_without_an_engine() {
    let Some(world) = world(60) else { return };
    let phone = world.phone("phone-1");
    world.at_rest();
    assert!(world.host().adb_ports.contains(&phone.port), "{phone:?}");
    let told = world.host().local_api.call("GET", "/status", None).text();
    assert!(told.contains("phonesim"), "the version of the engine: {told}");
    let host = world.api.get(&format!("/hosts/{}", world.host().id));
    assert!(text(&host["engineVersion"]).starts_with("phonesim "), "{host}");

    // What a user does with a real adb.
    assert_eq!(world.getprop(&phone, "sys.boot_completed"), "1");
    assert_eq!(world.getprop(&phone, "ro.boot.serialno"), phone.id.replace('-', ""));
    let picture = world.adb.exec_out(&phone.address, "screencap -p").expect("a screenshot");
    assert_eq!(picture.get(..8), Some(b"\x89PNG\r\n\x1a\n".as_slice()));
    assert_eq!(picture.get(16..24), Some([0, 0, 2, 208, 0, 0, 5, 0].as_slice()), "720 × 1280");
    let (here, back) = (world.folder.join("here"), world.folder.join("back"));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|place| (place % 251) as u8).collect();
    std::fs::write(&here, &bytes).expect("a file");
    let (here, back) = (here.display().to_string(), back.display().to_string());
    world.adb.run(&["-s", &phone.address, "push", &here, "/sdcard/file"]).expect("a push");
    world.adb.run(&["-s", &phone.address, "pull", "/data/local/tmp/file", &back]).expect("a pull");
    assert_eq!(std::fs::read(&back).expect("what came back"), bytes);
    assert_eq!(std::fs::read(world.data(&phone).join("local/tmp/file")).expect("in /data"), bytes);

    // It sees its own processes and files, and changes none of the host's.
    let shell = |command: &str| world.adb.shell(&phone.address, command);
    assert_eq!(shell("cat /proc/1/comm").as_deref(), Ok("init"));
    assert_eq!(shell("hostname").as_deref(), Ok(format!("phonefleet-{}", phone.id).as_str()));
    let state = world.host().state.display().to_string();
    assert!(shell(&format!("ls {state}")).is_err(), "it sees the agent's files");
    assert!(shell("touch /usr/phone").is_err_and(|error| error.contains("Read-only")));
    assert!(shell("exit 7").is_err());

    // Stop, start, reboot: a new phone each time, with the same data.
    let first = init(&world, &phone);
    world.do_verb(&phone.id, "stop");
    world.at_rest();
    assert!(!process_table::listening_ports().contains(&phone.port), "a stopped phone listens");
    world.do_verb(&phone.id, "start");
    world.do_verb(&phone.id, "reboot");
    world.at_rest();
    assert_eq!(world.boots(&phone), "3");
    assert_ne!(init(&world, &phone), first);

    // A recording to its time limit, and one that is stopped.
    let limited = recording(&world, &phone, 3);
    assert_eq!(assert_whole(&world, &phone, &limited)["endCause"], "TIME_LIMIT");
    let stopped = recording(&world, &phone, 170);
    let file = world.data(&phone).join("local/tmp/phonefleet").join(&stopped).join("video.mp4");
    until("it records", SOON, || {
        let bytes = std::fs::metadata(&file).map_or(0, |about| about.len());
        let view = world.api.get(&format!("/recordings/{stopped}"));
        let records = bytes > 5_000 && view["status"] == "RECORDING";
        if records { Ok(()) } else { Err(format!("{bytes} bytes, {view}")) }
    });
    let _ = world.api.post(&format!("/recordings/{stopped}/stop"), None).data(202);
    assert_eq!(assert_whole(&world, &phone, &stopped)["endCause"], "STOPPED");

    world.do_verb(&phone.id, "delete");
    assert_nothing_is_left(&world);
}

#[test]
fn phones_outlive_an_agent_that_is_killed() {
    let Some(mut world) = world(60) else { return };
    let (steady, dies) = (world.phone("steady"), world.phone("dies"));
    world.at_rest();
    let witness = world.witness(&steady);
    let first_life = init(&world, &dies);
    let recording = recording(&world, &steady, 8);
    until("it records", SOON, || {
        let view = world.api.get(&format!("/recordings/{recording}"));
        if view["status"] == "RECORDING" { Ok(()) } else { Err(view.to_string()) }
    });

    world.agent().kill();
    assert_eq!(world.getprop(&steady, "sys.boot_completed"), "1", "it needs no agent");
    signal(first_life, Signal::SIGKILL);
    until("its supervisor has noted the end", SOON, || {
        let noted = std::fs::read_to_string(processes(&world).folder(&dies.id).join("ended"));
        if noted.as_deref().is_ok_and(|code| code.trim() == "137") {
            Ok(())
        } else {
            Err(format!("{noted:?}"))
        }
    });
    world.agent().start_again();

    until("the dead one lives again", Duration::from_secs(60), || {
        let device = world.device(&dies.id);
        let fine = device["status"] == "RUNNING" && device["starts"] == 2;
        if fine { Ok(()) } else { Err(device.to_string()) }
    });
    assert_eq!(world.running_phone(&dies.id).port, dies.port);
    assert_ne!(init(&world, &dies), first_life);
    assert_whole(&world, &steady, &recording);
    world.at_rest();
    assert_eq!(world.witness(&steady), witness, "adopted, not touched");
    let log = world.agent().output();
    assert!(log.contains("exit code 137"), "the end while nobody watched was seen:\n{log}");

    // Turned off from within, with an agent that watches: told with its exit code at once.
    let second_life = init(&world, &dies);
    world.adb.connect(&dies.address);
    let _ = world.adb.shell(&dies.address, "svc power shutdown");
    until("it is seen, and started again", Duration::from_secs(60), || {
        let device = world.device(&dies.id);
        let fine = device["status"] == "RUNNING" && device["starts"] == 3;
        if fine { Ok(()) } else { Err(device.to_string()) }
    });
    assert_ne!(init(&world, &dies), second_life);
    assert!(world.agent().output().contains("exit code 130"));

    for phone in [steady, dies] {
        world.do_verb(&phone.id, "delete");
    }
    assert_nothing_is_left(&world);
}

#[test]
fn what_adb_meets_at_a_phone_is_named() {
    let Some(world) = world(30) else { return };
    let beside = world.phone("beside");
    let witness = world.witness(&beside);
    let order = |name: &str| {
        let argument = format!("androidboot.phonesim_fault={}", name.replace('-', "_"));
        world.order(&World::order_body(name, &[&argument]))
    };
    // Each with the rung that it cannot pass, and what is seen there.
    let faults = [
        ("adb-auth", "adb device", "adb key"),
        ("adb-silent", "adb device", ""),
        ("adb-garbage", "adb device", ""),
        ("adb-half-open", "identity", ""),
    ];
    let began = Instant::now();
    let orders: Vec<_> = faults.map(|(name, ..)| order(name)).into();
    let shy = order("adb-auth-once");
    world.completed(&shy.0);
    println!("adb-auth-once after {:?}", began.elapsed());
    for ((saga, device), (name, rung, evidence)) in orders.iter().zip(faults) {
        let state = world.ended(saga, Duration::from_secs(120));
        let story = world.story(saga);
        println!("{name} after {:?}: {}", began.elapsed(), state["errorMessage"]);
        assert_eq!(state["status"], "COMPENSATED", "{name}: {state}\n{story}");
        let error = text(&state["errorMessage"]);
        for wanted in ["BOOT_TIMEOUT", &format!("`{rung}`"), evidence] {
            assert!(error.contains(wanted), "{name}: {wanted} is not in {error:?}\n{story}");
        }
        assert_eq!(world.device(device)["status"], "DELETED", "{name}");
    }
    world.at_rest();
    assert_eq!(world.witness(&beside), witness);
    for device in [&beside.id, &shy.1] {
        world.do_verb(device, "delete");
    }
    assert_nothing_is_left(&world);
}
