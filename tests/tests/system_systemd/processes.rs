//! A host without a container engine: phones are processes of the agent's own unit, with the
//! drop-in that lets it make them.

use crate::machine::{AGENT, Machine, PATIENCE};
use crate::{assert_sound, has_all, phone, start, untouched};
use phonefleet_tests::real::until;
use phonefleet_tests::real::world::text;
use serde_json::json;

#[test]
fn phones_that_are_processes_outlive_their_agent_and_come_back_after_a_reboot() {
    let Some(machine) = Machine::boot_without_engine("processes") else { return };
    assert_sound(&machine, &[(AGENT, 3.5)]);
    start(&machine);
    machine.systemctl("enable phonefleet-controller phonefleet-agent");
    let device = phone(&machine, "first");
    phone(&machine, "second");
    let known = untouched(&machine);
    assert_eq!(known.0.lines().filter(|line| line.contains(" running ")).count(), 2, "{known:?}");
    let recording = machine.must("POST", &format!("/devices/{device}/recordings"), Some(&json!({})));
    let recording = format!("/recordings/{}", text(&recording["recordingId"]));
    machine.becomes(&recording, "RECORDING");

    // A crash, an upgrade, a hang, a stop.
    let before = machine.unit(AGENT);
    machine.shell(&format!("kill -9 {}", before.pid()));
    machine.began_anew(AGENT, &before);
    has_all(&machine);
    assert_eq!(untouched(&machine), known, "after a crash");
    let before = machine.unit(AGENT);
    machine.install();
    machine.systemctl("try-restart phonefleet-agent");
    machine.began_anew(AGENT, &before);
    has_all(&machine);
    assert_eq!(untouched(&machine), known, "after an upgrade");
    machine.must("POST", &format!("{recording}/stop"), None);
    let video = machine.becomes(&recording, "FINAL");
    assert!(video["durationMs"].as_u64().is_some_and(|length| length > 0), "{video}");
    let before = machine.unit(AGENT);
    machine.shell(&format!("kill -STOP {}", before.pid()));
    machine.began_anew(AGENT, &before);
    has_all(&machine);
    assert_eq!(untouched(&machine), known, "after a hang");
    machine.systemctl("stop phonefleet-agent");
    assert_eq!(machine.unit(AGENT).get("ActiveState"), "inactive", "not failed");
    assert_eq!(untouched(&machine), known, "phones need no agent");
    start(&machine);
    assert_eq!(untouched(&machine), known, "after a stop");

    // With the machine they end, and with it they are there again, each once.
    machine.reboot();
    has_all(&machine);
    let path = format!("/devices/{device}");
    until("the phone is up again", PATIENCE, || {
        let now = machine.call("GET", &path, None)?;
        if now["status"] == "RUNNING" && now["starts"] == 2 { Ok(()) } else { Err(now.to_string()) }
    });
    for id in machine.must("GET", "/devices", None)["items"].as_array().into_iter().flatten() {
        machine.must("DELETE", &format!("/devices/{}", text(&id["id"])), None);
    }
    until("everything is gone", PATIENCE, || {
        let (phones, devices) = (machine.phones(), machine.call("GET", "/devices", None)?);
        let none = devices["items"].as_array().is_some_and(Vec::is_empty);
        if phones.is_empty() && none { Ok(()) } else { Err(format!("{phones} {devices}")) }
    });
    assert_eq!(machine.shell("pgrep -x phonesim || true"), "");
    assert_eq!(machine.must("GET", "/ports/allocated", None), json!([]));
}
