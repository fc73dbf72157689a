//! One recording after the other: every way to begin and to end.

use crate::scene::*;
use phonefleet_tests::real::http::Api;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{World, process_table, until};
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[test]
fn a_recording_from_its_order_to_its_last_byte() {
    if let Some(world) = world() {
        from_order_to_last_byte(&world);
    }
}

pub fn from_order_to_last_byte(world: &World) {
    let phone = world.phone("phone-1");
    let witness = world.witness(&phone);
    let recording = record(world, &phone, 60);
    recorded(world, &phone, &recording, 15_000);
    let processes = recorders(&recording);
    assert_eq!(processes.len(), 1);
    // A session of its own, which nobody's end can reach.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", processes[0])).expect("its stat");
    let fields: Vec<_> = stat.rsplit_once(')').expect("a stat").1.split_whitespace().collect();
    assert_eq!(fields[2], fields[3], "process group and session: {stat}");
    assert_eq!(fields[4], "0", "a terminal: {stat}");
    let problem = world.api.post(&format!("/devices/{}/recordings", phone.id), None).problem(409, "CONFLICT");
    assert_eq!(problem["recordingId"], recording.as_str());
    let asked = Instant::now();
    stop(world, &recording);
    let view = over(world, &recording, SOON);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}: {view}", asked.elapsed());
    assert_eq!(view["endCause"], "STOPPED", "{view}");
    assert_whole(world, &phone, &view);
    until_gone(world, &phone);

    // What a user gets.
    let content = world.api.call("GET", &format!("/recordings/{recording}/content"), None);
    assert_eq!(content.status, 200);
    assert_eq!(content.body, std::fs::read(kept(world, &phone, &recording)).expect("the file"));

    // Its time limit, noticed at once.
    let limited = record(world, &phone, 4);
    let view = over(world, &limited, SOON);
    assert_eq!(view["endCause"], "TIME_LIMIT", "{view}");
    assert_whole(world, &phone, &view);
    let (length, clock) =
        (view["durationMs"].as_u64(), milliseconds(&view, "endedAt") - milliseconds(&view, "startedAt"));
    assert!(length.is_some_and(|length| (3800..=4200).contains(&length)), "{view}");
    assert!((3900..5000).contains(&clock), "{clock}: {view}");
    assert_eq!(world.witness(&phone), witness);
    until_gone(world, &phone);
}

#[test]
fn a_users_own_recorder_is_left_alone() {
    if let Some(world) = world() {
        own_recorder_is_left_alone(world);
    }
}

pub fn own_recorder_is_left_alone(mut world: World) {
    let phone = world.phone("phone-1");
    world.adb.connect(&phone.address);
    let own = "/data/local/tmp/own.mp4";
    let begin = format!("setsid screenrecord --time-limit 100 {own} </dev/null >/dev/null 2>&1 &");
    world.adb.shell(&phone.address, &begin).expect("the user's recorder begins");
    let alive = || {
        process_table::processes().into_iter().any(|found| found.is("screenrecord") && found.mentions(own))
    };
    until("the user's recorder runs", SOON, || if alive() { Ok(()) } else { Err("not yet".to_owned()) });
    let recording = record(&world, &phone, 60);
    recorded(&world, &phone, &recording, 8_000);
    stop(&world, &recording);
    assert_whole(&world, &phone, &over(&world, &recording, SOON));
    // Nor does a new agent, which looks for recorders without a row, touch it.
    let orphan = record(&world, &phone, 170);
    recorded(&world, &phone, &orphan, 8_000);
    world.agent().kill();
    let state = world.host().state.clone();
    for entry in std::fs::read_dir(&state).expect("the agent's state").flatten() {
        if entry.file_name().to_string_lossy().starts_with("agent.db") {
            std::fs::remove_file(entry.path()).expect("a database file");
        }
    }
    world.agent().start_again();
    until("the recorder without a row is ended", Duration::from_secs(60), || {
        let left = recorders(&orphan);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    // Its video lies there for whoever comes for it: nobody has it yet.
    assert!(on_phone(&world, &phone, &orphan).join("video.mp4").exists());
    assert!(alive(), "the user's recorder was ended");
    let view = over(&world, &orphan, Duration::from_secs(60));
    assert_eq!(view["status"], "FAILED", "{view}");
    let metrics = world.host().local_api.call("GET", "/metrics", None).text();
    assert!(metrics.contains("phonefleet_agent_recordings_orphans_total 1"), "{metrics}");
}

#[test]
fn a_phone_that_is_stopped_rebooted_reset_or_deleted_lets_its_video_be_finished() {
    if let Some(world) = world() {
        video_is_finished_before_its_phone_ends(&world);
    }
}

pub fn video_is_finished_before_its_phone_ends(world: &World) {
    for verb in ["reboot", "reset", "stop", "delete"] {
        let phone = world.phone(&format!("phone-{verb}"));
        let recording = record(world, &phone, 170);
        recorded(world, &phone, &recording, 10_000);
        world.do_verb(&phone.id, verb);
        let view = over(world, &recording, SOON);
        let cause = text(&view["endCause"]);
        assert!(["STOPPED", "DEVICE_STOPPED"].contains(&cause.as_str()), "{verb}: {view}");
        assert_whole(world, &phone, &view);
        assert!(recorders(&recording).is_empty(), "{verb}");
        if verb != "delete" {
            world.do_verb(&phone.id, "delete");
        }
    }
    world.clean();
}

#[test]
fn a_phone_that_dies_is_told_at_once_and_its_bytes_are_kept() {
    if let Some(world) = world() {
        dead_phone_is_told_at_once(&world);
    }
}

pub fn dead_phone_is_told_at_once(world: &World) {
    let phone = world.phone("phone-1");
    // Nobody but an engine starts a phone again in one breath.
    for restarted in [false, true] {
        if restarted && world.host().processes.is_some() {
            continue;
        }
        let recording = record(world, &phone, 170);
        recorded(world, &phone, &recording, 10_000);
        let struck = Instant::now();
        if restarted {
            let restart = format!("/containers/phonefleet-{}/restart?t=0", phone.id);
            world.host().engine.must("POST", &restart, None);
        } else {
            kill_phone(world, &phone);
        }
        let view = over(world, &recording, SOON);
        assert_torn(world, &phone, &view, "DEVICE_DIED");
        if !restarted {
            assert!(struck.elapsed() < Duration::from_secs(3), "{:?}", struck.elapsed());
        }
        until("the phone runs again", Duration::from_secs(60), || {
            let device = world.device(&phone.id);
            let running: i64 =
                world.host().row("SELECT count(*) FROM device WHERE phase = 'running' AND booted = 1");
            let up = world.host().states().unwrap_or_default();
            let up = up.iter().any(|(_, state)| state == "running");
            if device["status"] == "RUNNING" && running == 1 && up { Ok(()) } else { Err(device.to_string()) }
        });
        // A phone that has just died is reached again in a moment.
        let next = until("a recording of the phone that came back", Duration::from_secs(60), || {
            let body = json!({ "maxDurationSeconds": 2 });
            let reply = world.api.post(&format!("/devices/{}/recordings", phone.id), Some(&body));
            if reply.status != 202 {
                return Err(reply.text());
            }
            let view = over(world, &text(&reply.data(202)["recordingId"]), SOON);
            if view["status"] == "FINAL" { Ok(view) } else { Err(view.to_string()) }
        });
        assert_whole(world, &phone, &next);
    }
    until_gone(world, &phone);
}

#[test]
fn recorders_that_fail_or_hang_end_with_the_true_reason() {
    if let Some(world) = world() {
        failing_recorders_are_told(&world);
    }
}

pub fn failing_recorders_are_told(world: &World) {
    let with = |fault: &str| world.phone_with(fault, &[&format!("androidboot.phonesim_fault={fault}")]);
    let refuses = with("record_refuse");
    let view = over(world, &record(world, &refuses, 20), SOON);
    assert_eq!(
        (&view["status"], &view["reason"]["code"]),
        (&json!("FAILED"), &json!("RECORDER_FAILED")),
        "{view}"
    );
    assert!(text(&view["reason"]["detail"]).contains("unable to create video/avc codec"), "{view}");
    let fails = with("record_fail");
    let view = over(world, &record(world, &fails, 20), SOON);
    assert_torn(world, &fails, &view, "PROCESS_ENDED");
    assert!(text(&view["reason"]["detail"]).contains("err=-38"), "{view}");
    let hangs = with("record_hang");
    let recording = record(world, &hangs, 170);
    recorded(world, &hangs, &recording, 1);
    let asked = Instant::now();
    stop(world, &recording);
    let view = over(world, &recording, Duration::from_secs(40));
    assert!((14..25).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    assert_torn(world, &hangs, &view, "STOPPED");
    assert!(text(&view["reason"]["detail"]).contains("killed"), "{view}");
    // One that hangs does not hold its phone up.
    let recording = record(world, &hangs, 170);
    recorded(world, &hangs, &recording, 1);
    let asked = Instant::now();
    world.do_verb(&hangs.id, "delete");
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    let view = over(world, &recording, SOON);
    assert_eq!(view["status"], "CORRUPT", "{view}");
}

#[test]
fn videos_are_served_by_their_host_to_whoever_the_controller_sends() {
    let address = SocketAddr::from(([127, 0, 0, 1], 26_990));
    let content = format!("[content]\nlisten = \"{address}\"\nadvertise_url = \"http://{address}\"");
    let Some(world) = world_with(&content) else { return };
    let phone = world.phone("phone-1");
    let recording = record(&world, &phone, 60);
    recorded(&world, &phone, &recording, 8_000);
    stop(&world, &recording);
    let view = over(&world, &recording, SOON);
    assert_whole(&world, &phone, &view);
    // As if the host were another machine.
    let mark = world.host().state.join("recordings/.phonefleet-host");
    std::fs::remove_file(&mark).expect("the mark");
    let reply = world.api.call("GET", &format!("/recordings/{recording}/content"), None);
    assert_eq!(reply.status, 307, "{}", reply.text());
    let location = reply.head.lines().find_map(|line| line.strip_prefix("location: ")).expect("a location");
    let path = location.trim().strip_prefix(&format!("http://{address}")).expect("the host's address");
    let host = Api { address };
    let video = host.call("GET", path, None);
    assert_eq!(video.status, 200, "{}", video.text());
    assert_eq!(video.body, std::fs::read(kept(&world, &phone, &recording)).expect("the file"));
    assert!(video.head.contains(&text(&view["sha256"])), "{}", video.head);
    assert_eq!(host.call("GET", &path.replace("expires=", "expires=1"), None).status, 403);
    assert_eq!(host.call("GET", &format!("/recordings/{recording}/content"), None).status, 403);
}
