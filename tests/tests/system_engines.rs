//! Engines and adb that misbehave, and hands that meddle: each ends in the right state, with
//! a reason that an operator understands, and heals when the cause goes. No phone is started
//! again that did not die.
//!
//! Runs with the machine's engine, and by `make test-engines` with another release's.

use nix::sys::signal::Signal;
use phonefleet_tests::real::network::Network;
use phonefleet_tests::real::program::{run, signal};
use phonefleet_tests::real::world::{far_host, text};
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, process_table, until};
use phonefleet_tests::real::{engine::Engine, phone::Witness};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// A world with one host and ports that no other test uses, and a phone that must not notice
/// anything.
fn world(first_port: u16) -> Option<(World, Phone, Witness)> {
    let mut world = World::without_hosts(&WorldOptions::default())?;
    world.add_host(&HostOptions {
        first_port,
        allowed_images: vec!["phonefleet/phonesim:passing".to_owned()],
        ..HostOptions::default()
    });
    let beside = world.phone("beside");
    let witness = world.witness(&beside);
    Some((world, beside, witness))
}

fn end(world: &World, beside: &Phone, witness: &Witness) {
    world.at_rest();
    assert_eq!(&world.witness(beside), witness, "it was not to notice anything");
    for device in world.devices() {
        world.do_verb(&text(&device["id"]), "delete");
    }
    world.clean();
}

/// A test that fails leaves no engine that hangs: the world's end would wait for it.
struct Thaw(Engine);

impl Drop for Thaw {
    fn drop(&mut self) {
        self.0.thaw();
    }
}

fn status(world: &World) -> Value {
    world.host().local_api.call("GET", "/status", None).json()
}

/// Waits until the host's engine is, or is not, there; what its part says.
fn engine_is(world: &World, ready: bool) -> String {
    until(&format!("the engine is ready: {ready}"), MINUTE, || {
        let part = status(world)["parts"]["engine"].take();
        if part["ready"] == ready { Ok(text(&part["detail"])) } else { Err(part.to_string()) }
    })
}

/// Waits until a device waits for the engine; why.
fn waits_for_engine(world: &World, device: &str) -> String {
    until("the device waits for the engine", 2 * MINUTE, || {
        let waiting = status(world)["waiting"][device].take();
        if waiting["code"] == "ENGINE_UNAVAILABLE" {
            Ok(text(&waiting["detail"]))
        } else {
            Err(waiting.to_string())
        }
    })
}

/// Waits for a status and a part of its reason.
fn becomes(world: &World, device: &str, wanted: &str, reason: &str) -> Value {
    until(&format!("{device} is {wanted} because of {reason:?}"), 2 * MINUTE, || {
        let now = world.device(device);
        let why = format!("{} {}", now["reason"]["code"], now["reason"]["detail"]);
        if now["status"] == wanted && why.contains(reason) { Ok(now) } else { Err(now.to_string()) }
    })
}

/// Waits until a phone has died and is up again, with so many starts in all; every reason
/// that its agent told meanwhile.
fn revived(world: &World, phone: &Phone, starts: u64) -> String {
    until(&format!("{} is up again", phone.name), MINUTE, || {
        let now = world.device(&phone.id);
        if now["status"] == "RUNNING" && now["starts"] == starts { Ok(()) } else { Err(now.to_string()) }
    });
    world.host().agent.output()
}

#[test]
fn an_engine_that_is_down_or_hangs_is_waited_for() {
    let Some((world, beside, witness)) = world(25_000) else { return };
    let engine = world.host().engine.clone();
    let _thaw = Thaw(engine.clone());

    engine.down();
    let why = engine_is(&world, false);
    assert!(why.contains("not available"), "{why}");
    let (saga, device) = world.order(&World::order_body("during-an-absence", &[]));
    let why = waits_for_engine(&world, &device);
    assert!(why.contains("docker.sock") || why.contains("onnect"), "{why}");
    assert_eq!(world.device(&beside.id)["status"], "RUNNING", "live restore: it does run");
    engine.restart();
    world.completed(&saga);
    engine_is(&world, true);

    // It takes calls and does not answer.
    engine.freeze(false);
    let (saga, device) = world.order(&World::order_body("during-a-silence", &[]));
    let why = engine_is(&world, false);
    assert!(why.contains("no answer within"), "{why}");
    let why = waits_for_engine(&world, &device);
    assert!(why.contains("no answer within"), "{why}");
    assert_eq!(world.device(&beside.id)["status"], "RUNNING");
    engine.thaw();
    world.completed(&saga);
    engine_is(&world, true);

    // Its containerd hangs: the engine answers a ping, and soon nothing else.
    engine.freeze(true);
    let (saga, device) = world.order(&World::order_body("without-containerd", &[]));
    let why = waits_for_engine(&world, &device);
    assert!(why.contains("no answer within"), "{why}");
    assert_eq!(world.device(&beside.id)["status"], "RUNNING");
    engine.thaw();
    world.completed(&saga);
    engine_is(&world, true);
    end(&world, &beside, &witness);
}

#[test]
fn an_engine_that_is_restarted_under_load_loses_nothing() {
    let Some((world, beside, witness)) = world(25_100) else { return };
    let engine = world.host().engine.clone();
    let orders: Vec<_> =
        (0..6).map(|number| world.order(&World::order_body(&format!("phone-{number}"), &[]))).collect();
    // Once as they are created, once as they start.
    for state in ["created", "running"] {
        until(&format!("a container is {state}"), MINUTE, || {
            let states = engine.states(&world.host().id).map_err(|error| error.to_string())?;
            let others = states.iter().filter(|(device, now)| *device != beside.id && now == state);
            if others.count() > 0 { Ok(()) } else { Err(format!("{states:?}")) }
        });
        engine.restart();
    }
    // One that ends in mid-start may not give that start's port back in its next life.
    engine.may_hold_ports();
    for (saga, _) in &orders {
        world.completed(saga);
    }
    end(&world, &beside, &witness);
}

#[test]
fn an_engine_that_creates_but_cannot_start_leaves_nothing() {
    let Some((world, beside, witness)) = world(25_200) else { return };
    let engine = world.host().engine.clone();
    // Its containerd may not hand out as many open files as a phone needs, nor raise that.
    let limit = |number: u64| {
        let process = engine.process(true).to_string();
        run(["prlimit", "--pid", &process, &format!("--nofile={number}:{number}")]).expect("prlimit");
    };
    limit(2048);
    let (saga, device) = world.order(&World::order_body("refused", &[]));
    let ended = world.ended(&saga, 2 * MINUTE);
    if ended["status"] == "COMPLETED" {
        println!("skipped: this machine has CAP_SYS_RESOURCE, so nothing is refused");
    } else {
        let story = world.story(&saga);
        assert_eq!((&ended["status"], &ended["failedStep"]), (&json!("COMPENSATED"), &json!("START_DEVICE")));
        assert!(text(&ended["errorMessage"]).contains("START_REFUSED"), "{ended}\n{story}");
        assert!(text(&ended["errorMessage"]).contains("rlimit"), "the cause is named: {ended}");
        assert_eq!(world.device(&device)["status"], "DELETED");
    }
    // A phone that dies meanwhile cannot come back, and says why; then it does by itself.
    let victim = format!("/containers/phonefleet-{}", beside.id);
    engine.must("POST", &format!("{victim}/kill"), None);
    if ended["status"] != "COMPLETED" {
        becomes(&world, &beside.id, "ERROR", "START_REFUSED");
    }
    engine.down();
    engine.restart(); // with another containerd
    becomes(&world, &beside.id, "RUNNING", "");
    world.phone("accepted");
    assert_ne!(&world.witness(&beside), &witness);
    let witness = world.witness(&beside);
    end(&world, &beside, &witness);
}

#[test]
fn a_phone_whose_image_went_away_comes_back_with_it() {
    let Some((world, beside, witness)) = world(25_300) else { return };
    let engine = world.host().engine.clone();
    let name = || {
        engine.must("POST", "/images/phonefleet/phonesim:dev/tag?repo=phonefleet/phonesim&tag=passing", None)
    };
    name();
    let mut order = World::order_body("passing", &[]);
    order["image"] = json!("phonefleet/phonesim:passing");
    let (saga, device) = world.order(&order);
    world.completed(&saga);
    let phone = world.running_phone(&device);
    engine.must("DELETE", "/images/phonefleet/phonesim:passing?force=1", None);
    assert_eq!(world.device(&device)["status"], "RUNNING", "what runs needs no image");
    // Killed, it is started again: its container needs no image either.
    engine.must("POST", &format!("/containers/phonefleet-{device}/kill"), None);
    revived(&world, &phone, 2);
    // Removed, it cannot be made anew, until the image is back.
    engine.must("DELETE", &format!("/containers/phonefleet-{device}?force=1"), None);
    becomes(&world, &device, "ERROR", "IMAGE_MISSING");
    name();
    let back = becomes(&world, &device, "RUNNING", "");
    assert_eq!(back["ports"]["adb"], phone.port, "{back}");
    engine.must("DELETE", "/images/phonefleet/phonesim:passing?force=1", None);
    end(&world, &beside, &witness);
}

#[test]
fn a_phone_that_takes_too_much_memory_is_started_again_and_says_so() {
    let Some((world, beside, witness)) = world(25_400) else { return };
    let phone = world.phone("hungry");
    let before = world.witness(&phone);
    world.adb.connect(&phone.address);
    // 200 MB in a phone of 64: the kernel ends what takes the most, and the phone goes on.
    let eat = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>&1; echo status $?";
    let told = world.adb.shell(&phone.address, eat).expect("a shell");
    assert!(!told.contains("status 0"), "{told}");
    assert_eq!(world.witness(&phone), before, "one of its programs died, not the phone");
    // Unless it is the phone's own first process.
    let told = world.adb.shell(&phone.address, &format!("echo 1000 > /proc/1/oom_score_adj; {eat}"));
    println!("the shell said {told:?}");
    let log = revived(&world, &phone, 2);
    assert!(log.contains("killed for using more memory than its limit"), "the log names the cause");
    end(&world, &beside, &witness);
}

#[test]
fn a_port_that_is_taken_between_lease_and_start_is_left_to_the_thief() {
    let Some((world, beside, witness)) = world(25_500) else { return };
    let engine = world.host().engine.clone();
    let (saga, device) = world.order(&World::order_body("robbed", &[]));
    let port = until("a lease", MINUTE, || {
        let sql = format!("SELECT port FROM port_lease WHERE kind = 'adb' AND device_id = '{device}'");
        world
            .host()
            .column(&sql.replace("port FROM", "CAST(port AS TEXT) FROM"))
            .pop()
            .ok_or_else(String::new)
    });
    let _thaw = Thaw(engine.clone());
    engine.freeze(false);
    let thief = TcpListener::bind(("127.0.0.1", port.parse().expect("a port")));
    engine.thaw();
    let thief = thief.expect("the port is leased, and nothing listens on it yet");
    world.completed(&saga);
    let phone = world.running_phone(&device);
    assert_ne!(phone.port.to_string(), port);
    assert_eq!(world.getprop(&phone, "sys.boot_completed"), "1");
    drop(thief);
    end(&world, &beside, &witness);
}

#[test]
fn hands_in_the_engine_are_noticed() {
    let Some((world, beside, witness)) = world(25_600) else { return };
    let engine = world.host().engine.clone();
    let phones = ["killed", "stopped", "removed"].map(|name| world.phone(name));
    let [killed, stopped, removed] = &phones;
    let path = |phone: &Phone| format!("/containers/phonefleet-{}", phone.id);
    engine.must("POST", &format!("{}/kill", path(killed)), None);
    engine.must("POST", &format!("{}/stop?t=1", path(stopped)), None);
    engine.must("DELETE", &format!("{}?force=1", path(removed)), None);
    for phone in &phones {
        let log = revived(&world, phone, 2);
        assert!(log.contains("the phone died"), "{log}");
        assert_eq!(world.running_phone(&phone.id).port, phone.port);
    }
    // A device that shall not run does not, whoever starts it; one without a container gets one.
    world.do_verb(&stopped.id, "stop");
    world.do_verb(&removed.id, "stop");
    engine.must("POST", &format!("{}/start", path(stopped)), None);
    engine.must("DELETE", &format!("{}?force=1", path(removed)), None);
    until("both are as they shall be", 2 * MINUTE, || {
        let states = engine.states(&world.host().id).map_err(|error| error.to_string())?;
        let of =
            |phone: &Phone| states.iter().find(|(id, _)| *id == phone.id).map(|(_, state)| state.as_str());
        match (of(stopped), of(removed)) {
            (Some("exited"), Some("created")) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(world.device(&stopped.id)["status"], "STOPPED");
    world.do_verb(&removed.id, "start");
    assert_eq!(world.boots(&world.running_phone(&removed.id)), "3", "the same data");

    // Frozen in its boot: the rung says so, and nothing is left.
    let (saga, device) = world.order(&World::order_body("frozen", &["androidboot.phonesim_boot_ms=20000"]));
    until("it runs", MINUTE, || {
        let states = engine.states(&world.host().id).map_err(|error| error.to_string())?;
        if states.contains(&(device.clone(), "running".to_owned())) {
            Ok(())
        } else {
            Err(format!("{states:?}"))
        }
    });
    engine.must("POST", &format!("/containers/phonefleet-{device}/pause"), None);
    let ended = world.ended(&saga, 3 * MINUTE);
    assert_eq!(ended["status"], "COMPENSATED", "{ended}");
    let error = text(&ended["errorMessage"]);
    assert!(error.contains("BOOT_TIMEOUT") && error.contains("paused"), "{error}");
    end(&world, &beside, &witness);
}

#[test]
fn an_engine_without_its_bridge_says_what_to_do() {
    let Some((world, beside, witness)) = world(25_700) else { return };
    let engine = world.host().engine.clone();
    run(["ip", "link", "del", "docker0"]).expect("ip");
    let (saga, device) = world.order(&World::order_body("without-a-bridge", &[]));
    let why = waits_for_engine(&world, &device);
    assert!(why.contains("restart the engine"), "{why}");
    becomes(&world, &beside.id, "RUNNING", "ADB_UNRESPONSIVE");
    engine.restart();
    world.completed(&saga);
    // What ran before has lost its wire for good. It runs, and is its owner's to start again.
    assert_eq!(world.witness(&beside), witness);
    world.do_verb(&beside.id, "reboot");
    becomes(&world, &beside.id, "RUNNING", "");
    let witness = world.witness(&beside);
    end(&world, &beside, &witness);
}

fn adb_server(world: &World) -> u32 {
    let socket = format!("localfilesystem:{}", world.host().adb_socket().display());
    until("the agent has an adb server", MINUTE, || {
        let mut all = process_table::processes().into_iter();
        let server = all.find(|one| one.is("adb") && one.state != 'Z' && one.mentions(&socket));
        server.map(|server| server.pid).ok_or_else(|| "none".to_owned())
    })
}

#[test]
fn an_adb_server_that_dies_or_hangs_holds_up_nobody_for_long() {
    let Some((world, beside, witness)) = world(25_800) else { return };
    for fault in [Signal::SIGKILL, Signal::SIGSTOP] {
        let server = adb_server(&world);
        let slow = World::order_body(
            &format!("during-{fault}").to_lowercase(),
            &["androidboot.phonesim_boot_ms=3000"],
        );
        let (saga, _) = world.order(&slow);
        until("the boot has begun", MINUTE, || {
            let state = world.saga(&saga);
            if state["currentStep"] == "START_DEVICE" { Ok(()) } else { Err(state.to_string()) }
        });
        signal(server, fault);
        world.completed(&saga);
        assert_ne!(adb_server(&world), server, "it was replaced");
        assert_eq!(world.device(&beside.id)["status"], "RUNNING");
    }
    end(&world, &beside, &witness);
}

#[test]
fn phones_that_die_with_their_engine_come_back_with_it() {
    if std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT").is_none() {
        println!("skipped: run it with tests/environment/run");
        return;
    }
    let network = Network::make("mortal");
    let options =
        WorldOptions { broker_addresses: vec![Network::HERE.to_owned()], ..WorldOptions::default() };
    let Some(mut world) = World::without_hosts(&options) else { return };
    let engine = Engine::start("mortal", &["--netns", network.name(), "--no-live-restore"]);
    world.add_host(&far_host(&network, engine.clone()));
    let phone = world.phone("phone-1");
    engine.restart();
    until("the phone is up again", MINUTE, || {
        let now = world.device(&phone.id);
        if now["status"] == "RUNNING" && now["starts"] == 2 { Ok(()) } else { Err(now.to_string()) }
    });
    world.do_verb(&phone.id, "delete");
    world.at_rest();
    drop(world);
    engine.stop();
}

/// Versions are agreed on with each engine, and anew when it changes.
#[test]
fn the_engine_is_spoken_to_in_its_own_version() {
    let Some((world, beside, witness)) = world(25_900) else { return };
    let version = world.host().engine.must("GET", "/version", None).json();
    let (api, release) = (text(&version["ApiVersion"]), text(&version["Version"]));
    println!("engine {release}, API {api}");
    assert_eq!(engine_is(&world, true), release);
    let agreed = world.host().agent.output();
    let line = agreed.lines().find(|line| line.contains("connected to the container engine"));
    assert!(line.is_some_and(|line| line.contains(&format!("api={api}"))), "{line:?}");
    if let Ok(suite) = std::env::var("PHONEFLEET_TEST_ENGINE_SUITE") {
        assert!(suite.is_empty() || !release.starts_with("20.10"), "{suite} has {release}");
    }
    end(&world, &beside, &witness);
}
