//! `phonefleet host`, `port`, `quota`, `orphan` and `health`.

use crate::fixture::{Ran, Served};
use crate::trouble::{answer, server};
use serde_json::json;

#[test]
fn hosts_are_listed_cordoned_and_forgotten() {
    let served = Served::new();
    served.add_host("host-2");
    served.order("alice", "pixel");
    let text = served.run(&["host", "list"]).ok();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..5], ["host-1", "ONLINE", "1/3", "2/-", "4096/-"]);
    assert_eq!(lines[2][..3], ["host-2", "ONLINE", "0/3"]);
    let text = served.run(&["host", "cordon", "host-1", "host-2"]).ok();
    assert_eq!(text, "host host-1 takes no new devices\nhost host-2 takes no new devices\n");
    assert!(served.run(&["host", "get", "host-1"]).ok().contains("status:         ONLINE (cordoned)\n"));
    served.run(&["device", "create", "b", "-u", "alice"]).failed(5);
    assert_eq!(served.run(&["host", "uncordon", "host-1", "-o", "json"]).json()["cordoned"], false);
    let error = served.run(&["host", "forget", "host-2"]).failed(4);
    assert!(error.contains("CONFLICT"), "{error}");
    served.sql("UPDATE host SET online = 0, last_seen_at = 1 WHERE host_id = 'host-1'");
    let text = served.run(&["host", "forget", "host-1"]).ok();
    assert_eq!(text, "host host-1: 1 devices were given up\n");
    assert!(served.run(&["host", "get", "nowhere"]).failed(3).contains("HOST_NOT_FOUND"));
    assert!(served.run(&["host", "get", "../devices"]).failed(3).contains("HOST_NOT_FOUND"));
}

#[test]
fn ports_of_devices_are_listed() {
    let served = Served::new();
    assert_eq!(served.run(&["port", "list"]).ok(), "no ports are leased\n");
    let (device, _) = served.order("alice", "pixel");
    served.settle();
    let text = served.run(&["port", "list", "--host", "host-1"]).ok();
    assert_eq!(
        text,
        format!(
            "HOST    PORT   KIND    DEVICE\n\
             host-1  20000  adb     {device}\n\
             host-1  21000  webrtc  {device}\n"
        )
    );
    assert_eq!(served.run(&["port", "list", "--host", "host-9", "-o", "json"]).json(), json!([]));
}

#[test]
fn quota_is_shown_and_changed() {
    let served = Served::new();
    let text = served.run(&["quota", "get", "alice"]).ok();
    let line: Vec<_> = text.lines().nth(2).unwrap().split_whitespace().collect();
    assert!(text.starts_with("user alice\nLIMIT ") && line == ["devices", "5"], "{text}");
    let set =
        ["quota", "set", "-u", "alice", "--max-devices", "unlimited", "--total-cpu", "7.5", "-o", "json"];
    let limits = served.run(&set).json();
    assert_eq!((&limits["maxDevices"], &limits["totalCpuCores"]), (&json!(null), &json!(7.5)));
    served.order("alice", "pixel");
    let text = served.run(&["quota", "usage", "alice"]).ok();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (&lines[2][..], &lines[4][..]),
        (&["devices", "1", "unlimited"][..], &["processors", "2", "7.5"][..])
    );
    assert_eq!(served.run(&["quota", "reset", "alice", "-o", "json"]).json()["maxDevices"], 5);
    assert!(served.run(&["quota", "set", "alice"]).failed(2).contains("--max-devices 10"));
    served.run(&["quota", "set", "alice", "--max-devices", "many"]).failed(2);
    assert!(served.run(&["quota", "usage"]).failed(2).contains("--user USER"));
    let error = served.run(&["quota", "set", "alice", "--total-cpu", "-1"]).failed(2);
    assert!(!error.is_empty());
    let error = served.run(&["quota", "set", "alice", "--total-cpu=-1"]).failed(2);
    assert!(error.contains("[--total-cpu]"), "{error}");
}

#[test]
fn orphans_are_what_the_controller_knows_where_no_agent_is() {
    let served = Served::new();
    let ran = served.run(&["orphan", "list"]);
    assert!(ran.err.contains("this machine's agent is left out (--no-agent): http://127.0.0.1:9"), "{ran:?}");
    assert_eq!(ran.ok(), "no orphans\n");
    let (id, _) = served.order("alice", "pixel");
    served.sql("UPDATE device SET status = 'PARKED'");
    let text = served.run(&["orphan", "list", "--no-agent"]).ok();
    let line = text.lines().nth(1).unwrap();
    assert!(line.starts_with("controller  host-1  parked  pixel ") && line.contains(&id), "{text}");
}

#[test]
fn orphans_are_also_what_the_agent_finds() {
    let served = Served::new();
    let (agent, heads) = server(|_, _, stream| {
        let body = r#"{"at":"2025-11-21T11:00:00.000Z","removed":{},"fault":"the engine sleeps","orphans":[
            {"kind":"port","what":"20001","why":"published by web","removing":false},
            {"kind":"data","what":"0199","device":"0199","why":"of a device that is gone","removing":true}]}"#;
        answer(stream, "200 OK", body);
    });
    let run = |arguments: &[&str]| {
        Ran::of(&served.program.command(arguments).args(["--agent", &agent]).output().unwrap())
    };
    let ran = run(&["orphan", "list"]);
    assert_eq!(ran.err, "the agent could not look at everything: the engine sleeps\n");
    assert_eq!(
        ran.ok(),
        "TOLD BY  HOST          KIND  WHAT   DETAIL\n\
         agent    this machine  port  20001  published by web\n\
         agent    this machine  data  0199   of a device that is gone (being removed)\n"
    );
    assert!(heads.recv().unwrap().starts_with("GET /orphans HTTP/1.1\r\n"));
    assert_eq!(run(&["orphan", "list", "-o", "json"]).json()["agent"]["orphans"][0]["what"], "20001");
}

#[test]
fn health_says_what_is_missing() {
    let served = Served::new();
    served.order("alice", "pixel");
    let ran = served.run(&["health"]);
    assert!(ran.out.contains("ready:      NO\nbecause:    no connection to the MQTT broker"), "{ran:?}");
    assert!(ran.out.contains("devices:    1 CREATING\nopen sagas: 1 RUNNING\n"), "{ran:?}");
    assert_eq!(ran.failed(1), "phonefleet: the controller is not ready\n");
}
