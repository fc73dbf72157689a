//! The agent's configuration: every key, its default, and what is refused.
//!
//! | module | what lives there |
//! |---|---|
//! | [`port_range`] | `"20000-20999"` |
//! | [`settings`] | the configuration in the words of the parts that use it |
//! | [`validation`] | what types cannot say: each fault names its key |
//!
//! Layers, origins and unknown keys are the crate `phonefleet-settings`: a key is
//! `PHONEFLEET_AGENT__SECTION__KEY` in the environment.

pub mod port_range;
pub mod settings;
pub mod validation;

use crate::runtime::Privilege;
use phonefleet_settings::{Loaded, Loader, Secret, SettingsError};
use port_range::PortRange;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Prefix of the environment variables.
pub const PREFIX: &str = "PHONEFLEET_AGENT";

/// What the absence of a value means, for `--print-config`.
pub const UNSET: &[(&str, &str)] = &[
    ("capacity.max_devices", "unlimited"),
    ("capacity.cpu_cores", "unlimited"),
    ("capacity.memory_mb", "unlimited"),
    ("runtime.docker_host", "DOCKER_HOST, or unix:///var/run/docker.sock"),
    ("runtime.phonesim", "phonesim beside the agent's program, or in PATH"),
    ("content.listen", "videos are not served"),
    ("content.advertise_url", "videos are not served"),
    ("mqtt.username", "no login"),
    ("mqtt.password", "no login"),
    ("mqtt.ca_file", "the system's root certificates"),
    ("mqtt.cert_file", "no client certificate"),
    ("mqtt.key_file", "no client certificate"),
];

/// `agent.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of this host in the fleet: 1 to 63 of a-z, 0-9 and `-`, not `selftest-` first, and nobody else's. Has to be given.
    pub host_id: String,
    /// Database, sockets, videos and the phones' data. Absolute, short (a socket below it has at most 107 bytes), without `:` and `,`; made with mode 0700.
    pub state_dir: PathBuf,
    /// The broker.
    pub mqtt: Mqtt,
    /// The container engine.
    pub runtime: Runtime,
    /// Ports given to phones.
    pub ports: Ports,
    /// How much this host takes on.
    pub capacity: Capacity,
    /// Starting phones.
    pub boot: Boot,
    /// Videos.
    pub recording: Recording,
    /// Serving videos.
    pub content: Content,
    /// The agent's own HTTP API.
    pub local_api: LocalApi,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host_id: String::new(),
            state_dir: PathBuf::from("/var/lib/phonefleet"),
            mqtt: Mqtt::default(),
            runtime: Runtime::default(),
            ports: Ports::default(),
            capacity: Capacity::default(),
            boot: Boot::default(),
            recording: Recording::default(),
            content: Content::default(),
            local_api: LocalApi::default(),
        }
    }
}

/// `[mqtt]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// `mqtt://host:port`, or `mqtts://host:port` for TLS. No login in it.
    pub url: String,
    /// Login name, together with `password`.
    pub username: Option<String>,
    /// Password of the login, together with `username`. Best given by the environment.
    pub password: Option<Secret>,
    /// PEM certificates that the broker's is checked against; `mqtts://` only.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate of this client, together with `key_file`; `mqtts://` only.
    pub cert_file: Option<PathBuf>,
    /// PEM private key of this client, together with `cert_file`; `mqtts://` only.
    pub key_file: Option<PathBuf>,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".to_owned(),
            username: None,
            password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

/// What runs phones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Containers of a Docker engine.
    #[default]
    Docker,
    /// Processes of this machine, for machines without an engine: simulated phones only.
    Process,
}

impl RuntimeKind {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Process => "process",
        }
    }
}

/// `[runtime]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// What runs phones.
    pub kind: RuntimeKind,
    /// Image of orders that name none.
    pub image: String,
    /// Further images that orders may name.
    pub allowed_images: Vec<String>,
    /// The engine's socket, `unix:///path/of/docker.sock`. The engine has to be on this machine.
    pub docker_host: Option<String>,
    /// How much power a phone's container gets.
    pub privilege: Privilege,
    /// With `kind = "process"`: the program that phones are.
    pub phonesim: Option<PathBuf>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            kind: RuntimeKind::Docker,
            image: "redroid/redroid:14.0.0-latest".to_owned(),
            allowed_images: Vec::new(),
            docker_host: None,
            privilege: Privilege::Privileged,
            phonesim: None,
        }
    }
}

/// `[ports]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    /// Ports that ADB is published at, one a device. From 1024 on, outside of 5555-5585 (adb servers scan those) and of the kernel's ephemeral ports, unless reserved (`net.ipv4.ip_local_reserved_ports`).
    pub adb: PortRange,
    /// Ports kept for WebRTC streamers, one a device, under the same rules; no overlap with `adb`.
    pub webrtc: PortRange,
    /// Address that they are published at. ADB is a root shell for whoever reaches it.
    pub bind: IpAddr,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            adb: PortRange::new(20_000, 20_999),
            webrtc: PortRange::new(21_000, 21_999),
            bind: Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// `[capacity]`; what is unset is unlimited.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capacity {
    /// Devices at most.
    pub max_devices: Option<u32>,
    /// Processors that orders may add up to; above 0.
    pub cpu_cores: Option<f64>,
    /// Memory in MiB that orders may add up to; above 0.
    pub memory_mb: Option<u64>,
}

/// `[boot]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Boot {
    /// From the start of a container to a completed boot. A boot that takes longer fails, and says where it stood.
    pub timeout_seconds: u64,
}

impl Default for Boot {
    fn default() -> Self {
        Self { timeout_seconds: 120 }
    }
}

/// `[recording]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recording {
    /// How long videos are kept, from their end.
    pub keep_days: u32,
    /// Nothing more is recorded when less than this (MiB) would stay free on the disk of `state_dir`.
    pub min_free_mb: u64,
}

impl Default for Recording {
    fn default() -> Self {
        Self { keep_days: 7, min_free_mb: 512 }
    }
}

/// `[content]`; unset, videos are read by a controller on this machine only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Content {
    /// Where videos are served over HTTP, to whoever has a signed address. Together with `advertise_url`.
    pub listen: Option<SocketAddr>,
    /// How others reach `listen`: `http://host:port`, or the address of a proxy in front of it.
    pub advertise_url: Option<String>,
}

/// `[local_api]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalApi {
    /// Address of `/status`, `/orphans`, `/healthz`, `/readyz` and `/metrics`. Loopback only: there is no login.
    pub listen: SocketAddr,
}

impl Default for LocalApi {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 30_010)) }
    }
}

/// Reads the layers; see [`validation::check`] for what comes next.
pub fn load(file: Option<&Path>) -> Result<Loaded<Config>, SettingsError> {
    Loader::new(PREFIX).file(file).load()
}
