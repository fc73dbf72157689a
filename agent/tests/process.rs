//! Phones that are processes: what every engine does for a phone, how such a phone ends, and
//! that it needs no agent to live.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod environment;
mod scenarios;

use environment::{environment, fresh_host, fresh_port, phone, sh, sweep, until};
use nix::sys::signal::Signal;
use phonefleet_agent::host::process::{self, ProcessId};
use phonefleet_agent::runtime::process::Processes;
use phonefleet_agent::runtime::{ContainerState, Engine, EngineEvent};
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::time::{Clock, SystemClock};
use scenarios::Runtime;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// Until something that only the kernel has to do is done.
const SOON: Duration = Duration::from_secs(10);

/// The state of an agent, with nothing else of it.
struct Machine(tempfile::TempDir);

impl Machine {
    /// `None` outside of `tests/environment/run`: ports must be free here.
    fn new() -> Option<Self> {
        environment().map(|_| Self(tempfile::tempdir().unwrap()))
    }

    fn processes(&self, host: &HostId) -> Processes {
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("phonesim");
        assert!(program.exists(), "{} is missing: run \"make build\" first", program.display());
        Processes::new(self.0.path(), Some(program), host.clone())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join("processes").join(name)
    }

    /// A phone's PID 1.
    fn init(&self, name: &str) -> ProcessId {
        let text = fs::read_to_string(self.folder(name).join("init")).unwrap();
        let (pid, start_time) = text.trim().split_once(' ').unwrap();
        ProcessId { pid: pid.parse().unwrap(), start_time: start_time.parse().unwrap() }
    }

    /// Processes that were told to work in a phone's folder.
    fn supervisors(&self, name: &str) -> Vec<ProcessId> {
        let folder = self.folder(name);
        let works_there = |process: &ProcessId| {
            let arguments = process.arguments().unwrap_or_default();
            arguments.iter().any(|argument| Path::new(argument) == folder)
        };
        process::all().into_iter().filter(works_there).collect()
    }
}

impl Runtime for Machine {
    fn engine(&self, host: &HostId) -> Box<dyn Engine> {
        Box::new(self.processes(host))
    }

    fn freeze(&self, name: &str) {
        assert!(self.init(name).signal(Signal::SIGSTOP));
    }
}

#[tokio::test]
async fn a_phone_is_created_started_killed_and_removed() {
    let Some(machine) = Machine::new() else { return };
    scenarios::a_phone_is_created_started_killed_and_removed(&machine).await;
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let Some(machine) = Machine::new() else { return };
    scenarios::refusals_are_told_apart(&machine).await;
}

#[tokio::test]
async fn a_port_that_is_held_is_named() {
    let Some(machine) = Machine::new() else { return };
    scenarios::a_port_that_is_held_is_named(&machine).await;
}

#[tokio::test]
async fn containers_of_others_are_neither_listed_nor_touched() {
    let Some(machine) = Machine::new() else { return };
    scenarios::containers_of_others_are_neither_listed_nor_touched(&machine).await;
}

#[tokio::test]
async fn a_frozen_phone_is_thawed_killed_and_removed() {
    let Some(machine) = Machine::new() else { return };
    scenarios::a_frozen_phone_is_thawed_killed_and_removed(&machine).await;
}

#[tokio::test]
async fn ends_are_told_as_by_a_container_engine() {
    let Some(machine) = Machine::new() else { return };
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let engine = machine.processes(&host);
    let ends_with = async |id: &str, code: i64| {
        until(&format!("it has ended with {code}"), SOON, async || {
            let state = engine.inspect(id).await.unwrap().unwrap().state;
            state == ContainerState::Exited { code, out_of_memory: false }
        })
        .await;
    };

    let crashes =
        phone(&host, folder.path(), fresh_port(), &["androidboot.phonesim_fault=crash_after_ms:100"]);
    let id = engine.create(&crashes).await.unwrap();
    for boot in ["1", "2"] {
        engine.start(&id).await.unwrap();
        ends_with(&id, 129).await;
        assert_eq!(fs::read_to_string(crashes.data_dir.join("phonesim/boots")).unwrap().trim(), boot);
    }

    let obeys = phone(&host, folder.path(), fresh_port(), &[]);
    let id = engine.create(&obeys).await.unwrap();
    for (command, code) in [("reboot -p", 130), ("reboot", 129)] {
        engine.start(&id).await.unwrap();
        let data = obeys.data_dir.join("local/tmp");
        until("it boots", SOON, async || data.is_dir()).await;
        let pid = machine.init(&obeys.name).pid;
        sh(&format!("nsenter -t {pid} -m -p -r -w env PATH=/system/bin {command}"));
        ends_with(&id, code).await;
    }

    // A start that is not the first one's leaves no end of the one before behind.
    engine.start(&id).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap().unwrap().state, ContainerState::Running);
    engine.kill(&id).await.unwrap();
    ends_with(&id, 137).await;
    sweep(&engine, &host).await;
}

#[tokio::test]
async fn a_phone_outlives_its_agent_and_tells_its_end_to_the_next() {
    let Some(machine) = Machine::new() else { return };
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let spec = phone(&host, folder.path(), fresh_port(), &[]);
    let first = machine.processes(&host);
    let id = first.create(&spec).await.unwrap();
    first.start(&id).await.unwrap();
    drop(first);

    let next = machine.processes(&host);
    let listed = next.list(&host).await.unwrap();
    assert_eq!((listed[0].id.as_str(), &listed[0].state), (id.as_str(), &ContainerState::Running));
    let mut events = next.watch(&host, SystemClock.now()).await.unwrap();
    assert!(machine.init(&spec.name).signal(Signal::SIGKILL));
    let event = timeout(SOON, events.recv()).await.unwrap();
    assert_eq!(event, Some(EngineEvent::Container(listed[0].device().unwrap())));
    let state = next.inspect(&id).await.unwrap().unwrap().state;
    assert_eq!(state, ContainerState::Exited { code: 137, out_of_memory: false });
    sweep(&next, &host).await;
}

#[tokio::test]
async fn with_its_supervisor_goes_the_phone() {
    let Some(machine) = Machine::new() else { return };
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let engine = machine.processes(&host);
    let spec = phone(&host, folder.path(), fresh_port(), &[]);
    let id = engine.create(&spec).await.unwrap();
    engine.start(&id).await.unwrap();
    let init = machine.init(&spec.name);
    let supervisors = machine.supervisors(&spec.name);
    assert_eq!(supervisors.len(), 1, "{supervisors:?}");
    assert!(supervisors[0].signal(Signal::SIGKILL));
    until("the phone is gone, and its port free", SOON, async || {
        !init.is_alive() && TcpListener::bind(("127.0.0.1", spec.adb_port)).is_ok()
    })
    .await;
    let state = engine.inspect(&id).await.unwrap().unwrap().state;
    assert_eq!(state, ContainerState::Exited { code: 137, out_of_memory: false });
    engine.start(&id).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap().unwrap().state, ContainerState::Running);
    sweep(&engine, &host).await;
}

#[tokio::test]
async fn starts_at_once_make_one_phone_and_removal_leaves_nothing() {
    let Some(machine) = Machine::new() else { return };
    let (folder, host) = (tempfile::tempdir().unwrap(), fresh_host());
    let engine = machine.processes(&host);
    let spec = phone(&host, folder.path(), fresh_port(), &[]);
    let id = engine.create(&spec).await.unwrap();
    let (one, other, third) = tokio::join!(engine.start(&id), engine.start(&id), engine.start(&id));
    assert_eq!((one, other, third), (Ok(()), Ok(()), Ok(())));
    let supervisors = machine.supervisors(&spec.name);
    assert_eq!(supervisors.len(), 1, "{supervisors:?}");
    let init = machine.init(&spec.name);
    assert!(init.is_alive());

    engine.remove(&id).await.unwrap();
    assert!(!init.is_alive());
    until("no process is left", SOON, async || machine.supervisors(&spec.name).is_empty()).await;
    assert_eq!(fs::read_dir(machine.0.path().join("processes")).unwrap().count(), 0);
    drop(TcpListener::bind(("127.0.0.1", spec.adb_port)).unwrap());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = machine.0.path().to_str().unwrap();
    assert!(!mounts.contains(place), "{mounts}");
    assert!(spec.data_dir.is_dir(), "data is not its business");
}
