//! Two living agents with one host id.

use crate::stranger::counted;
use phonefleet_tests::real::broker::free_port;
use phonefleet_tests::real::program::{Program, built};
use phonefleet_tests::real::{World, until};
use serde_json::json;
use std::time::Duration;

/// Its last word, the time that a conflict lasts after it, and the question after that.
const HEALS: Duration = Duration::from_secs(150);

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// Another machine with the configuration of the first host, as after a copied disk.
fn double(world: &World) -> Program {
    let id = &world.host().id;
    let state = world.folder.join("double");
    let text = std::fs::read_to_string(world.folder.join(format!("{id}.toml"))).expect("agent.toml");
    let text: String = text
        .lines()
        .map(|line| match line.split_once(" = ").map_or(line, |(key, _)| key) {
            "state_dir" => format!("state_dir = \"{}\"\n", state.display()),
            "adb" => "adb = \"23000-23099\"\n".to_owned(),
            "webrtc" => "webrtc = \"24000-24099\"\n".to_owned(),
            "listen" => format!("listen = \"127.0.0.1:{}\"\n", free_port()),
            _ => format!("{line}\n"),
        })
        .collect();
    let file = world.folder.join("double.toml");
    std::fs::write(&file, text).expect("agent.toml");
    // Another /etc/machine-id; a machine without one looks for it in the state folder.
    std::fs::create_dir(&state).expect("a state folder");
    let machine = state.join("machine-id");
    std::fs::write(&machine, format!("{MACHINE}\n")).expect("a machine id");
    let command = "test ! -e /etc/machine-id || mount --bind \"$0\" /etc/machine-id && exec \"$@\"";
    let words = [
        "unshare".as_ref(),
        "--mount".as_ref(),
        "sh".as_ref(),
        "-c".as_ref(),
        command.as_ref(),
        machine.as_os_str(),
        built("phonefleet-agent").as_os_str(),
        "--config".as_ref(),
        file.as_os_str(),
    ]
    .map(std::ffi::OsStr::to_owned);
    Program::start("double", words, &world.folder.join("double.log"))
}

#[test]
fn two_agents_with_one_host_id_are_a_conflict_until_one_is_silent() {
    let Some(world) = World::start() else { return };
    let phone = world.phone("quiet");
    world.at_rest();
    let witness = world.witness(&phone);
    let id = world.host().id.clone();
    let path = format!("/hosts/{id}");
    let machine = world.api.get(&path)["machineId"].clone();

    let mut double = double(&world);
    until("the conflict is seen", Duration::from_secs(60), || {
        let host = world.api.get(&path);
        if host["status"] == "CONFLICT" { Ok(()) } else { Err(host.to_string()) }
    });
    let host = world.api.get(&path);
    assert_eq!((&host["machineId"], &host["conflictWith"]), (&machine, &json!(MACHINE)));
    counted(&world, "phonefleet_controller_hosts{status=\"CONFLICT\"}", 1);
    counted(&world, "phonefleet_controller_hellos_refused", 1);
    assert!(world.controller.output().contains("give one of them another host_id"), "no alarm in the log");

    // No new phones there, and no commands: what is accepted waits.
    let order = World::order_body("too-many", &[]);
    let refusal = world.api.post("/devices", Some(&order)).problem(503, "NO_CAPACITY");
    assert!(refusal["detail"].as_str().is_some_and(|why| why.contains("conflict")), "{refusal}");
    let stop = world.verb(&phone.id, "stop");
    // Longer than the question that both of them answer.
    let quiet = std::time::Instant::now() + Duration::from_secs(40);
    until("the conflict lasts, and nobody touches the phone", Duration::from_secs(60), || {
        assert_eq!(world.api.get(&path)["status"], "CONFLICT");
        assert!(world.saga(&stop)["endedAt"].is_null(), "{}", world.saga(&stop));
        assert_eq!(world.witness(&phone), witness, "the phone was touched");
        if std::time::Instant::now() > quiet { Ok(()) } else { Err(String::new()) }
    });
    assert!(double.runs(), "{}", double.last_lines(30));

    double.kill();
    until("the conflict heals", HEALS, || {
        let host = world.api.get(&path);
        if host["status"] == "ONLINE" { Ok(()) } else { Err(host.to_string()) }
    });
    assert_eq!(world.api.get(&path)["machineId"], machine);
    world.completed(&stop);
    assert_eq!(world.device(&phone.id)["status"], "STOPPED");
    world.do_verb(&phone.id, "start");
    world.do_verb(&phone.id, "delete");
    let saga = world.order(&order).0;
    world.completed(&saga);
}
