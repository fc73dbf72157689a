//! What the tests of the agent's real edges share. They run inside
//! `tests/environment/run cargo test -p phonefleet-agent`, and do nothing elsewhere.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test fails by panicking; not every test uses all of this"
)]

use phonefleet_agent::runtime::docker::Docker;
use phonefleet_agent::runtime::redroid::{ContainerSettings, container_spec};
use phonefleet_agent::runtime::{ContainerSpec, Engine, Privilege};
use phonefleet_protocol::facts::Ports;
use phonefleet_protocol::id::{DeviceId, HostId, IdSource, SystemIds};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::time::{Clock, SystemClock};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub const IMAGE: &str = "phonefleet/phonesim:dev";

pub struct Environment {
    pub folder: PathBuf,
    pub socket: PathBuf,
    engine: PathBuf,
}

/// The environment of `tests/environment/run`; `None` outside of it.
pub fn environment() -> Option<Environment> {
    let Ok(folder) = std::env::var("PHONEFLEET_TEST_ENVIRONMENT") else {
        eprintln!("skipped: run it with tests/environment/run");
        return None;
    };
    let host = std::env::var("DOCKER_HOST").unwrap();
    Some(Environment {
        folder: folder.into(),
        socket: host.strip_prefix("unix://").unwrap().into(),
        engine: std::env::var("PHONEFLEET_TEST_ENGINE").unwrap().into(),
    })
}

impl Environment {
    /// `engine kill|freeze|thaw|restart|wait` on the engine of this environment.
    pub fn engine(&self, command: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/environment/engine");
        // Its output is not ours to hold open: the engine inherits it.
        let log = std::fs::File::create(self.folder.join("engine-script.log")).unwrap();
        let status = Command::new(script)
            .arg(command)
            .arg(&self.engine)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        assert!(status.success(), "engine {command}");
    }

    pub fn docker(&self, host: &HostId) -> Docker {
        Docker::new(&self.socket, host.clone())
    }
}

/// A host that no other test has.
pub fn fresh_host() -> HostId {
    format!("h-{}", fresh_device().0.simple()).parse().unwrap()
}

pub fn fresh_device() -> DeviceId {
    DeviceId(SystemIds.uuid(SystemClock.now()))
}

/// A port that no other test of this program takes.
pub fn fresh_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A phone that boots in no time, with data below `folder`.
pub fn phone(host: &HostId, folder: &Path, port: u16, arguments: &[&str]) -> ContainerSpec {
    let settings = ContainerSettings {
        host: host.clone(),
        default_image: IMAGE.to_owned(),
        privilege: Privilege::None,
        bind: "127.0.0.1".parse().unwrap(),
    };
    let mut boot_args = vec!["androidboot.phonesim_boot_ms=200".to_owned()];
    boot_args.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let spec = DeviceSpec { cpu_cores: 1.0, memory_mb: 128, boot_args, ..DeviceSpec::default() };
    let device = fresh_device();
    let data = folder.join(format!("{}-data", device.0.simple()));
    std::fs::create_dir(&data).unwrap();
    container_spec(&settings, device, 1, &spec, Ports { adb: port, webrtc: 1 }, &data)
}

/// Removes everything of a host.
pub async fn sweep(engine: &dyn Engine, host: &HostId) {
    for container in engine.list(host).await.unwrap() {
        engine.remove(&container.id).await.unwrap();
    }
}

/// Waits for something to become true.
pub async fn until(what: &str, patience: Duration, mut test: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + patience;
    while !test().await {
        assert!(tokio::time::Instant::now() < end, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A shell command that must succeed.
pub fn sh(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}
