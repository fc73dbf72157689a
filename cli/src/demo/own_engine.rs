//! A container engine of the demo's own, for machines where Docker is installed and not
//! running. All of it is in the demo's folder, and in namespaces for processes and mounts:
//! when its first process dies, the kernel takes the rest with it, containers included.
//!
//! Ports of phones must be reachable, so its network is the machine's. It changes no firewall
//! and no routing there: ports on loopback need neither. A bridge `docker0` is all that it
//! makes, and the demo removes it.

use super::child::Child;
use super::claim::Claim;
use super::engine_socket::EngineSocket;
use super::house::{House, Part};
use super::surroundings::program;
use super::voice::Voice;
use crate::failure::Failure;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// The bridge that an engine makes.
const BRIDGE: &str = "docker0";
/// From its start to its first answer.
const START: Duration = Duration::from_secs(30);

/// Why no engine can be started here.
pub fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("starting one needs root".to_owned());
    }
    for (name, package) in
        [("dockerd", "docker.io"), ("docker", "docker.io"), ("unshare", "util-linux"), ("ip", "iproute2")]
    {
        if program(name).is_none() {
            return Some(format!("{name} is not installed (package {package})"));
        }
    }
    // Two engines in one network take each other's bridge and addresses away.
    has_bridge().then(|| format!("{BRIDGE} belongs to another engine, so that none is started beside it"))
}

/// As this process sees it: a mounted /sys tells of the network that it was mounted in.
fn has_bridge() -> bool {
    let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    devices
        .lines()
        .any(|line| line.trim_start().strip_prefix(BRIDGE).is_some_and(|rest| rest.starts_with(':')))
}

/// Which network this process is in, since which boot; other places have other names.
pub fn network() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let network = std::fs::read_link("/proc/self/ns/net").ok()?;
    Some(format!("{} {}", boot.trim(), network.display()))
}

/// Whether any engine runs in this network: a bridge may be its own.
pub fn runs_here() -> bool {
    let own = std::fs::read_link("/proc/self/ns/net").ok();
    std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|process| {
        let process = process.path();
        std::fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "dockerd")
            && std::fs::read_link(process.join("ns/net")).ok() == own
    })
}

/// Starts it.
///
/// # Errors
/// Its last words, if it does not answer.
pub async fn start(house: &mut House, voice: &mut Voice) -> Result<(EngineSocket, String), Failure> {
    // Before there is a bridge that others could see.
    let Some(claim) = Claim::take("engine") else {
        return Err(Failure::Failed("another demo has begun to start one".to_owned()));
    };
    house.claims.push(claim);
    let folder = house.folder().join("engine");
    let socket = folder.join("docker.sock");
    let file = folder.join("daemon.json");
    // "x": paths of unix sockets end at 108 characters, and containerd's go deep.
    let configuration = json!({
        "data-root": folder.join("data"), "exec-root": folder.join("x"), "pidfile": folder.join("pid"),
        "hosts": [format!("unix://{}", socket.display())], "cgroup-parent": format!("/{}", house.lodging.name()),
        "exec-opts": ["native.cgroupdriver=cgroupfs"], "iptables": false, "ip6tables": false,
        "ip-forward": false, "ip-masq": false, "log-level": "warn",
    });
    let cannot = |error| Failure::Failed(format!("{} cannot be written: {error}", file.display()));
    std::fs::create_dir_all(&folder).map_err(cannot)?;
    std::fs::write(&file, configuration.to_string()).map_err(cannot)?;
    house.lodging.note(|record| record.own_engine_in = network())?;
    // An empty /run: it must find neither containerd nor anything else of the system's there.
    let script = "mount -t tmpfs -o mode=755 tmpfs /run && exec dockerd --config-file \"$0\"";
    let mut command: Vec<_> =
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
            .map(Into::into)
            .to_vec();
    command.extend([script.into(), file.clone().into_os_string()]);
    house.add(Part::Engine, Child::start("dockerd", &command, &[], house.folder())?);
    let engine = EngineSocket::new(&socket);
    let began = Instant::now();
    loop {
        voice.live(&format!("a container engine starts, {} s", began.elapsed().as_secs()));
        if let Ok(version) = engine.version().await {
            return Ok((engine, version));
        }
        let ended = house.child(Part::Engine).is_none_or(|child| child.ended().is_some());
        if ended || began.elapsed() > START {
            // Its warnings come first, and what it died of last.
            let words = house.child(Part::Engine).map(|child| child.last_words(1)).unwrap_or_default();
            house.give_up_engine().await;
            if remove_traces(house.lodging.name(), !runs_here()).await.is_empty() {
                house.lodging.note(|record| record.own_engine_in = None)?;
            }
            return Err(Failure::Failed(format!("one of the demo's own does not start: {words}")));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Removes what an engine leaves outside its folder and namespaces: control groups with the
/// demo's name and, if that is its own, the bridge. Returns what is still there.
pub async fn remove_traces(demo: &str, bridge: bool) -> Vec<String> {
    let bridge = bridge && has_bridge();
    if bridge && let Some(ip) = program("ip") {
        let _ = Command::new(ip).args(["link", "delete", BRIDGE]).process_group(0).status().await;
    }
    let mut left = Vec::new();
    if bridge && has_bridge() {
        left.push(format!("network bridge {BRIDGE}"));
    }
    // Either the one hierarchy, or one for each of several.
    let root = Path::new("/sys/fs/cgroup");
    let roots = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in roots.chain([root.to_owned()]).map(|root| root.join(demo)) {
        let began = Instant::now();
        // A group is free a moment after its last process.
        while group.exists() && began.elapsed() < Duration::from_secs(5) {
            remove_groups(&group);
            sleep(Duration::from_millis(20)).await;
        }
        if group.exists() {
            left.push(format!("control group {}", group.display()));
        }
    }
    left
}

fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
