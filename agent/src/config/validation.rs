//! What the types cannot say. Every fault names its key, where it was set, and what is right.

use super::port_range::PortRange;
use super::{Config, RuntimeKind};
use crate::runtime::redroid::Profile;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_settings::{Bounds, Loaded, SettingsError};
use std::path::{Path, PathBuf};

/// Ports that every adb server scans by itself: a phone there is shown twice.
pub const ADB_SCANNED: PortRange = PortRange::new(5555, 5585);
/// Used when neither `[runtime] docker_host` nor `DOCKER_HOST` is set.
const DEFAULT_DOCKER_HOST: &str = "unix:///var/run/docker.sock";

/// What validation asks of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The kernel's ports for outgoing connections.
    pub ephemeral: Option<PortRange>,
    /// Those of them that the kernel never takes (`ip_local_reserved_ports`).
    pub reserved: Vec<PortRange>,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
}

impl Surroundings {
    /// Of this machine and process.
    pub fn read() -> Self {
        let read = |name: &str| std::fs::read_to_string(Path::new("/proc/sys/net/ipv4").join(name));
        Self {
            ephemeral: read("ip_local_port_range")
                .ok()
                .and_then(|text| text.split_whitespace().collect::<Vec<_>>().join("-").parse().ok()),
            reserved: read("ip_local_reserved_ports").map_or_else(|_| Vec::new(), |text| reserved(&text)),
            docker_host: std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()),
        }
    }
}

/// `1,5-9` as the kernel prints it.
fn reserved(text: &str) -> Vec<PortRange> {
    text.trim()
        .split(',')
        .filter_map(|part| part.parse().ok().or_else(|| format!("{part}-{part}").parse().ok()))
        .collect()
}

/// What is checked and ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// `host_id`.
    pub host: HostId,
    /// Path of the engine's socket.
    pub engine_socket: PathBuf,
    /// What is allowed and should be said loudly.
    pub warnings: Vec<String>,
}

impl Config {
    /// The numbers that have a least and a most.
    pub fn bounds(&self) -> [Bounds; 2] {
        [
            Bounds { key: "boot.timeout_seconds", value: self.boot.timeout_seconds, least: 1, most: 3600 },
            Bounds {
                key: "recording.keep_days",
                value: u64::from(self.recording.keep_days),
                least: 1,
                most: 3650,
            },
        ]
    }
}

/// Everything at once, so that an operator mends all of it in one go.
pub fn check(loaded: &Loaded<Config>, around: &Surroundings) -> Result<Checked, SettingsError> {
    let config = &loaded.value;
    let mut faults = Vec::new();
    let mut fault = |key: &str, detail: String| faults.push(loaded.fault(key, detail));

    let host = config.host_id.parse::<HostId>();
    if let Err(error) = &host {
        fault("host_id", format!("{error}"));
    }
    if config.host_id.starts_with(crate::selftest::HOST_PREFIX) {
        let text = format!(
            "{:?} is as self-tests name their containers' host: choose one without {:?} at its start",
            config.host_id,
            crate::selftest::HOST_PREFIX
        );
        fault("host_id", text);
    }
    state_dir(&config.state_dir, &mut fault);
    mqtt(config, &mut fault);
    let socket = runtime(config, around, &mut fault);
    ports(config, around, &mut fault);
    if config.capacity.cpu_cores.is_some_and(|cores| !(cores.is_finite() && cores > 0.0)) {
        fault("capacity.cpu_cores", "must be a number above 0; leave it out for no limit".into());
    }
    if config.capacity.memory_mb == Some(0) {
        fault("capacity.memory_mb", "must be above 0; leave it out for no limit".into());
    }
    for bounds in config.bounds() {
        if let Some(detail) = bounds.fault() {
            fault(bounds.key, detail);
        }
    }
    content(config, &mut fault);
    let listen = config.local_api.listen;
    if !listen.ip().is_loopback() {
        fault(
            "local_api.listen",
            format!("{listen} is not a loopback address, and this API has no login: use 127.0.0.1:30010"),
        );
    }

    let mut warnings = Vec::new();
    if !config.ports.bind.is_loopback() {
        warnings.push(format!(
            "ports.bind = {} publishes ADB, a root shell without a login, to everyone who reaches this \
             address; a firewall's INPUT rules do not stop it, because the engine forwards these ports",
            config.ports.bind
        ));
    }
    if config.capacity.max_devices == Some(0) {
        warnings.push("capacity.max_devices = 0: this host takes no phones".to_owned());
    }
    match (host, socket) {
        (Ok(host), Some(engine_socket)) if faults.is_empty() => Ok(Checked { host, engine_socket, warnings }),
        _ => Err(SettingsError { faults }),
    }
}

fn state_dir(path: &Path, fault: &mut impl FnMut(&str, String)) {
    if !path.is_absolute() {
        fault("state_dir", format!("{} must be an absolute path", path.display()));
    }
    let most = crate::adb::server::SOCKET_PATH_BYTES;
    let socket = path.join("adb.sock");
    if socket.as_os_str().len() > most {
        fault(
            "state_dir",
            format!(
                "{} would be longer than {most} bytes, the most for a socket: choose a shorter path",
                socket.display()
            ),
        );
    }
    // adb cuts socket addresses at it, and the engine bind mounts.
    if path.to_string_lossy().contains([':', ',']) {
        fault("state_dir", "must not hold ':' or ','".into());
    }
}

fn mqtt(config: &Config, fault: &mut impl FnMut(&str, String)) {
    let mqtt = &config.mqtt;
    if !["mqtt://", "mqtts://"].iter().any(|scheme| mqtt.url.starts_with(scheme)) {
        fault("mqtt.url", format!("{:?} must be mqtt://host:port or mqtts://host:port", mqtt.url));
    } else if mqtt.url.contains('@') {
        // Not shown: there is a password in it.
        fault("mqtt.url", "must not hold a user name: set mqtt.username and mqtt.password".into());
    }
    if mqtt.username.is_some() != mqtt.password.is_some() {
        fault("mqtt.username", "belongs together with mqtt.password: set both, or neither".into());
    }
    if mqtt.cert_file.is_some() != mqtt.key_file.is_some() {
        fault("mqtt.cert_file", "belongs together with mqtt.key_file: set both, or neither".into());
    }
    let files = [("ca_file", &mqtt.ca_file), ("cert_file", &mqtt.cert_file), ("key_file", &mqtt.key_file)];
    for (name, file) in files {
        let Some(file) = file else { continue };
        let key = format!("mqtt.{name}");
        if !mqtt.url.starts_with("mqtts://") {
            fault(&key, "is for TLS, and mqtt.url has none: write mqtts://, or leave it out".into());
        } else if let Err(error) = std::fs::File::open(file) {
            fault(&key, format!("{} cannot be read: {error}", file.display()));
        }
    }
}

fn content(config: &Config, fault: &mut impl FnMut(&str, String)) {
    let content = &config.content;
    if content.listen.is_some() != content.advertise_url.is_some() {
        fault("content.listen", "belongs together with content.advertise_url: set both, or neither".into());
    }
    if let Some(url) = &content.advertise_url {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        // The controller appends to it, and puts it into a header.
        let plain = url.len() <= 512
            && url.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\".contains(&byte));
        if !plain || rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
            fault("content.advertise_url", format!("{url:?} must be http://host:port or https://host/path"));
        }
    }
}

fn runtime(config: &Config, around: &Surroundings, fault: &mut impl FnMut(&str, String)) -> Option<PathBuf> {
    let runtime = &config.runtime;
    let images = std::iter::once(("runtime.image", &runtime.image))
        .chain(runtime.allowed_images.iter().map(|image| ("runtime.allowed_images", image)));
    for (key, image) in images {
        let spec = DeviceSpec { image: Some(image.clone()), ..DeviceSpec::default() };
        if let Some(bad) = spec.faults().into_iter().next() {
            fault(key, format!("{image:?}: {}", bad.detail));
        }
    }
    if runtime.kind == RuntimeKind::Process {
        return process_runtime(config, fault);
    }
    let (said, source) = match (&runtime.docker_host, &around.docker_host) {
        (Some(own), _) => (own.as_str(), ""),
        (None, Some(environment)) => (environment.as_str(), "from DOCKER_HOST, "),
        (None, None) => (DEFAULT_DOCKER_HOST, ""),
    };
    let socket = said.strip_prefix("unix://").filter(|path| path.starts_with('/'));
    if socket.is_none() {
        fault(
            "runtime.docker_host",
            format!(
                "{source}{said:?} must be the engine's unix socket on this machine: {DEFAULT_DOCKER_HOST}"
            ),
        );
    }
    socket.map(PathBuf::from)
}

/// No engine is asked for anything. Its socket is named all the same, and never used.
fn process_runtime(config: &Config, fault: &mut impl FnMut(&str, String)) -> Option<PathBuf> {
    let image = &config.runtime.image;
    if Profile::of_image(image) != Profile::Phonesim {
        fault(
            "runtime.image",
            format!(
                "{image:?} is no phonesim, and the process runtime runs nothing else: set image = \"phonesim\""
            ),
        );
    }
    if let Some(path) = &config.runtime.phonesim
        && !path.is_absolute()
    {
        fault("runtime.phonesim", format!("{} must be an absolute path", path.display()));
    }
    DEFAULT_DOCKER_HOST.strip_prefix("unix://").map(PathBuf::from)
}

fn ports(config: &Config, around: &Surroundings, fault: &mut impl FnMut(&str, String)) {
    let ports = &config.ports;
    for (key, range) in [("ports.adb", ports.adb), ("ports.webrtc", ports.webrtc)] {
        if range.first() < 1024 {
            fault(key, format!("{range} holds ports below 1024, which belong to the system"));
        }
        if let Some(both) = range.overlap(ADB_SCANNED) {
            fault(
                key,
                format!(
                    "{range} holds {both}: every adb server scans {ADB_SCANNED} and would show such a phone twice"
                ),
            );
        }
        if let Some(ephemeral) = around.ephemeral
            && let Some(both) = range.overlap(ephemeral)
            && !both.range().all(|port| around.reserved.iter().any(|free| free.range().contains(&port)))
        {
            fault(
                key,
                format!(
                    "{range} holds {both}, which the kernel gives to outgoing connections (net.ipv4.\
                     ip_local_port_range is {ephemeral}): choose others, or set net.ipv4.ip_local_reserved_ports={both}"
                ),
            );
        }
    }
    if let Some(both) = ports.adb.overlap(ports.webrtc) {
        fault(
            "ports.webrtc",
            format!("{} shares {both} with ports.adb: they must not overlap", ports.webrtc),
        );
    }
    let own = Some(("local_api.listen", config.local_api.listen));
    let content = config.content.listen.map(|listen| ("content.listen", listen));
    for (whose, listen) in own.into_iter().chain(content) {
        for (key, range) in [("ports.adb", ports.adb), ("ports.webrtc", ports.webrtc)] {
            if range.range().contains(&listen.port()) {
                fault(key, format!("{range} holds {}, which is {whose}", listen.port()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
