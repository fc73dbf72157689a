//! Controllers that are away, slow, or none at all.

use crate::fixture::{Program, Ran, Served};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A server that gives each connection to `answer`, with the head (and what came with it)
/// of its first request. The heads are told too.
pub fn server(answer: impl Fn(usize, &str, &mut TcpStream) + Send + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 1 << 16];
            let Ok(count) = stream.read(&mut head) else { continue };
            let head = String::from_utf8_lossy(&head[..count]).into_owned();
            answer(number, &head, &mut stream);
            if tell.send(head).is_err() {
                return;
            }
        }
    });
    (address, told)
}

pub fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    // The client may have gone; its own test says what it should have seen.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn key(head: &str) -> String {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("idempotency-key: "));
    line.and_then(|line| line.split_once(": ")).map(|(_, key)| key.to_owned()).unwrap_or_default()
}

#[test]
fn nobody_there() {
    let program = Program::new("http://127.0.0.1:9");
    let error = program.run(&["device", "list"]).failed(6);
    assert!(error.starts_with("phonefleet: http://127.0.0.1:9 cannot be reached: "), "{error}");
    assert!(error.contains("refused") && error.contains("phonefleet config show"), "{error}");
    // A POST whose answer may have got lost tells its key.
    let error = program.run(&["device", "create", "a", "-u", "alice"]).failed(6);
    assert!(error.contains("\n  --idempotency-key "), "{error}");
    program.run(&["device", "list", "--controller", "https://127.0.0.1:9"]).failed(2);
}

#[test]
fn an_answer_that_got_lost_is_asked_for_again_with_the_same_key() {
    let (address, heads) = server(|number, _, stream| {
        // The first connections end without an answer.
        if number >= 2 {
            let body = r#"{"success":true,"data":{"sagaId":"saga_1_a","device":{"id":"1","name":"a","status":"CREATING"}}}"#;
            answer(stream, "202 Accepted", body);
        }
    });
    let text = Program::new(address).run(&["device", "create", "a", "-u", "alice"]).ok();
    assert!(text.contains("device a (1) is CREATING"), "{text}");
    let keys: Vec<_> = heads.iter().take(3).map(|head| key(&head)).collect();
    assert!(!keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn no_answer_in_time_tells_the_key_to_repeat_with() {
    let (address, heads) = server(|_, _, stream| {
        // Nothing, until the client goes.
        let _ = stream.read(&mut [0; 1]);
    });
    let program = Program::new(address);
    let began = Instant::now();
    let error = program.run(&["device", "create", "a", "-u", "alice", "--timeout", "300ms"]).failed(7);
    assert!(began.elapsed() < Duration::from_secs(10));
    let told = error.trim_end().rsplit("--idempotency-key ").next().unwrap().to_owned();
    assert_eq!(key(&heads.recv().unwrap()), told, "{error}");
    // Reads have no effect that could be unknown.
    let error = program.run(&["device", "list", "--timeout", "300ms"]).failed(7);
    assert!(error.contains("within 0.3 s (--timeout)") && !error.contains("unknown"), "{error}");
    let error =
        program.run(&["device", "delete", "01990000-0000-7000-8000-000000000000", "--timeout", "300ms"]);
    assert!(error.failed(7).contains("run the same command again"));
}

#[test]
fn a_stranger_is_told_from_a_controller() {
    for (status, body) in [
        ("200 OK", "<html>"),
        ("404 Not Found", "<html>"),
        ("200 OK", "{}"),
        ("200 OK", r#"{"data":{"items":5}}"#),
        ("200 OK", r#"{"data":{"items":[5]}}"#),
        ("500 Oops", "{}"),
    ] {
        let (address, _heads) = server(move |_, _, stream| answer(stream, status, body));
        let error = Program::new(address).run(&["device", "list"]).failed(6);
        assert!(error.contains("this is no Phonefleet daemon"), "{body}: {error}");
    }
    // A list that never ends is not walked for ever.
    let (address, _heads) = server(|_, _, stream| {
        answer(stream, "200 OK", r#"{"data":{"items":[],"nextCursor":"x"}}"#);
    });
    assert!(Program::new(address).run(&["device", "list"]).failed(6).contains("circles"));
}

#[test]
fn a_terminal_is_not_commanded_by_what_a_controller_says() {
    let (address, _heads) = server(|_, _, stream| {
        let body = r#"{"status":409,"code":"CONFLICT","title":"t","detail":"a\u001b[2Jb\u009b1m"}"#;
        answer(stream, "409 Conflict", body);
    });
    let error = Program::new(address).run(&["device", "list"]).failed(4);
    assert_eq!(error, "phonefleet: a\\u{1b}[2Jb\\u{9b}1m (CONFLICT)\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let served = Served::new();
    for name in ["a", "b", "c"] {
        served.order("alice", name);
    }
    let mut child = served.program.start(&["device", "list", "--watch", "--interval", "10ms"]);
    drop(child.stdout.take());
    served.settle();
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn a_failure_is_one_also_where_nobody_reads() {
    let served = Served::new();
    served.order("alice", "a");
    for arguments in
        [&["device", "delete", "a", "missing", "-u", "alice"][..], &["host", "cordon", "host-1", "missing"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = served.program.command(arguments).stdout(writer).output().unwrap();
        let ran = Ran::of(&output);
        assert_eq!(ran.code, 3, "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn a_controller_that_cannot_serve_for_a_while_is_waited_for() {
    let (address, _heads) = server(|number, _, stream| {
        if number == 1 {
            let body = r#"{"status":503,"code":"STORE_UNAVAILABLE","title":"t","detail":"the disk is full"}"#;
            return answer(stream, "503 Service Unavailable", body);
        }
        answer(stream, "200 OK", r#"{"data":{"items":[]}}"#);
    });
    let mut child =
        Program::new(address).start(&["device", "list", "--all-users", "--watch", "--interval", "10ms"]);
    let mut told = String::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    while !told.contains("the controller is back") && errors.read_line(&mut told).unwrap() > 0 {}
    assert!(told.contains("still watching: the disk is full"), "{told}");
    assert!(told.contains("the controller is back"), "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn colours_are_for_terminals_only() {
    let served = Served::new();
    served.order("alice", "pixel");
    for arguments in [&["device", "list"][..], &["device", "list", "--no-color"]] {
        assert!(!served.run(arguments).ok().contains('\x1b'));
    }
}
