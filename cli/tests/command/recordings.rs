//! `phonefleet recording`: orders over the API; videos from a host that serves them itself.

use crate::fixture::{Ran, Served};
use ring::digest::{SHA256, digest};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_phone_is_recorded_and_the_recording_ended() {
    let served = Served::new();
    let (device, _) = served.order("alice", "pixel");
    assert!(
        served.run(&["recording", "start", "pixel"]).failed(4).contains("follow it: phonefleet saga events")
    );
    served.settle();
    let error = served.run(&["recording", "start", "pixel", "--duration", "1h"]).failed(2);
    assert!(error.contains("[--duration]"), "{error}");
    let error = served.run(&["recording", "start", "pixel", "--size", "huge"]).failed(2);
    assert!(error.contains("[--size]"), "{error}");
    assert!(served.run(&["recording", "stop", "pixel"]).failed(3).contains("device pixel has no recording"));

    let start =
        ["recording", "start", "pixel", "--duration", "1500ms", "--bit-rate", "1000000", "-o", "json"];
    let started = served.run(&start).json();
    let id = started["recordingId"].as_str().unwrap();
    assert_eq!(
        started["recording"]["spec"],
        json!({"maxDurationSeconds": 2, "bitRate": 1_000_000, "size": null})
    );
    let error = served.run(&["recording", "start", &device]).failed(4);
    assert!(error.contains(&format!("end it: phonefleet recording stop {id}")), "{error}");
    let text = served.run(&["recording", "list", "--active"]).ok();
    assert!(text.contains(&format!("{id}  STARTING  host-1")), "{text}");
    assert!(text.ends_with("in the fleet: 1 active, 0 orphans\n"), "{text}");
    assert_eq!(served.run(&["recording", "get", "pixel", "-o", "json"]).json()["id"], id);
    let error = served.run(&["recording", "download", id]).failed(4);
    assert!(error.contains("not ended"), "{error}");
    assert_eq!(served.run(&["recording", "stop", "pixel"]).ok(), format!("recording {id} is STOPPING\n"));
    served.run(&["recording", "stop", id]).ok();
    let text = served.run(&["recording", "list", "--device", "pixel", "--status", "final"]).ok();
    assert!(text.starts_with("no recordings; make one"), "{text}");

    assert!(served.run(&["recording", "delete", id]).failed(4).contains("has not ended"));
    assert!(served.run(&["recording", "delete", "pixel"]).failed(3).contains("no such recording"));
    served.sql("UPDATE recording SET status = 'FINAL', phase = 'final', over_at = 5, bytes = 2048");
    let text = served.run(&["recording", "delete", id]).ok();
    assert_eq!(text, format!("recording {id} has no video any more\n"));
    assert!(served.run(&["recording", "get", id]).ok().contains("its video was deleted\n"));
    assert_eq!(served.run(&["recording", "rm", id, "-o", "json"]).json()["recording"]["deleted"], true);
    assert!(served.run(&["recording", "download", id]).failed(3).contains("deleted"));
}

#[test]
fn waiting_for_a_recording_ends_with_it() {
    let served = Served::new();
    served.order("alice", "pixel");
    served.settle();
    let until_listed = || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while served.run(&["recording", "list", "--active", "-o", "json"]).json() == json!([]) {
            assert!(Instant::now() < deadline, "no recording is ordered");
        }
    };
    let child = served.program.start(&["recording", "start", "pixel", "--wait"]);
    until_listed();
    served.sql(
        "UPDATE recording SET status = 'FINAL', phase = 'final', over_at = 5, bytes = 2048, duration_ms = 61000",
    );
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert!(ran.err.contains(" is STARTING\n") && ran.err.contains(" is FINAL\n"), "{ran:?}");
    let text = ran.ok();
    assert!(text.contains("length:   1m 1s\n") && text.contains("size:     2.0 KiB\n"), "{text}");

    let child = served.program.start(&["recording", "start", "pixel", "--wait"]);
    until_listed();
    served.sql(
        "UPDATE recording SET status = 'FAILED', phase = 'failed', over_at = 5, reason_code = 'DISK_FULL',
            reason_detail = 'no space' WHERE over_at IS NULL",
    );
    let error = Ran::of(&child.wait_with_output().unwrap()).failed(1);
    assert!(error.contains("is FAILED: DISK_FULL: no space"), "{error}");
}

/// How a host serves: the bytes that a connection gives before it breaks, if it does.
struct Serving {
    video: Vec<u8>,
    breaks: Vec<usize>,
    ranges: bool,
}

/// A host's content listener, each connection one answer; the heads of calls are told.
fn content_server(serving: Serving) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 1 << 16];
            let count = stream.read(&mut head).unwrap();
            let head = String::from_utf8_lossy(&head[..count]).to_ascii_lowercase();
            let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
            let from = range.filter(|_| serving.ranges).map_or(0, |from| from.parse().unwrap());
            let rest = &serving.video[from..];
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let length = rest.len();
            let sent = serving.breaks.get(number).map_or(rest, |count| &rest[..*count]);
            // The client may have given up.
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\netag: \"tag\"\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(sent);
            if tell.send(head).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// A controller with one recording of that video, kept by a host that serves it at `url`.
fn recorded(served: &Served, video: &[u8], url: &str) -> String {
    served.order("alice", "pixel");
    served.settle();
    let started = served.run(&["recording", "start", "pixel", "-o", "json"]).json();
    let mut hash = String::new();
    for byte in digest(&SHA256, video).as_ref() {
        write!(hash, "{byte:02x}").unwrap();
    }
    let access = json!({"url": url, "key": "ab".repeat(32)});
    served.sql(format!(
        "UPDATE recording SET status = 'FINAL', phase = 'final', over_at = 5, sha256 = '{hash}';
         UPDATE host SET report = json_set(report, '$.content', json('{access}'))"
    ));
    started["recordingId"].as_str().unwrap().to_owned()
}

fn files(served: &Served) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(served.program.home.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into()).collect()
}

fn video() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_video_is_fetched_from_its_host_also_in_pieces() {
    let served = Served::new();
    let (url, heads) =
        content_server(Serving { video: video(), breaks: vec![1000, 0, 500_000], ranges: true });
    let id = recorded(&served, &video(), &url);
    let ran = served.run(&["recording", "download", "pixel"]);
    assert!(ran.err.contains("the connection broke at 1000 B"), "{ran:?}");
    assert_eq!(ran.ok(), format!("{id}.mp4: 1.1 MiB\n"));
    assert_eq!(files(&served), [PathBuf::from(format!("{id}.mp4"))]);
    assert!(std::fs::read(served.program.home.path().join(format!("{id}.mp4"))).unwrap() == video());
    let heads: Vec<String> = heads.try_iter().collect();
    assert!(heads[0].starts_with(&format!("get /recordings/{id}/content?expires=")), "{heads:?}");
    assert!(!heads[0].contains("range:") && heads[1].contains("range: bytes=1000-"), "{heads:?}");
    assert!(heads[1].contains("if-range: \"tag\"") && heads[3].contains("range: bytes=501000-"), "{heads:?}");

    let error = served.run(&["recording", "download", &id]).failed(2);
    assert!(error.contains("exists; replace it: --force"), "{error}");
    let ran =
        served.run(&["recording", "download", &id, "--force", "--to", "other.mp4", "-o", "json"]).json();
    assert_eq!((&ran["file"], &ran["bytes"]), (&json!("other.mp4"), &json!(1_200_000)));
    let output = served.program.command(&["recording", "download", &id, "--to", "-"]).output().unwrap();
    assert!(output.status.success() && output.stdout == video());
}

#[test]
fn a_video_that_cannot_be_continued_is_begun_again() {
    let served = Served::new();
    let (url, _heads) = content_server(Serving { video: video(), breaks: vec![70_000], ranges: false });
    let id = recorded(&served, &video(), &url);
    served.run(&["recording", "download", &id]).ok();
    assert!(std::fs::read(served.program.home.path().join(format!("{id}.mp4"))).unwrap() == video());
}

#[test]
fn what_is_not_the_video_is_not_kept() {
    let served = Served::new();
    let (url, _heads) = content_server(Serving { video: vec![0; 100], breaks: vec![], ranges: true });
    let id = recorded(&served, &video(), &url);
    let error = served.run(&["recording", "download", &id]).failed(1);
    assert!(error.contains("is not the video that the host has"), "{error}");
    assert!(files(&served).is_empty());
}

#[test]
fn a_host_that_always_breaks_off_is_given_up() {
    let served = Served::new();
    let (url, _heads) = content_server(Serving { video: video(), breaks: vec![0; 100], ranges: true });
    let id = recorded(&served, &video(), &url);
    let error = served.run(&["recording", "download", &id]).failed(6);
    assert!(error.contains("broke off again and again"), "{error}");
    served.sql("UPDATE host SET report = json_set(report, '$.content.url', 'https://127.0.0.1:9')");
    let error = served.run(&["recording", "download", &id]).failed(1);
    assert!(error.contains("curl -LO http://127.0.0.1:"), "{error}");
    assert!(files(&served).is_empty());
}
