//! The units under a real systemd: start, crash, watchdog, restart with running phones and
//! recordings, and a machine that boots again.
//!
//! `make test-systemd` prepares the machine (tests/environment/systemd-host) and runs this.

mod machine;
mod processes;

use machine::{AGENT, CONTROLLER, Machine, PATIENCE, Unit, WATCHDOG, Wedged};
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{World, until};
use serde_json::json;

const AGENT_HAS_ALL: &str = "has engine, adb, broker, store";

/// Starts both, and waits until the host is known and has everything.
fn start(machine: &Machine) {
    machine.systemctl("start phonefleet-controller phonefleet-agent");
    has_all(machine);
}

fn has_all(machine: &Machine) {
    machine.unit_is(AGENT, "has all", |unit| unit.get("StatusText") == AGENT_HAS_ALL);
    machine.unit_is(CONTROLLER, "has all", |unit| unit.get("StatusText") == "has broker, store");
    machine.becomes("/hosts/host-1", "ONLINE");
}

/// Orders a phone and waits until it runs; its id.
fn phone(machine: &Machine, name: &str) -> String {
    let order = World::order_body(name, &[]);
    let device = text(&machine.must("POST", "/devices", Some(&order))["device"]["id"]);
    machine.becomes(&format!("/devices/{device}"), "RUNNING");
    device
}

/// What must not change while daemons come and go.
fn untouched(machine: &Machine) -> (String, String) {
    (machine.phones(), machine.adb_servers())
}

/// Systemd has nothing to complain of, and finds the sandboxes tight enough (0 is best, 10 worst).
fn assert_sound(machine: &Machine, units: &[(&str, f64)]) {
    let complaints = machine.shell(
        "systemd-analyze verify /etc/systemd/system/phonefleet-agent.service \
         /etc/systemd/system/phonefleet-controller.service 2>&1",
    );
    assert_eq!(complaints, "", "systemd-analyze verify");
    for (unit, most) in units {
        let score = machine.shell(&format!("systemd-analyze security --no-pager {unit} | tail -n 1"));
        println!("{score}");
        let score = score.split_once(": ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
        assert!(score.is_some_and(|score| score <= *most), "{unit}: {score:?}");
    }
}

#[test]
fn ready_is_ready_and_what_is_missing_is_told_and_waited_for() {
    let Some(machine) = Machine::boot("ready") else { return };
    assert_sound(&machine, &[(AGENT, 3.0), (CONTROLLER, 1.5)]);

    // Somebody else has the database: the agent is not ready, and says why not.
    machine.shell(
        "setsid sh -c 'echo $$ >/run/by-hand && exec phonefleet-agent --config /etc/phonefleet/agent.toml' \
         </dev/null >/run/by-hand.log 2>&1 &",
    );
    until("an agent runs by hand", PATIENCE, || machine.run(["curl", "-sSf", "127.0.0.1:30010/healthz"]));
    machine.systemctl("start --no-block phonefleet-agent");
    let waiting = machine.unit_is(AGENT, "waiting", |unit| {
        unit.get("StatusText")
            .starts_with("starting; waiting for adb (not tried yet), broker (not tried yet)")
            || unit.get("StatusText").contains("store (")
    });
    assert_eq!(waiting.get("ActiveState"), "activating");
    machine.shell("kill -9 $(cat /run/by-hand)");
    let begun = machine.unit_is(AGENT, "ready", |unit| unit.get("ActiveState") == "active");
    assert_eq!((begun.pid(), begun.number("NRestarts")), (waiting.pid(), 0));

    // Whoever hears that the controller is started can call it.
    let answer = machine.shell("systemctl start phonefleet-controller && curl -sS 127.0.0.1:30002/healthz");
    assert!(answer.contains("\"ok\""), "{answer}");
    has_all(&machine);
    let listening = machine.shell("ss -Hltn | awk '{ print $4 }'");
    assert!(
        listening.lines().all(|address| address.starts_with("127.") || address.starts_with("[::1]")),
        "{listening}"
    );
    let user = |unit: &Unit| machine.shell(&format!("ps -o uid= -p {}", unit.pid())).parse::<u32>();
    // By number: names of dynamic users need a library (libnss-systemd) that may be missing.
    assert!(user(&machine.unit(CONTROLLER)).is_ok_and(|user| (61184..=65519).contains(&user)));
    assert_eq!(user(&machine.unit(AGENT)), Ok(0));

    // Without a broker, and with an engine that hangs, both are fed on.
    let before = [machine.unit(AGENT), machine.unit(CONTROLLER)];
    machine.systemctl("stop mosquitto");
    machine.systemctl("kill -s STOP docker");
    let long = u64::try_from(2 * WATCHDOG.as_micros()).expect("small");
    for (name, before) in [AGENT, CONTROLLER].into_iter().zip(&before) {
        let enough = before.number("WatchdogTimestampMonotonic") + long;
        let fed = machine.unit_is(name, "fed", |unit| {
            unit.number("WatchdogTimestampMonotonic") > enough || unit.pid() != before.pid()
        });
        assert_eq!((fed.pid(), fed.number("NRestarts")), (before.pid(), 0), "{}", machine.journal());
        assert!(fed.get("StatusText").contains("broker"), "{}", fed.get("StatusText"));
    }
    let missing =
        machine.unit_is(AGENT, "missing the engine", |unit| unit.get("StatusText").contains("engine ("));
    println!("{}", missing.get("StatusText"));
    assert!(missing.get("StatusText").starts_with("waiting for engine ("));
    machine.systemctl("kill -s CONT docker");
    machine.systemctl("start mosquitto");
    has_all(&machine);
    assert_eq!(machine.unit(AGENT).pid(), before[0].pid());
}

#[test]
fn phones_and_recordings_outlive_crashes_hangs_and_restarts() {
    let Some(machine) = Machine::boot("outlive") else { return };
    start(&machine);
    let device = phone(&machine, "first");
    phone(&machine, "second");
    let known = untouched(&machine);
    assert_eq!((known.0.lines().count(), known.1.lines().count()), (2, 1), "{known:?}");
    let recording = machine.must("POST", &format!("/devices/{device}/recordings"), Some(&json!({})));
    let recording = format!("/recordings/{}", text(&recording["recordingId"]));
    machine.becomes(&recording, "RECORDING");

    // Crashes.
    for name in [AGENT, CONTROLLER] {
        let before = machine.unit(name);
        machine.shell(&format!("kill -9 {}", before.pid()));
        let after = machine.began_anew(name, &before);
        assert_eq!(after.number("NRestarts"), 1);
    }
    has_all(&machine);
    assert_eq!(untouched(&machine), known, "after crashes");

    // An upgrade.
    let before = machine.unit(AGENT);
    machine.install();
    machine.systemctl("try-restart phonefleet-controller phonefleet-agent");
    machine.began_anew(AGENT, &before);
    has_all(&machine);
    assert_eq!(untouched(&machine), known, "after restarts");

    // What was recorded meanwhile is one whole video.
    machine.must("POST", &format!("{recording}/stop"), None);
    let video = machine.becomes(&recording, "FINAL");
    assert!(video["durationMs"].as_u64().is_some_and(|length| length > 0), "{video}");
    println!("recorded over a crash and a restart: {} ms, {} bytes", video["durationMs"], video["bytes"]);
    // The controller may not read the agent's files, and sends on to the agent.
    let bytes = machine.shell(&format!("curl -sSfL http://127.0.0.1:30002{recording}/content | wc -c"));
    assert_eq!(bytes, video["bytes"].to_string());

    // Hangs: whole processes, then one thread of each.
    let both = [AGENT, CONTROLLER];
    let before = both.map(|name| machine.unit(name));
    for unit in &before {
        machine.shell(&format!("kill -STOP {}", unit.pid()));
    }
    for (name, before) in both.into_iter().zip(&before) {
        let after = machine.began_anew(name, before);
        assert_eq!(after.number("NRestarts"), 1, "a restart by hand begins anew");
    }
    has_all(&machine);
    let before = both.map(|name| machine.unit(name));
    let wedged = both.map(|name| machine.wedge(name, "store-writer"));
    for (name, before) in both.into_iter().zip(&before) {
        let silent = machine.unit_is(name, "silent", |unit| {
            unit.get("StatusText").starts_with("no progress: store") || unit.pid() != before.pid()
        });
        println!("{name}: {}", silent.get("StatusText"));
    }
    wedged.into_iter().for_each(Wedged::died);
    for (name, before) in both.into_iter().zip(&before) {
        assert_eq!(machine.began_anew(name, before).number("NRestarts"), 2);
    }
    let journal = machine.journal();
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    has_all(&machine);
    assert_eq!(untouched(&machine), known, "after hangs");

    // Stopped for a while.
    machine.systemctl("stop phonefleet-agent phonefleet-controller");
    assert_eq!(machine.unit(AGENT).get("ActiveState"), "inactive", "not failed");
    assert_eq!(untouched(&machine), known, "phones need neither");
    start(&machine);
    assert_eq!(untouched(&machine), known, "after a stop");
    machine.becomes(&format!("/devices/{device}"), "RUNNING");
}

#[test]
fn a_machine_that_boots_again_has_its_phones_again() {
    let Some(machine) = Machine::boot("reboot") else { return };
    start(&machine);
    machine.systemctl("enable phonefleet-controller phonefleet-agent");
    let devices = ["runs", "stopped"].map(|name| format!("/devices/{}", phone(&machine, name)));
    let [runs, stopped] = &devices;
    machine.must("POST", &format!("{stopped}/stop"), None);
    machine.becomes(stopped, "STOPPED");
    let before = machine.must("GET", runs, None);

    for (number, how) in [Machine::reboot, Machine::cut_power].into_iter().enumerate() {
        how(&machine);
        has_all(&machine);
        let again = until("the phone is up again", PATIENCE, || {
            let now = machine.call("GET", runs, None)?;
            let starts = now["starts"].as_u64().unwrap_or(0) as usize;
            if now["status"] == "RUNNING" && starts == number + 2 { Ok(now) } else { Err(now.to_string()) }
        });
        assert_eq!(again["ports"], before["ports"], "{again}");
        assert_eq!(machine.must("GET", stopped, None)["status"], "STOPPED");
        let phones = machine.phones();
        assert_eq!(phones.lines().count(), 2, "nothing doubled: {phones}");
        assert_eq!(phones.lines().filter(|line| line.contains(" running ")).count(), 1, "{phones}");
        assert_eq!(machine.adb_servers().lines().count(), 1);
        for name in [AGENT, CONTROLLER] {
            assert_eq!(machine.unit(name).number("NRestarts"), 0, "{}", machine.journal());
        }
    }
    for device in &devices {
        machine.must("DELETE", device, None);
    }
    until("everything is gone", PATIENCE, || {
        let (phones, devices) = (machine.phones(), machine.call("GET", "/devices", None)?);
        let none = devices["items"].as_array().is_some_and(Vec::is_empty);
        if phones.is_empty() && none { Ok(()) } else { Err(format!("{phones} {devices}")) }
    });
    let left = machine.shell("ls -A /var/lib/phonefleet/phones");
    assert_eq!((left.as_str(), &machine.must("GET", "/ports/allocated", None)), ("", &json!([])));

    // Removed as systemd/README.md says.
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/README.md");
    let readme = std::fs::read_to_string(readme).expect("the page");
    let removal = readme.split("```\n").find(|block| block.starts_with("systemctl disable"));
    machine.shell(&format!("set -e\n{}", removal.expect("its commands")));
    assert_eq!(machine.adb_servers(), "");
    assert_eq!(machine.shell("find / -xdev -path /programs -prune -o -name '*phonefleet*' -print"), "");
}
