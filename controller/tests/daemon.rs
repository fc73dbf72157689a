//! The program itself: its arguments, its start without a broker, its end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_phonefleet-controller");

/// Killed with the test, whatever becomes of it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn print_config_shows_origins_and_hides_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("controller.toml");
    std::fs::write(&file, "[mqtt]\nusername = \"fleet\"\npassword = \"very-secret\"\n").unwrap();
    let output = Command::new(PROGRAM)
        .args(["--config", file.to_str().unwrap(), "--print-config"])
        .env("PHONEFLEET_CONTROLLER__QUOTA__DEFAULT_MAX_DEVICES", "9")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for part in ["controller.toml:2", "quota.default_max_devices = 9", "# environment variable", "# default"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("very-secret"), "{text}");
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    for (variable, value, word) in [
        ("PHONEFLEET_CONTROLLER__LISTEN", "0.0.0.0:30002", "loopback"),
        ("PHONEFLEET_CONTROLLER__QUOTA__SOURCE", "upstream", "not built"),
        ("PHONEFLEET_CONTROLLER__NO__SUCH", "1", "unknown"),
    ] {
        let output = Command::new(PROGRAM).env(variable, value).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(word) && text.contains(variable), "{text}");
    }
}

#[test]
fn it_lives_without_a_broker_and_ends_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(PROGRAM)
        .env("PHONEFLEET_CONTROLLER__LISTEN", format!("127.0.0.1:{port}"))
        .env("PHONEFLEET_CONTROLLER__DATABASE", directory.path().join("new/controller.db"))
        // Port 9 is discard: nobody listens.
        .env("PHONEFLEET_CONTROLLER__MQTT__URL", "mqtt://127.0.0.1:9")
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut daemon = Daemon(child);
    let deadline = Instant::now() + Duration::from_secs(20);
    let alive = loop {
        match get(port, "/healthz") {
            Some(answer) if !answer.is_empty() => break answer,
            _ => assert!(Instant::now() < deadline, "it does not answer"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(alive.starts_with("HTTP/1.1 200 "), "{alive}");
    let ready = get(port, "/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("broker"), "{ready}");

    let id = daemon.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = daemon.0.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}
