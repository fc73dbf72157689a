//! `phonefleet-agent selftest` on a real engine, adb and adbd, with phonesim for Android.

use phonefleet_tests::real::engine::Engine;
use phonefleet_tests::real::process_table;
use phonefleet_tests::real::program::built;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The tests are of one host: what one leaves for a moment, another would find.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A folder with an agent.toml, and the turn to use it; `None` outside of the environment.
fn host() -> Option<(tempfile::TempDir, Engine, MutexGuard<'static, ()>)> {
    let Some(environment) = std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT") else {
        println!("skipped: run it with tests/environment/run");
        return None;
    };
    let engine = Engine::of_environment()?;
    let folder = tempfile::Builder::new().prefix("t").tempdir_in(environment).expect("a folder");
    let text = format!(
        "host_id = \"tested\"\nstate_dir = \"{}/state\"\n[runtime]\nimage = \"phonefleet/phonesim:dev\"\n\
         docker_host = \"{}\"\nprivilege = \"none\"\n[boot]\ntimeout_seconds = 30\n",
        folder.path().display(),
        engine.url()
    );
    std::fs::write(folder.path().join("agent.toml"), text).expect("agent.toml");
    Some((folder, engine, ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn selftest(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(built("phonefleet-agent"))
        .args(["selftest", "--boot-arg", "androidboot.phonesim_boot_ms=300"])
        .args(arguments)
        .arg("--config")
        .arg(folder.join("agent.toml"))
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

fn words(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}\n{err}")
}

/// Of a self-test that has ended, nothing is left but the file that it locks.
fn nothing_is_left(folder: &Path, engine: &Engine) {
    assert!(engine.containers("selftest-tested").is_empty(), "a container is left");
    let state = folder.join("state");
    let left: Vec<_> = std::fs::read_dir(&state)
        .expect("the state folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "selftest.lock")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let socket = state.display().to_string();
    let servers: Vec<_> = process_table::processes()
        .into_iter()
        .filter(|process| process.is("adb") && process.mentions(&socket))
        .collect();
    assert!(servers.is_empty(), "{servers:?}");
}

#[test]
fn every_fact_holds_on_the_stand_in_or_is_not_applicable() {
    let Some((folder, engine, _turn)) = host() else { return };
    let output = selftest(folder.path(), &["--json"]);
    let words = words(&output);
    assert!(output.status.success(), "{words}");
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"));
    let checks = report["checks"].as_array().expect("checks");
    assert!(checks.len() >= 30, "{words}");
    for check in checks {
        let expected = if check["id"].as_str().is_some_and(|id| id.starts_with("host.")) {
            "notApplicable"
        } else {
            "holds"
        };
        assert_eq!(check["verdict"], expected, "{check:#}");
    }
    nothing_is_left(folder.path(), &engine);
}

/// What the test is for: an image that does not do what the agent builds on.
#[test]
fn a_phone_that_differs_is_told_and_removed() {
    let Some((folder, engine, _turn)) = host() else { return };
    let fault = ["--boot-arg", "androidboot.phonesim_fault=record_refuse"];
    let output = selftest(folder.path(), &fault);
    let words = words(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("DIFFERS  record.begins"), "{words}");
    assert!(words.contains("unable to create video/avc codec instance"), "{words}");
    nothing_is_left(folder.path(), &engine);

    let fault = ["--boot-arg", "androidboot.phonesim_fault=exit_129"];
    let output = selftest(folder.path(), &fault);
    let text = self::words(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("DIFFERS  boot.completes") && text.contains("exited with 129"), "{text}");
    nothing_is_left(folder.path(), &engine);
}

/// One that was killed half-way: the next one removes what it left.
#[test]
fn a_killed_test_is_cleaned_up_by_the_next() {
    let Some((folder, engine, _turn)) = host() else { return };
    let mut child = Command::new(built("phonefleet-agent"))
        .args(["selftest", "--boot-arg", "androidboot.phonesim_fault=boot_hang", "--config"])
        .arg(folder.path().join("agent.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    phonefleet_tests::real::until("its phone runs", std::time::Duration::from_secs(60), || {
        let states: Vec<_> = engine.containers("selftest-tested").into_iter().map(|one| one.state).collect();
        if states == ["running"] { Ok(()) } else { Err(format!("{states:?}")) }
    });
    let second = selftest(folder.path(), &[]);
    assert!(
        !second.status.success() && words(&second).contains("another self-test runs"),
        "{}",
        words(&second)
    );
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    assert_eq!(engine.containers("selftest-tested").len(), 1);
    let fault = ["--boot-arg", "androidboot.phonesim_fault=exit_129"];
    assert_eq!(selftest(folder.path(), &fault).status.code(), Some(1));
    nothing_is_left(folder.path(), &engine);
}
