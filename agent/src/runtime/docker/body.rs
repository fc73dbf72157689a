//! The create request of a phone's container.
//!
//! What is not said here is left to the engine: among it the network (bridge, so that the
//! interface is eth0, as Redroid wants it) and the score for memory kills.

use crate::runtime::{ContainerSpec, Privilege};
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountBindOptions, MountType, PortBinding,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::HashMap;
use std::path::Path;

/// Where adbd listens in the phone.
const ADB_IN_PHONE: &str = "5555/tcp";

/// The request. Limits are taken as they are: see `limits`.
pub(super) fn create(spec: &ContainerSpec) -> ContainerCreateBody {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let binding =
        PortBinding { host_ip: Some(spec.bind.to_string()), host_port: Some(spec.adb_port.to_string()) };
    let mut config = HostConfig {
        mounts: Some(vec![bind(&spec.data_dir, "/data")]),
        port_bindings: Some(HashMap::from([(ADB_IN_PHONE.to_owned(), Some(vec![binding]))])),
        memory: Some(signed(spec.memory_bytes)),
        memory_swap: Some(signed(spec.memory_bytes)),
        nano_cpus: Some(signed(spec.nano_cpus)),
        pids_limit: Some(spec.pids_limit),
        shm_size: Some(signed(spec.shm_bytes)),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("nofile".to_owned()),
            soft: Some(signed(spec.open_files.0)),
            hard: Some(signed(spec.open_files.1)),
        }]),
        // The agent starts phones again: with its checks, its back-off and its count.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "2m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    };
    match spec.privilege {
        Privilege::Privileged => config.privileged = Some(true),
        Privilege::Reduced => reduce(&mut config),
        Privilege::None => {}
    }
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        hostname: Some(spec.name.clone()),
        tty: Some(true),
        open_stdin: Some(true),
        // The image's entry point is /init with its first arguments; these follow.
        cmd: Some(spec.command.clone()),
        exposed_ports: Some(vec![ADB_IN_PHONE.to_owned()]),
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_timeout: Some(10),
        host_config: Some(config),
        ..ContainerCreateBody::default()
    }
}

/// The variant that is reported to boot Redroid 14 without `privileged`. Without SYS_BOOT
/// its init takes SIGTERM for a shutdown, and the engine keeps parts of /proc read-only.
fn reduce(config: &mut HostConfig) {
    config.cap_add = Some(vec!["ALL".to_owned()]);
    config.cap_drop = Some(vec!["SYS_BOOT".to_owned()]);
    config.security_opt = Some(vec!["seccomp=unconfined".to_owned(), "apparmor=unconfined".to_owned()]);
    config.device_cgroup_rules = Some(vec!["c *:* rwm".to_owned()]);
    if let Some(mounts) = &mut config.mounts {
        mounts.push(bind(Path::new("/sys"), "/sys"));
    }
}

fn bind(source: &Path, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        bind_options: Some(MountBindOptions {
            // A source that is missing is an error, never an empty directory.
            create_mountpoint: Some(false),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn spec(privilege: Privilege) -> ContainerSpec {
        ContainerSpec {
            name: "phonefleet-x".into(),
            image: "redroid/redroid:14".into(),
            command: vec!["androidboot.use_memfd=1".into()],
            labels: BTreeMap::from([("phonefleet.host".into(), "h1".into())]),
            memory_bytes: 1 << 30,
            nano_cpus: 2_000_000_000,
            pids_limit: 8192,
            shm_bytes: 64 << 20,
            open_files: (1024, 4096),
            bind: "127.0.0.1".parse().unwrap(),
            adb_port: 20_017,
            data_dir: "/var/lib/phonefleet/phones/x/data-0".into(),
            privilege,
        }
    }

    #[test]
    fn the_request_is_the_one_in_the_books() {
        let body = serde_json::to_value(create(&spec(Privilege::Privileged))).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "Image": "redroid/redroid:14",
                "Hostname": "phonefleet-x",
                "Tty": true,
                "OpenStdin": true,
                "Cmd": ["androidboot.use_memfd=1"],
                "ExposedPorts": {"5555/tcp": {}},
                "Labels": {"phonefleet.host": "h1"},
                "StopTimeout": 10,
                "HostConfig": {
                    "Privileged": true,
                    "Mounts": [{"Type": "bind", "Target": "/data",
                        "Source": "/var/lib/phonefleet/phones/x/data-0",
                        "BindOptions": {"CreateMountpoint": false}}],
                    "PortBindings": {"5555/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20017"}]},
                    "Memory": 1_073_741_824_u64,
                    "MemorySwap": 1_073_741_824_u64,
                    "NanoCpus": 2_000_000_000_u64,
                    "PidsLimit": 8192,
                    "ShmSize": 67_108_864,
                    "RestartPolicy": {"Name": "no"},
                    "LogConfig": {"Type": "json-file", "Config": {"max-size": "2m", "max-file": "2"}},
                    "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 4096}],
                },
            })
        );
    }

    #[test]
    fn less_power_is_asked_for_when_less_is_configured() {
        let none = create(&spec(Privilege::None)).host_config.unwrap();
        assert_eq!((none.privileged, none.cap_add, none.security_opt), (None, None, None));
        let reduced = create(&spec(Privilege::Reduced)).host_config.unwrap();
        assert_eq!(reduced.privileged, None);
        assert_eq!(reduced.cap_drop.unwrap(), ["SYS_BOOT"]);
        assert_eq!(reduced.mounts.unwrap().len(), 2);
    }
}
