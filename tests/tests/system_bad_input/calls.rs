//! HTTP that is late, too much, or nasty.

use crate::stranger::{all_is_well, rows, unchanged};
use phonefleet_tests::real::http::{Api, Reply, parse};
use phonefleet_tests::real::{HostOptions, World, WorldOptions};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// No answer, however bad the call, takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends bytes as they are, and waits for the answer and its end.
fn talk(api: Api, head: &str, body: &[u8]) -> Reply {
    let began = Instant::now();
    let mut stream = TcpStream::connect(api.address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let head = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n");
    stream.write_all(head.as_bytes()).expect("a head");
    // It may be refused, and the connection be closed, before all of it is sent.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(began.elapsed() < PATIENCE, "no end: {read:?} {}", String::from_utf8_lossy(&answer));
    parse(&answer).unwrap_or_else(|| panic!("{read:?}: {}", String::from_utf8_lossy(&answer)))
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn bad_calls_are_answered_in_time_and_change_nothing() {
    let options = WorldOptions { max_devices: 2, ..WorldOptions::default() };
    let Some(mut world) = World::without_hosts(&options) else { return };
    world.add_host(&HostOptions::default());
    let api = world.api;
    world.at_rest();
    let before = rows(&world);

    // Late: a body that is announced and does not come, or not all of it.
    std::thread::scope(|scope| {
        for announced in [
            "Content-Length: 100\r\n\r\n",
            "Content-Length: 100\r\n\r\n{\"name\":",
            "Transfer-Encoding: chunked\r\n\r\n4\r\n{\"na",
        ] {
            let late = [JSON, announced].concat();
            scope.spawn(move || {
                talk(api, "POST /devices HTTP/1.1", late.as_bytes()).problem(408, "REQUEST_TIMEOUT");
            });
        }
    });
    // Too much, announced and in pieces.
    let much = [JSON, "Content-Length: 9999999999\r\n\r\n"].concat();
    talk(api, "POST /devices HTTP/1.1", much.as_bytes()).problem(413, "PAYLOAD_TOO_LARGE");
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let pieces = [JSON, "Transfer-Encoding: chunked\r\n\r\n", &piece.repeat(8), "0\r\n\r\n"].concat();
    talk(api, "POST /devices/batch HTTP/1.1", pieces.as_bytes()).problem(413, "PAYLOAD_TOO_LARGE");
    // Heads that cannot be.
    for (head, rest, statuses) in [
        ("GET /devices HTTP/9.9", String::new(), &[400][..]),
        ("\0\0\0\0", String::new(), &[400]),
        ("GET /devices\0 HTTP/1.1", String::new(), &[400]),
        ("GET /devices HTTP/1.1", "X: y\r\n".repeat(500), &[431]),
        ("GET /devices HTTP/1.1", format!("X: {}\r\n", "y".repeat(1_000_000)), &[431]),
        ("GET /devices HTTP/1.1", "Host: evil.example\r\n".to_owned(), &[403]),
        ("POST /devices HTTP/1.1", "Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(), &[400]),
        ("POST /devices HTTP/1.1", "Content-Length: -1\r\n".to_owned(), &[400]),
        ("BREW /devices HTTP/1.1", String::new(), &[405]),
        ("GET /etc/../../passwd HTTP/1.1", String::new(), &[404]),
    ] {
        let reply = talk(api, head, format!("{rest}\r\n").as_bytes());
        assert!(statuses.contains(&reply.status), "{head}: {} {}", reply.status, reply.text());
    }
    nasty_words(api);
    nasty_ids(api);
    unchanged(&world, &before);

    // Images that the host does not allow, whatever they are called.
    for image in ["phonefleet/evil:1", "phonefleet/phonesim:dev2", "localhost/phonefleet/phonesim:dev"] {
        let mut order = World::order_body("phone-1", &[]);
        order["image"] = json!(image);
        let refusal = api.post("/devices", Some(&order)).problem(400, "INVALID_SPEC");
        assert_eq!(refusal["pointer"], "/image", "{refusal}");
    }
    unchanged(&world, &before);
    // What looks like a shell's is a text all the way down to the phone.
    let value = "$(reboot);`id`|&<>'\"\\*?[x]{a,b}!#~%00../..";
    let phone = world.phone_with("text", &[&format!("androidboot.nasty={value}")]);
    assert_eq!(world.getprop(&phone, "ro.boot.nasty"), value);
    world.do_verb(&phone.id, "delete");
    all_is_well(&world, "after-all");
    let log = world.controller.output();
    assert!(!log.contains("panicked") && !log.contains(" ERROR "), "{}", world.controller.last_lines(60));
}

fn words() -> Vec<String> {
    let long = "n".repeat(200_000);
    [
        "\0",
        "a\u{0}b",
        "\u{1b}[2J",
        "a\r\nb",
        "\u{202e}abc",
        "\u{feff}a",
        "\u{1f4f1}",
        "é",
        "$(reboot)",
        "`id`",
        "a;b",
        "a|b",
        "a'b",
        "a\"b",
        "' OR 1=1 --",
        "'); DROP TABLE device;--",
        "../../etc/passwd",
        "..",
        "%00",
        "%2e%2e%2f",
        "{{7*7}}",
        "<script>",
        "-rf",
        "--privileged",
        " a",
        "a ",
        "",
        &long,
    ]
    .map(str::to_owned)
    .into()
}

/// Names of every nasty kind, in every place that takes one.
fn nasty_words(api: Api) {
    for word in words() {
        let places: [(&str, Value, &str); 5] = [
            ("name", json!(word), "/name"),
            ("image", json!(word), "/image"),
            ("userId", json!(word), "/userId"),
            ("hostId", json!(word), "/hostId"),
            ("bootArgs", json!([format!("androidboot.{word}=1")]), "/bootArgs"),
        ];
        // A user may be called "--privileged", for all it matters: that is never a command.
        let only_text = ["-rf", "--privileged", ".."].contains(&word.as_str());
        for (field, value, pointer) in places.into_iter().take(if only_text { 2 } else { 5 }) {
            let mut order = World::order_body("phone-1", &[]);
            order[field] = value;
            let reply = api.post("/devices", Some(&order));
            let refusal = reply.problem(400, "INVALID_SPEC");
            let at = refusal["pointer"].as_str();
            assert!(at.is_some_and(|at| at.starts_with(pointer)), "{field}: {refusal}");
            assert!(reply.body.len() < 5000, "{field}: a refusal must not give back what was sent");
        }
    }
    let labels = [
        json!({"a": "\u{0}"}),
        json!({"": ""}),
        json!({"k".repeat(64): ""}),
        json!({"a": "v".repeat(100_000)}),
    ];
    for label in labels {
        let mut order = World::order_body("phone-1", &[]);
        order["labels"] = label;
        api.post("/devices", Some(&order)).problem(400, "INVALID_SPEC");
    }
}

/// Ids that cannot be, in every path that has one.
fn nasty_ids(api: Api) {
    for id in ["%00", "%ff", "..%2f..%2fetc", "%F0%9F%93%B1", "'%20OR%201=1", "0", &"a".repeat(5000)] {
        for (method, path) in [
            ("GET", format!("/devices/{id}")),
            ("DELETE", format!("/devices/{id}")),
            ("POST", format!("/devices/{id}/reset")),
            ("GET", format!("/hosts/{}", id.replace('0', "A"))),
            ("POST", format!("/hosts/{}/forget", id.replace('0', "A"))),
            ("GET", format!("/sagas/{id}/events")),
            ("POST", format!("/sagas/{id}/compensate")),
        ] {
            let reply = api.try_call(method, &path, None, None).expect("an answer");
            assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text());
            assert!(reply.head.contains("content-type: application/problem+json"), "{}", reply.head);
        }
    }
    for (method, path) in
        [("GET", "/quotas/%00"), ("PUT", "/quotas/a%20b"), ("DELETE", "/quotas/%F0%9F%93%B1")]
    {
        let body = (method == "PUT").then(|| json!({}));
        let reply = api.try_call(method, path, None, body.as_ref()).expect("an answer");
        reply.problem(400, "INVALID_QUERY");
    }
}
