//! The real engine: what it does for a phone, how it refuses, and how it goes away.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod environment;
mod scenarios;

use environment::{Environment, environment, fresh_host, fresh_port, phone, sh, sweep};
use phonefleet_agent::runtime::{ContainerState, Engine, EngineError, EngineEvent, Privilege};
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::time::{Clock, SystemClock};
use scenarios::Runtime;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

/// One test at a time: some of them take the engine away from the others.
static ENGINE: Mutex<()> = Mutex::const_new(());

impl Runtime for Environment {
    fn engine(&self, host: &HostId) -> Box<dyn Engine> {
        Box::new(self.docker(host))
    }

    fn freeze(&self, name: &str) {
        sh(&format!("docker pause {name}"));
    }
}

#[tokio::test]
async fn a_phone_is_created_started_killed_and_removed() {
    let Some(environment) = environment() else { return };
    let _turn = ENGINE.lock().await;
    let info = environment.docker(&fresh_host()).info().await.unwrap();
    assert!(info.memory_bytes > 0, "{info:?}");
    scenarios::a_phone_is_created_started_killed_and_removed(&environment).await;
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let Some(environment) = environment() else { return };
    let _turn = ENGINE.lock().await;
    scenarios::refusals_are_told_apart(&environment).await;
}

#[tokio::test]
async fn what_only_containers_are_refused_is_told_apart() {
    let Some(environment) = environment() else { return };
    let _turn = ENGINE.lock().await;
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let docker = environment.docker(&host);
    let fresh = || phone(&host, folder.path(), fresh_port(), &[]);

    let mut spec = fresh();
    spec.memory_bytes = 1 << 20;
    let error = docker.create(&spec).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused(why) if why.contains("memory")), "{error:?}");

    // Too little for a process to begin: the engine creates it and refuses to start it.
    let mut spec = fresh();
    spec.memory_bytes = 6 << 20;
    spec.command = vec!["x".repeat(60_000); 60];
    let id = docker.create(&spec).await.unwrap();
    let error = docker.start(&id).await.unwrap_err();
    assert!(matches!(error, EngineError::Refused(_)), "{error:?}");

    // Where the machine lacks a capability, privileged is refused at the start.
    let capable = std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| {
        line.strip_prefix("CapEff:")
            .is_some_and(|hex| u64::from_str_radix(hex.trim(), 16).unwrap() & (1 << 24) != 0)
    });
    let mut spec = fresh();
    spec.privilege = Privilege::Privileged;
    let id = docker.create(&spec).await.unwrap();
    match docker.start(&id).await {
        Ok(()) => assert!(capable),
        Err(EngineError::Refused(why)) => assert!(!capable && why.contains("caps"), "{why}"),
        Err(error) => panic!("{error:?}"),
    }
    sweep(&docker, &host).await;
}

#[tokio::test]
async fn a_port_that_is_held_is_named() {
    let Some(environment) = environment() else { return };
    let _turn = ENGINE.lock().await;
    scenarios::a_port_that_is_held_is_named(&environment).await;
}

#[tokio::test]
async fn containers_of_others_are_neither_listed_nor_touched() {
    let Some(environment) = environment() else { return };
    let _turn = ENGINE.lock().await;
    scenarios::containers_of_others_are_neither_listed_nor_touched(&environment).await;
}

#[tokio::test]
async fn a_frozen_phone_is_thawed_killed_and_removed() {
    let Some(environment) = environment() else { return };
    let _turn = ENGINE.lock().await;
    scenarios::a_frozen_phone_is_thawed_killed_and_removed(&environment).await;
}

#[tokio::test]
async fn health_probes_and_commands_make_no_events() {
    let Some(environment) = environment() else { return };
    let _turn = ENGINE.lock().await;
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let docker = environment.docker(&host);
    let spec = phone(&host, folder.path(), fresh_port(), &[]);
    let id = docker.create(&spec).await.unwrap();
    docker.start(&id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut events = docker.watch(&host, SystemClock.now()).await.unwrap();
    sh(&format!("docker exec {} true", spec.name));
    assert!(timeout(Duration::from_millis(700), events.recv()).await.is_err());
    docker.kill(&id).await.unwrap();
    assert!(matches!(
        timeout(Duration::from_secs(5), events.recv()).await.unwrap(),
        Some(EngineEvent::Container(_))
    ));
    sweep(&docker, &host).await;
}

#[tokio::test]
async fn an_engine_that_is_killed_or_hangs_is_survived() {
    let Some(environment) = environment() else { return };
    let _turn = ENGINE.lock().await;
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let docker = environment.docker(&host);
    let spec = phone(&host, folder.path(), fresh_port(), &[]);
    let id = docker.create(&spec).await.unwrap();
    docker.start(&id).await.unwrap();

    let mut events = docker.watch(&host, SystemClock.now()).await.unwrap();
    environment.engine("kill");
    let began = Instant::now();
    let error = docker.info().await.unwrap_err();
    assert!(matches!(error, EngineError::Unavailable(_)), "{error:?}");
    assert!(matches!(docker.create(&spec).await, Err(EngineError::Unavailable(_))));
    assert!(matches!(docker.list(&host).await, Err(EngineError::Unavailable(_))));
    assert!(docker.watch(&host, SystemClock.now()).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    stream_ends(&mut events, Duration::from_secs(5)).await;

    environment.engine("restart");
    assert_eq!(docker.inspect(&id).await.unwrap().unwrap().state, ContainerState::Running);

    // Stopped: it accepts connections and never answers.
    let mut events = docker.watch(&host, SystemClock.now()).await.unwrap();
    environment.engine("freeze");
    let began = Instant::now();
    let error = docker.ping().await.unwrap_err();
    assert!(matches!(error, EngineError::Unavailable(_)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    stream_ends(&mut events, Duration::from_secs(20)).await;
    environment.engine("thaw");
    assert!(docker.info().await.is_ok());

    // Its network is gone, as when a second engine ran here: clear words, until a restart.
    sh("ip link delete docker0");
    let second = phone(&host, folder.path(), fresh_port(), &[]);
    let second = docker.create(&second).await.unwrap();
    let error = docker.start(&second).await.unwrap_err();
    let clear = matches!(&error, EngineError::Unavailable(why) if why.contains("restart the engine"));
    assert!(clear, "{error:?}");
    environment.engine("restart");
    docker.start(&second).await.unwrap();
    sweep(&docker, &host).await;
}

async fn stream_ends(events: &mut mpsc::Receiver<EngineEvent>, patience: Duration) {
    let end = timeout(patience, async { while events.recv().await.is_some() {} }).await;
    assert!(end.is_ok(), "the event stream goes on without an engine");
}
