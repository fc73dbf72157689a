//! The operator's command on real parts: a phone is ordered, recorded, explained and removed
//! with `phonefleet` alone, and what goes wrong is told so that an operator understands it.

use phonefleet_tests::real::program::built;
use phonefleet_tests::real::{HostOptions, World, WorldOptions, until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Another range of ports than the tests beside this one have.
const FIRST_PORT: u16 = 27_000;

fn world(boot_timeout_seconds: u64) -> Option<World> {
    let mut world = World::without_hosts(&WorldOptions::default())?;
    world.add_host(&HostOptions { first_port: FIRST_PORT, boot_timeout_seconds, ..HostOptions::default() });
    Some(world)
}

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(built("phonefleet"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", &world.folder)
        .env("PHONEFLEET_CONTROLLER", format!("http://{}", world.api.address))
        .env("PHONEFLEET_AGENT", format!("http://{}", world.host().local_api.address))
        .env("PHONEFLEET_USER", "alice")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What it printed, if it ended with this code: standard output, and standard error.
#[track_caller]
fn ended(world: &World, code: i32, arguments: &[&str]) -> (String, String) {
    let output = command(world, arguments).output().expect("the program runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    (out.into_owned(), err.into_owned())
}

#[track_caller]
fn ok(world: &World, arguments: &[&str]) -> String {
    ended(world, 0, arguments).0
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

const SMALL: [&str; 5] =
    ["--memory=64", "--cpu=0.1", "--boot-arg", "androidboot.phonesim_boot_ms=500", "--wait"];

#[test]
fn the_main_job_by_hand() {
    let Some(world) = world(60) else { return };
    let (out, told) = ended(&world, 0, &[&["device", "create", "pixel"][..], &SMALL].concat());
    has(&told, &["it begins with ALLOCATE_PORTS", "START_DEVICE is done", "it ends COMPLETED"]);
    has(&out, &["device pixel (", "is RUNNING; adb connect 127.0.0.1:27000\n"]);
    has(
        &ok(&world, &["health"]),
        &["ready:      yes\n", "hosts:      1 ONLINE\n", "devices:    1 RUNNING\n"],
    );
    has(&ok(&world, &["device", "explain", "pixel"]), &["it has booted and answers", "Use it: adb connect"]);

    // A video, from the order to a file that a player takes.
    let started: Value =
        serde_json::from_str(&ok(&world, &["recording", "start", "pixel", "-o", "json"])).expect("JSON");
    assert_eq!(started["recording"]["status"], "STARTING", "{started}");
    let (_, conflict) = ended(&world, 4, &["recording", "start", "pixel"]);
    has(&conflict, &["end it: phonefleet recording stop"]);
    until("it records", Duration::from_secs(20), || {
        let list = ok(&world, &["recording", "list", "--active"]);
        if list.contains(" RECORDING ") { Ok(()) } else { Err(list) }
    });
    has(&ok(&world, &["recording", "stop", "pixel", "--wait"]), &["is FINAL\n"]);
    let file = world.folder.join("video.mp4");
    ok(&world, &["recording", "download", "pixel", "--to", text(&file)]);
    let probe = Command::new("ffprobe").args(["-v", "error", text(&file)]).output().expect("ffprobe runs");
    assert!(probe.status.success(), "{}", String::from_utf8_lossy(&probe.stderr));

    for verb in ["stop", "start", "reboot"] {
        ok(&world, &["device", verb, "pixel", "--wait"]);
    }
    assert_eq!(ok(&world, &["orphan", "list"]), "no orphans\n");
    has(&ok(&world, &["device", "delete", "pixel", "--wait"]), &["is DELETED\n"]);
    assert_eq!(ok(&world, &["port", "list"]), "no ports are leased\n");
    ended(&world, 3, &["device", "get", "pixel"]);
    world.clean();
}

#[test]
fn a_phone_that_does_not_boot_is_explained() {
    let Some(world) = world(4) else { return };
    let fault = ["--boot-arg", "androidboot.phonesim_fault=boot_hang"];
    let (_, told) = ended(&world, 1, &[&["device", "create", "pixel"][..], &SMALL, &fault].concat());
    has(
        &told,
        &["START_DEVICE failed (BOOT_TIMEOUT", "it ends COMPENSATED", "phonefleet saga explain saga_"],
    );
    let saga = told.rsplit("phonefleet saga explain ").next().expect("a saga").trim();
    has(
        &ok(&world, &["saga", "explain", saga]),
        &[
            "creates device pixel of alice",
            "START_DEVICE failed, and everything is undone: BOOT_TIMEOUT",
            "look at the container's log on the host",
            "nothing of it is left",
        ],
    );
    world.clean();
}

#[test]
fn daemons_that_die_while_a_command_waits_do_not_end_the_wait() {
    let Some(mut world) = world(60) else { return };
    world.agent().kill();
    let arguments = [&["device", "create", "pixel"][..], &SMALL].concat();
    let (_, told) = ended(&world, 7, &[&arguments[..], &["--wait-timeout", "2s"]].concat());
    has(&told, &["no end within 2 s", "the saga goes on"]);
    has(&ok(&world, &["saga", "explain", "pixel"]), &["It waits for its host's answer", "last heard "]);

    let mut child = command(&world, &["device", "delete", "pixel", "--wait"]).spawn().expect("it starts");
    let mut told =
        BufReader::new(child.stderr.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    let mut until_told = |part: &str| {
        let found = told.any(|line| line.contains(part));
        assert!(found, "{part:?} was not told before the end");
    };
    until_told("it begins with CANCEL_ACTIVE_SAGA");
    world.controller.kill();
    until_told("still waiting: ");
    let (_, away) = ended(&world, 6, &["device", "list"]);
    has(&away, &["cannot be reached", "refused"]);
    world.controller.start_again();
    until_told("the controller is back");
    world.agent().start_again();
    until_told("it ends COMPLETED");
    let output = child.wait_with_output().expect("it ends");
    has(&String::from_utf8_lossy(&output.stdout), &["is DELETED"]);
    assert!(output.status.success(), "{output:?}");
    world.clean();
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}
