//! The program itself, on a machine where everything that it needs is missing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phonefleet-agent"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, text)
}

/// Killed when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn call(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn until<T>(what: &str, mut test: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = test() {
            return found;
        }
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_configuration_that_is_wrong_is_explained_and_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "host_id = \"h1\"\n[ports]\nadb = \"5555-6000\"\n").unwrap();
    let file = file.to_str().unwrap();
    let (ended, text) = output(&mut agent(&["--config", file]));
    assert!(!ended.status.success());
    assert!(text.contains(&format!("ports.adb ({file}:3)")), "{text}");
    let (ended, text) = output(agent(&[]).env("PHONEFLEET_AGENT__HOSTID", "h1"));
    assert!(!ended.status.success());
    assert!(text.contains("hostid (environment variable PHONEFLEET_AGENT__HOSTID): unknown key"), "{text}");
}

#[test]
fn the_configuration_in_force_is_printed_with_origins_and_without_secrets() {
    let mut command = agent(&["--print-config"]);
    command.env("PHONEFLEET_AGENT__MQTT__PASSWORD", "hunter2");
    let (ended, text) = output(&mut command);
    assert!(ended.status.success(), "{text}");
    for line in [
        "# capacity.max_devices is unset: unlimited",
        "ports.adb = \"20000-20999\"",
        "mqtt.password = \"********\"",
        "environment variable PHONEFLEET_AGENT__MQTT__PASSWORD",
        "local_api.listen = \"127.0.0.1:30010\"",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn without_engine_broker_and_adb_it_lives_says_so_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state/of/h1");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = folder.path().join("agent.toml");
    let text = format!(
        "host_id = \"h1\"\nstate_dir = \"{state}\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n\
         [runtime]\ndocker_host = \"unix://{state}/none.sock\"\n[local_api]\nlisten = \"{port}\"\n",
        state = state.display()
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut running = Running(agent(&["--config", file, "--log-json"]).stderr(log).spawn().unwrap());

    until("it answers", || call(port, "/healthz").filter(|answer| answer.starts_with("HTTP/1.0 200")));
    let answer = until("it names what is missing", || {
        call(port, "/readyz").filter(|answer| {
            ["apt-get install adb", "Connection refused", "none.sock"]
                .iter()
                .all(|word| answer.contains(word))
        })
    });
    assert!(answer.starts_with("HTTP/1.0 503"), "{answer}");
    assert!(answer.contains("\"store\":{\"ready\":true"), "{answer}");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);

    let (ended, text) = output(&mut agent(&["status", "--config", file]));
    assert!(ended.status.success() && text.contains("host h1") && text.contains("NOT READY"), "{text}");
    let (_, text) = output(&mut agent(&["status", "--json", "--config", file]));
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["hostId"], "h1");

    // A second one waits for the database; it is not there for the first to lose.
    let second = Running(agent(&["--config", file]).stderr(Stdio::null()).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(500));
    drop(second);

    let began = Instant::now();
    kill(Pid::from_raw(i32::try_from(running.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = until("it ended", || running.0.try_wait().unwrap());
    assert!(status.success() && began.elapsed() < Duration::from_secs(5), "{status} {:?}", began.elapsed());
    lines_are_json(&folder.path().join("log"));
    let (ended, text) = output(&mut agent(&["status", "--config", file]));
    assert!(!ended.status.success() && text.contains("does it run"), "{text}");
}

fn lines_are_json(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.lines().count() > 3);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}
