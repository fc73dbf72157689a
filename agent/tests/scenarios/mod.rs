//! What every engine does for a phone, whichever it is: `engine.rs` asks this of containers,
//! `process.rs` of processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::environment::{fresh_host, fresh_port, phone, sweep, until};
use phonefleet_agent::runtime::{ContainerState, Engine, EngineError, EngineEvent};
use phonefleet_protocol::id::{DeviceId, HostId};
use phonefleet_protocol::time::{Clock, SystemClock};
use std::net::TcpListener;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// An engine under test.
pub trait Runtime {
    /// As the agent of this host sees it.
    fn engine(&self, host: &HostId) -> Box<dyn Engine>;

    /// Has a phone stand still, behind the engine's back.
    fn freeze(&self, name: &str);
}

pub async fn a_phone_is_created_started_killed_and_removed(runtime: &impl Runtime) {
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let engine = runtime.engine(&host);
    let info = engine.info().await.unwrap();
    assert!(!info.version.is_empty() && info.cpus > 0, "{info:?}");

    let mut events = engine.watch(&host, SystemClock.now()).await.unwrap();
    let mut spec = phone(&host, folder.path(), fresh_port(), &[]);
    // More than any machine has is cut, not refused.
    spec.nano_cpus = 4096 * 1_000_000_000;
    spec.memory_bytes = 1 << 50;
    spec.open_files = (1 << 40, 1 << 40);
    let id = engine.create(&spec).await.unwrap();
    let container = engine.inspect(&spec.name).await.unwrap().unwrap();
    let device = container.device().unwrap();
    assert_eq!((container.id.as_str(), &container.state), (id.as_str(), &ContainerState::Created));
    assert_eq!(container.name, spec.name);
    // Labels of the image may be there, too.
    assert!(spec.labels.iter().all(|(name, value)| container.labels.get(name) == Some(value)));
    assert_eq!(container.generation(), Some(1));
    one_event(&mut events, device).await;

    engine.start(&id).await.unwrap();
    engine.start(&id).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap().unwrap().state, ContainerState::Running);
    one_event(&mut events, device).await;
    engine.kill(&id).await.unwrap();
    engine.kill(&id).await.unwrap();
    let ended = ContainerState::Exited { code: 137, out_of_memory: false };
    until("it is seen as killed", Duration::from_secs(10), async || {
        engine.inspect(&id).await.unwrap().unwrap().state == ended
    })
    .await;
    let listed = engine.list(&host).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state, ended);
    one_event(&mut events, device).await;

    engine.remove(&id).await.unwrap();
    engine.remove(&id).await.unwrap();
    engine.kill(&id).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap(), None);
    assert_eq!(engine.list(&host).await.unwrap(), []);
    assert_eq!(engine.start(&id).await, Err(EngineError::NotFound(id)));
    one_event(&mut events, device).await;
}

async fn one_event(events: &mut mpsc::Receiver<EngineEvent>, device: DeviceId) {
    let event = timeout(Duration::from_secs(5), events.recv()).await.unwrap();
    assert_eq!(event, Some(EngineEvent::Container(device)));
}

pub async fn refusals_are_told_apart(runtime: &impl Runtime) {
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let engine = runtime.engine(&host);
    let fresh = || phone(&host, folder.path(), fresh_port(), &[]);

    let mut spec = fresh();
    spec.image = "phonefleet/none:1".into();
    assert_eq!(engine.create(&spec).await, Err(EngineError::ImageMissing("phonefleet/none:1".into())));

    let spec = fresh();
    engine.create(&spec).await.unwrap();
    assert_eq!(engine.create(&spec).await, Err(EngineError::NameTaken(spec.name.clone())));

    let mut spec = fresh();
    spec.data_dir = folder.path().join("gone");
    let error = engine.create(&spec).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused(why) if why.contains("gone")), "{error:?}");
    sweep(&*engine, &host).await;
}

pub async fn a_port_that_is_held_is_named(runtime: &impl Runtime) {
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let engine = runtime.engine(&host);

    let port = fresh_port();
    let stranger = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let spec = phone(&host, folder.path(), port, &[]);
    let id = engine.create(&spec).await.unwrap();
    let error = engine.start(&id).await.unwrap_err();
    assert!(matches!(error, EngineError::PortTaken { port: held, .. } if held == port), "{error:?}");
    assert_eq!(engine.inspect(&id).await.unwrap().unwrap().state, ContainerState::Created);
    drop(stranger);
    engine.start(&id).await.unwrap();

    let second = phone(&host, folder.path(), port, &[]);
    let second = engine.create(&second).await.unwrap();
    let error = engine.start(&second).await.unwrap_err();
    assert!(matches!(error, EngineError::PortTaken { port: held, .. } if held == port), "{error:?}");
    sweep(&*engine, &host).await;
}

pub async fn containers_of_others_are_neither_listed_nor_touched(runtime: &impl Runtime) {
    let (folder, host, other) = (tempfile::tempdir().unwrap(), fresh_host(), fresh_host());
    let (engine, theirs) = (runtime.engine(&host), runtime.engine(&other));
    let spec = phone(&other, folder.path(), fresh_port(), &[]);
    let id = theirs.create(&spec).await.unwrap();
    theirs.start(&id).await.unwrap();

    assert_eq!(engine.list(&host).await.unwrap(), []);
    for outcome in [engine.remove(&id).await, engine.kill(&id).await, engine.start(&id).await] {
        assert!(
            matches!(&outcome, Err(EngineError::Refused(why)) if why.contains("not this agent's")),
            "{outcome:?}"
        );
    }
    assert_eq!(theirs.list(&other).await.unwrap()[0].state, ContainerState::Running);
    sweep(&*theirs, &other).await;
}

pub async fn a_frozen_phone_is_thawed_killed_and_removed(runtime: &impl Runtime) {
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let engine = runtime.engine(&host);
    let spec = phone(&host, folder.path(), fresh_port(), &[]);
    let freeze = async || {
        runtime.freeze(&spec.name);
        until("it stands still", Duration::from_secs(10), async || {
            engine.inspect(&spec.name).await.unwrap().unwrap().state == ContainerState::Paused
        })
        .await;
    };
    let id = engine.create(&spec).await.unwrap();
    engine.start(&id).await.unwrap();
    freeze().await;
    engine.start(&id).await.unwrap();
    until("it goes on", Duration::from_secs(10), async || {
        engine.inspect(&id).await.unwrap().unwrap().state == ContainerState::Running
    })
    .await;
    freeze().await;
    engine.kill(&id).await.unwrap();
    until("it is dead", Duration::from_secs(10), async || {
        matches!(engine.inspect(&id).await.unwrap().unwrap().state, ContainerState::Exited { code: 137, .. })
    })
    .await;
    engine.start(&id).await.unwrap();
    freeze().await;
    engine.remove(&id).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap(), None);
}
