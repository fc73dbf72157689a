//! Agent, adb server, controller and broker are killed and replaced: recordings go on, and the
//! agent that comes back finishes them.

use crate::scene::*;
use phonefleet_tests::real::{World, until};
use serde_json::json;
use std::time::Duration;

#[test]
fn whoever_is_replaced_a_recording_goes_on_and_is_finished() {
    if let Some(world) = world() {
        all_at_once(world);
    }
}

pub fn all_at_once(mut world: World) {
    let phone = world.phone("phone-1");
    let recording = record(&world, &phone, 170);
    recorded(&world, &phone, &recording, 5_000);
    let recorder = recorders(&recording);
    assert_eq!(recorder.len(), 1);
    let before = view(&world, &recording);

    // As the list shows it, with the size of the host's heartbeat.
    let list = until("its size in the list", Duration::from_secs(40), || {
        let list = world.api.get("/recordings?active=true");
        if list["items"][0]["bytes"].as_u64() > Some(0) { Ok(list) } else { Err(list.to_string()) }
    });
    assert_eq!((&list["items"][0]["id"], &list["items"][1]), (&json!(recording), &json!(null)), "{list}");
    assert!(list["items"][0]["ageSeconds"].as_u64() >= Some(1), "{list}");
    let summary = json!({ "active": 1, "orphans": 0, "meanDurationSeconds": null });
    assert_eq!(list["summary"], summary, "{list}");

    // Nobody is left but the phone.
    let file = on_phone(&world, &phone, &recording).join("video.mp4");
    let size = || std::fs::metadata(&file).map_or(0, |about| about.len());
    world.agent().kill();
    kill_adb_server(&world);
    world.controller.kill();
    world.broker.kill();
    let then = size();
    until("the file grows", SOON, || {
        if size() > then + 10_000 { Ok(()) } else { Err(format!("{then}, {}", size())) }
    });
    world.broker.start_again();
    world.controller.start_again();
    world.agent().start_again();
    world.until_ready();
    world.until_online(&world.host().id);
    until("it is adopted", Duration::from_secs(40), || {
        let metrics = world.host().local_api.try_call("GET", "/metrics", None, None);
        let metrics = metrics.map(|reply| reply.text()).unwrap_or_default();
        let active = metrics.contains("phonefleet_agent_recordings_active{phase=\"recording\"} 1");
        let view = view(&world, &recording);
        if active && view["status"] == "RECORDING" { Ok(()) } else { Err(view.to_string()) }
    });
    assert_eq!(recorders(&recording), recorder, "the same process");
    let orders = format!("/devices/{}/recordings", phone.id);
    let problem = world.api.post(&orders, None).problem(409, "CONFLICT");
    assert_eq!(problem["recordingId"], recording.as_str());
    stop(&world, &recording);
    let view = over(&world, &recording, SOON);
    assert_eq!((&view["endCause"], &view["startedAt"]), (&json!("STOPPED"), &before["startedAt"]), "{view}");
    assert_whole(&world, &phone, &view);

    // One that comes to its end while its agent is away, and its phone with it.
    let limited = record(&world, &phone, 4);
    recorded(&world, &phone, &limited, 1);
    world.agent().kill();
    until("it has ended", SOON, || {
        let left = recorders(&limited);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    // What is late is how late that was found, and not when it ended.
    std::thread::sleep(Duration::from_millis(CLOCK_SLACK_MS * 2));
    world.agent().start_again();
    let view = over(&world, &limited, Duration::from_secs(40));
    assert_eq!(view["endCause"], "TIME_LIMIT", "{view}");
    assert_whole(&world, &phone, &view);

    until_gone(&world, &phone);
    let list = world.api.get("/recordings?active=true");
    assert_eq!(list["items"], json!([]), "{list}");
    assert_eq!((&list["summary"]["active"], &list["summary"]["orphans"]), (&json!(0), &json!(0)), "{list}");
    assert!(list["summary"]["meanDurationSeconds"].as_f64() > Some(4.0), "{list}");
    world.do_verb(&phone.id, "delete");
    world.clean();
}
