//! Builds the container spec of a phone. Pure: no IO, no clock.
//!
//! ```text
//!   DeviceSpec (the order) ─┐
//!   ContainerSettings (host)┼─▶ container_spec ─▶ ContainerSpec ─▶ Engine::create
//!   Ports, data directory  ─┘
//! ```
//!
//! Redroid takes settings only as arguments of `/init`, never from the environment, and
//! splits them at spaces; `DeviceSpec::faults` has refused what would not survive that.

use super::{
    Container, ContainerSpec, LABEL_DEVICE, LABEL_GENERATION, LABEL_HOST, LABEL_SPEC_HASH, Privilege,
};
use crate::store::port_lease::PortKind;
use phonefleet_protocol::facts::Ports;
use phonefleet_protocol::id::{DeviceId, HostId};
use phonefleet_protocol::spec::{DeviceSpec, GpuMode};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Label with the published ADB port: what a host without a database can adopt by.
pub const LABEL_PORT_ADB: &str = "phonefleet.port.adb";
/// Label with the port kept for a WebRTC streamer.
pub const LABEL_PORT_WEBRTC: &str = "phonefleet.port.webrtc";

/// The port of this kind that a container's labels name.
pub fn labelled_port(container: &Container, kind: PortKind) -> Option<u16> {
    let label = match kind {
        PortKind::Adb => LABEL_PORT_ADB,
        PortKind::Webrtc => LABEL_PORT_WEBRTC,
    };
    container.labels.get(label)?.parse().ok()
}

/// What the host decides for all its phones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSettings {
    /// The own host, for the labels.
    pub host: HostId,
    /// Image of an order that names none.
    pub default_image: String,
    /// How much power a phone gets.
    pub privilege: Privilege,
    /// Where ADB ports are published.
    pub bind: IpAddr,
}

/// What a kind of image needs beside its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Android in a container.
    Redroid,
    /// The stand-in of tests and demonstrations: a few processes.
    Phonesim,
}

impl Profile {
    /// The profile of an image, told by the last part of its name.
    pub fn of_image(image: &str) -> Self {
        let name = image.rsplit('/').next().unwrap_or(image);
        if name.contains("phonesim") { Self::Phonesim } else { Self::Redroid }
    }

    /// Threads at most: Android alone runs more than 1500.
    const fn pids_limit(self) -> i64 {
        match self {
            Self::Redroid => 8192,
            Self::Phonesim => 256,
        }
    }

    /// Open files, soft and hard.
    const fn open_files(self) -> (u64, u64) {
        match self {
            Self::Redroid => (65_536, 1_048_576),
            Self::Phonesim => (1024, 4096),
        }
    }
}

/// Name and hostname of a device's container: from the device id alone, so that a lost
/// answer to a creation can be found again.
pub fn container_name(device: DeviceId) -> String {
    format!("phonefleet-{device}")
}

/// The serial number that the phone boots with (`ro.serialno`), and that it must show
/// after every connect: ports pass from one phone to another.
pub fn serial(device: DeviceId) -> String {
    device.0.simple().to_string()
}

/// Whether orders may name this image here. The default image always may be named.
pub fn image_allowed(image: &str, default_image: &str, allowed: &[String]) -> bool {
    image == default_image || allowed.iter().any(|one| one == image)
}

/// Everything needed to create the phone's container.
pub fn container_spec(
    settings: &ContainerSettings,
    device: DeviceId,
    generation: u64,
    spec: &DeviceSpec,
    ports: Ports,
    data_dir: &Path,
) -> ContainerSpec {
    let image = spec.image.clone().unwrap_or_else(|| settings.default_image.clone());
    let profile = Profile::of_image(&image);
    let mut built = ContainerSpec {
        name: container_name(device),
        command: init_arguments(device, spec),
        labels: BTreeMap::new(),
        memory_bytes: spec.memory_mb.saturating_mul(1 << 20),
        nano_cpus: (spec.cpu_cores * 1e9).round() as u64,
        pids_limit: profile.pids_limit(),
        shm_bytes: 64 << 20,
        open_files: profile.open_files(),
        bind: settings.bind,
        adb_port: ports.adb,
        data_dir: data_dir.to_owned(),
        privilege: settings.privilege,
        image,
    };
    built.labels = BTreeMap::from([
        (LABEL_HOST.to_owned(), settings.host.to_string()),
        (LABEL_DEVICE.to_owned(), device.to_string()),
        (LABEL_GENERATION.to_owned(), generation.to_string()),
        (LABEL_PORT_ADB.to_owned(), ports.adb.to_string()),
        (LABEL_PORT_WEBRTC.to_owned(), ports.webrtc.to_string()),
        (LABEL_SPEC_HASH.to_owned(), spec_hash(&built)),
    ]);
    built
}

fn init_arguments(device: DeviceId, spec: &DeviceSpec) -> Vec<String> {
    let gpu = match spec.gpu_mode {
        GpuMode::Guest => "guest",
        GpuMode::Host => "host",
        GpuMode::Auto => "auto",
    };
    let mut arguments = vec![
        // ashmem left the kernel in 5.18.
        "androidboot.use_memfd=1".to_owned(),
        format!("androidboot.serialno={}", serial(device)),
        format!("androidboot.redroid_width={}", spec.width),
        format!("androidboot.redroid_height={}", spec.height),
        format!("androidboot.redroid_dpi={}", spec.dpi),
        format!("androidboot.redroid_fps={}", spec.fps),
        format!("androidboot.redroid_gpu_mode={gpu}"),
    ];
    arguments.extend(spec.boot_args.iter().cloned());
    arguments
}

/// What the container is built from, as 16 hex digits: differs when the container has to
/// be built anew. The generation is not in it. Changing this text rebuilds no phone by
/// itself, but makes every existing one look changed.
fn spec_hash(spec: &ContainerSpec) -> String {
    let text = serde_json::json!([
        1,
        spec.image,
        spec.command,
        spec.memory_bytes,
        spec.nano_cpus,
        spec.pids_limit,
        spec.shm_bytes,
        spec.open_files,
        spec.bind,
        spec.adb_port,
        spec.data_dir,
        spec.privilege,
    ])
    .to_string();
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "018f3b2a-0000-7000-8000-000000000001";
    const PORTS: Ports = Ports { adb: 20_017, webrtc: 21_017 };

    fn settings() -> ContainerSettings {
        ContainerSettings {
            host: "h1".parse().unwrap(),
            default_image: "redroid/redroid:14.0.0-latest".into(),
            privilege: Privilege::Privileged,
            bind: "127.0.0.1".parse().unwrap(),
        }
    }

    fn build(spec: &DeviceSpec, generation: u64, data: &str) -> ContainerSpec {
        container_spec(&settings(), DEVICE.parse().unwrap(), generation, spec, PORTS, data.as_ref())
    }

    #[test]
    fn a_phone_with_defaults_is_built_to_the_letter() {
        let spec = DeviceSpec { boot_args: vec!["ro.secure=0".into()], ..DeviceSpec::default() };
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            build(&spec, 7, "/var/lib/phonefleet/phones/x/data-0"),
            ContainerSpec {
                name: format!("phonefleet-{DEVICE}"),
                image: "redroid/redroid:14.0.0-latest".into(),
                command: [
                    "androidboot.use_memfd=1",
                    "androidboot.serialno=018f3b2a000070008000000000000001",
                    "androidboot.redroid_width=720",
                    "androidboot.redroid_height=1280",
                    "androidboot.redroid_dpi=320",
                    "androidboot.redroid_fps=30",
                    "androidboot.redroid_gpu_mode=guest",
                    "ro.secure=0",
                ]
                .map(String::from)
                .to_vec(),
                labels: BTreeMap::from([
                    label("phonefleet.host", "h1"),
                    label("phonefleet.device", DEVICE),
                    label("phonefleet.generation", "7"),
                    label("phonefleet.port.adb", "20017"),
                    label("phonefleet.port.webrtc", "21017"),
                    // Golden: containers of earlier releases carry it.
                    label("phonefleet.spec-hash", "32c54fc6abb599b7"),
                ]),
                memory_bytes: 4 << 30,
                nano_cpus: 2_000_000_000,
                pids_limit: 8192,
                shm_bytes: 64 << 20,
                open_files: (65_536, 1_048_576),
                bind: "127.0.0.1".parse().unwrap(),
                adb_port: 20_017,
                data_dir: "/var/lib/phonefleet/phones/x/data-0".into(),
                privilege: Privilege::Privileged,
            }
        );
    }

    #[test]
    fn the_hash_follows_what_is_built_and_nothing_else() {
        let hash = |spec: &DeviceSpec, generation, data| {
            build(spec, generation, data).labels.remove(LABEL_SPEC_HASH).unwrap()
        };
        let plain = DeviceSpec::default();
        let first = hash(&plain, 1, "/a");
        assert_eq!(first, hash(&plain, 2, "/a"));
        assert_eq!(first, hash(&DeviceSpec { storage_mb: Some(5), ..plain.clone() }, 1, "/a"));
        assert_ne!(first, hash(&plain, 1, "/b"));
        assert_ne!(first, hash(&DeviceSpec { cpu_cores: 0.5, ..plain.clone() }, 1, "/a"));
        assert_ne!(first, hash(&DeviceSpec { fps: 15, ..plain }, 1, "/a"));
    }

    #[test]
    fn the_stand_in_needs_less() {
        assert_eq!(Profile::of_image("phonefleet/phonesim:dev"), Profile::Phonesim);
        assert_eq!(Profile::of_image("localhost:5000/phonesim@sha256:0"), Profile::Phonesim);
        assert_eq!(Profile::of_image("phonesim/redroid:11"), Profile::Redroid);
        let spec = DeviceSpec { image: Some("phonefleet/phonesim:dev".into()), ..DeviceSpec::default() };
        assert_eq!(build(&spec, 1, "/a").pids_limit, 256);
    }

    #[test]
    fn arguments_the_host_sets_cannot_be_ordered() {
        for argument in init_arguments(DEVICE.parse().unwrap(), &DeviceSpec::default()) {
            let key = argument.split('=').next().unwrap();
            assert!(phonefleet_protocol::spec::RESERVED_BOOT_ARGUMENTS.contains(&key), "{key}");
        }
    }

    #[test]
    fn images_are_allowed_by_name() {
        let allowed = ["b:1".to_owned()];
        assert!(image_allowed("a:1", "a:1", &[]));
        assert!(image_allowed("b:1", "a:1", &allowed));
        assert!(!image_allowed("b:2", "a:1", &allowed));
        assert!(!image_allowed("b", "a:1", &allowed));
    }
}
