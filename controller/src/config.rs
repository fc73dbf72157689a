//! `controller.toml`, and every key of it as `PHONEFLEET_CONTROLLER__SECTION__KEY`.

use crate::controller::Settings;
use crate::quota::Policy;
use crate::saga::{
    self, RetryPolicy, device_creation, device_reboot, device_reset, device_start, device_stop,
};
use phonefleet_link::Delivery;
use phonefleet_link::mqtt::MqttOptions;
use phonefleet_protocol::topic::Channel;
use phonefleet_settings::{Bounds, Loaded, Loader, Secret, SettingsError};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Prefix of the environment variables.
pub const PREFIX: &str = "PHONEFLEET_CONTROLLER";

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the API. Loopback only: there is no login yet.
    pub listen: SocketAddr,
    /// The database file; two more of that name with `-wal` and `-shm` lie beside it. Its directory is made if it is missing.
    pub database: PathBuf,
    /// The broker.
    pub mqtt: Mqtt,
    /// Limits of users.
    pub quota: Quota,
    /// Durable transactions.
    pub saga: Saga,
    /// Who counts as alive.
    pub presence: Presence,
}

/// `[mqtt]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// `mqtt://host:port`, or `mqtts://host:port` for TLS.
    pub url: String,
    /// Login name.
    pub username: Option<String>,
    /// Password of the login; needs `username`. Best given by the environment.
    pub password: Option<Secret>,
    /// PEM certificates that the broker's is checked against; `mqtts://` only.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate of this client, together with `key_file`; `mqtts://` only.
    pub cert_file: Option<PathBuf>,
    /// PEM private key of this client, together with `cert_file`; `mqtts://` only.
    pub key_file: Option<PathBuf>,
}

/// `[quota]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Where limits come from. Only `local` is built: the controller's own table, `PUT /quotas/{userId}`.
    pub source: String,
    /// `maxDevices` of users who were never given one; their other limits are then unlimited.
    pub default_max_devices: u64,
}

/// `[saga]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Saga {
    /// Retries of a step after its first attempt.
    pub retries: u32,
    /// Pause before the first retry, ms; doubles with each.
    pub first_pause_ms: u64,
    /// Longest pause, ms; not less than `first_pause_ms`.
    pub longest_pause_ms: u64,
    /// Deadline of a creation: after it, what there is of the device is undone. A deletion has no deadline.
    pub creation_timeout_seconds: u64,
    /// Deadline of a start, from its acceptance to its end.
    pub start_timeout_seconds: u64,
    /// Deadline of a stop, from its acceptance to its end.
    pub stop_timeout_seconds: u64,
    /// Deadline of a reboot, from its acceptance to its end.
    pub reboot_timeout_seconds: u64,
    /// Deadline of a reset, from its acceptance to its end.
    pub reset_timeout_seconds: u64,
}

/// `[presence]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Presence {
    /// Silence after which a host is UNREACHABLE: it gets no new devices. Hosts are heard every 10 s.
    pub seconds: u64,
    /// Silence after which it is LOST. Its devices stay as they were last heard of, and nothing is given up before an operator says `forget`. Not less than `seconds`.
    pub lost_after_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 30002)),
            database: PathBuf::from("/var/lib/phonefleet-controller/controller.db"),
            mqtt: Mqtt::default(),
            quota: Quota::default(),
            saga: Saga::default(),
            presence: Presence::default(),
        }
    }
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

impl Default for Quota {
    fn default() -> Self {
        Self { source: "local".to_owned(), default_max_devices: Policy::default().default_max_devices }
    }
}

impl Default for Saga {
    fn default() -> Self {
        let usual = RetryPolicy::default();
        let millis = |pause: Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Self {
            retries: usual.retries,
            first_pause_ms: millis(usual.first_pause),
            longest_pause_ms: millis(usual.longest_pause),
            creation_timeout_seconds: 600,
            start_timeout_seconds: 300,
            stop_timeout_seconds: 300,
            reboot_timeout_seconds: 600,
            reset_timeout_seconds: 600,
        }
    }
}

impl Default for Presence {
    fn default() -> Self {
        let usual = Settings::default();
        Self { seconds: usual.presence.as_secs(), lost_after_seconds: usual.lost_after.as_secs() }
    }
}

/// What the absence of a value means, for `--print-config`.
pub const UNSET: &[(&str, &str)] = &[
    ("mqtt.username", "no user name"),
    ("mqtt.password", "no password"),
    ("mqtt.ca_file", "the system's certificates are trusted (mqtts only)"),
    ("mqtt.cert_file", "no client certificate"),
    ("mqtt.key_file", "no client certificate"),
];

/// Reads the configuration from the file, if any, and from the process's environment.
///
/// # Errors
/// Every key that is wrong, with where it was set and what is allowed.
pub fn load(file: Option<&Path>) -> Result<Loaded<Config>, SettingsError> {
    check(Loader::new(PREFIX).file(file).load()?)
}

fn check(loaded: Loaded<Config>) -> Result<Loaded<Config>, SettingsError> {
    let config = &loaded.value;
    let mut faults = Vec::new();
    let mut fault = |key: &str, detail: String| faults.push(loaded.fault(key, detail));
    if !config.listen.ip().is_loopback() {
        let detail = format!(
            "{} is not a loopback address, and the API has no authentication yet; use 127.0.0.1 or [::1]",
            config.listen
        );
        fault("listen", detail);
    }
    if config.database.as_os_str().is_empty() {
        fault("database", "must be the path of a file".to_owned());
    }
    if config.quota.source != "local" {
        fault(
            "quota.source",
            format!(
                "{:?} is not built; limits come from \"local\", the controller's own table",
                config.quota.source
            ),
        );
    }
    if !["mqtt://", "mqtts://"].iter().any(|scheme| config.mqtt.url.starts_with(scheme)) {
        fault("mqtt.url", "must begin with mqtt:// or mqtts://, such as mqtt://127.0.0.1:1883".to_owned());
    }
    if config.mqtt.password.is_some() && config.mqtt.username.is_none() {
        fault("mqtt.password", "needs mqtt.username as well".to_owned());
    }
    match (&config.mqtt.cert_file, &config.mqtt.key_file) {
        (Some(_), None) => fault("mqtt.cert_file", "needs mqtt.key_file as well".to_owned()),
        (None, Some(_)) => fault("mqtt.key_file", "needs mqtt.cert_file as well".to_owned()),
        _ => {}
    }
    let tls = [
        ("mqtt.ca_file", &config.mqtt.ca_file),
        ("mqtt.cert_file", &config.mqtt.cert_file),
        ("mqtt.key_file", &config.mqtt.key_file),
    ];
    for (key, path) in tls {
        if path.is_some() && !config.mqtt.url.starts_with("mqtts://") {
            fault(key, "is used with mqtts:// only; change mqtt.url".to_owned());
        }
    }
    for bounds in config.bounds() {
        if let Some(detail) = bounds.fault() {
            fault(bounds.key, detail);
        }
    }
    if faults.is_empty() { Ok(loaded) } else { Err(SettingsError { faults }) }
}

impl Saga {
    /// Deadlines by type of saga.
    pub fn deadlines(&self) -> [(&'static str, Duration); 5] {
        [
            (device_creation::DEFINITION.saga_type, self.creation_timeout_seconds),
            (device_start::DEFINITION.saga_type, self.start_timeout_seconds),
            (device_stop::DEFINITION.saga_type, self.stop_timeout_seconds),
            (device_reboot::DEFINITION.saga_type, self.reboot_timeout_seconds),
            (device_reset::DEFINITION.saga_type, self.reset_timeout_seconds),
        ]
        .map(|(saga_type, seconds)| (saga_type, Duration::from_secs(seconds)))
    }
}

impl Config {
    /// The numbers that have a least and a most.
    pub fn bounds(&self) -> [Bounds; 11] {
        let Self { saga, presence, quota, .. } = self;
        [
            ("saga.retries", u64::from(saga.retries), 0, 100),
            ("saga.first_pause_ms", saga.first_pause_ms, 1, 3_600_000),
            ("saga.longest_pause_ms", saga.longest_pause_ms, saga.first_pause_ms, 3_600_000),
            ("saga.creation_timeout_seconds", saga.creation_timeout_seconds, 1, 86_400),
            ("saga.start_timeout_seconds", saga.start_timeout_seconds, 1, 86_400),
            ("saga.stop_timeout_seconds", saga.stop_timeout_seconds, 1, 86_400),
            ("saga.reboot_timeout_seconds", saga.reboot_timeout_seconds, 1, 86_400),
            ("saga.reset_timeout_seconds", saga.reset_timeout_seconds, 1, 86_400),
            ("presence.seconds", presence.seconds, 30, 3600),
            ("presence.lost_after_seconds", presence.lost_after_seconds, presence.seconds, 604_800),
            ("quota.default_max_devices", quota.default_max_devices, 0, 1 << 53),
        ]
        .map(|(key, value, least, most)| Bounds { key, value, least, most })
    }

    /// What the controller takes of it. To be called once: see
    /// [`saga::registry_with_deadlines`].
    pub fn settings(&self) -> Settings {
        Settings {
            quota: Policy { default_max_devices: self.quota.default_max_devices },
            retry: RetryPolicy {
                retries: self.saga.retries,
                first_pause: Duration::from_millis(self.saga.first_pause_ms),
                longest_pause: Duration::from_millis(self.saga.longest_pause_ms),
            },
            registry: saga::registry_with_deadlines(&self.saga.deadlines()),
            presence: Duration::from_secs(self.presence.seconds),
            lost_after: Duration::from_secs(self.presence.lost_after_seconds),
            ..Settings::default()
        }
    }

    /// How the broker is reached. `client_id` must differ between clients of the broker.
    pub fn mqtt_options(&self, client_id: String) -> MqttOptions {
        MqttOptions {
            url: self.mqtt.url.clone(),
            username: self.mqtt.username.clone(),
            password: self.mqtt.password.as_ref().map(|password| password.reveal().to_owned()),
            ca_file: self.mqtt.ca_file.clone(),
            cert_file: self.mqtt.cert_file.clone(),
            key_file: self.mqtt.key_file.clone(),
            client_id,
            subscriptions: vec![
                (Channel::Up.of_all(), Delivery::AtLeastOnce),
                (Channel::Presence.of_all(), Delivery::AtLeastOnce),
                (Channel::Telemetry.of_all(), Delivery::AtMostOnce),
            ],
            last_will: None,
            keep_alive: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Loaded<Config>, SettingsError> {
        let variables =
            variables.iter().map(|(key, value)| (format!("{PREFIX}__{key}"), (*value).to_owned()));
        check(Loader::new(PREFIX).environment(variables.collect()).load()?)
    }

    #[test]
    fn defaults_hold_and_are_printed() {
        let loaded = with(&[]).unwrap();
        assert_eq!(loaded.value, Config::default());
        let text = loaded.print(UNSET);
        assert!(text.contains("listen = \"127.0.0.1:30002\""), "{text}");
        assert!(text.contains("quota.default_max_devices = 5"), "{text}");
        assert!(text.contains("# mqtt.password is unset: no password"), "{text}");
        let settings = loaded.value.settings();
        assert_eq!(settings.retry, RetryPolicy::default());
        for usual in saga::REGISTRY.0 {
            assert_eq!(settings.registry.in_force(usual).timeout, usual.timeout, "{}", usual.saga_type);
        }
    }

    #[test]
    fn deadlines_reach_the_definitions() {
        let loaded = with(&[("SAGA__CREATION_TIMEOUT_SECONDS", "90")]).unwrap();
        let registry = loaded.value.settings().registry;
        let creation = registry.in_force(&device_creation::DEFINITION);
        assert_eq!(creation.timeout, Some(Duration::from_secs(90)));
        assert_eq!(registry.in_force(&saga::device_deletion::DEFINITION).timeout, None);
    }

    #[test]
    fn what_cannot_work_names_its_key() {
        let table = [
            (("LISTEN", "0.0.0.0:30002"), "listen", "loopback"),
            (("LISTEN", "localhost"), "listen", "socket address"),
            (("QUOTA__SOURCE", "upstream"), "quota.source", "not built"),
            (("MQTT__URL", "http://x"), "mqtt.url", "mqtt://"),
            (("MQTT__CERT_FILE", "/x"), "mqtt.cert_file", "key_file"),
            (("MQTT__PASSWORD", "x"), "mqtt.password", "username"),
            (("SAGA__RETRIES", "101"), "saga.retries", "0 to 100"),
            (("PRESENCE__SECONDS", "29"), "presence.seconds", "30"),
            (("PRESENCE__LOST_AFTER_SECONDS", "1"), "presence.lost_after_seconds", "30"),
            (("SAGA__RETRY", "1"), "saga.retry", "unknown"),
            (("QUOTA__DEFAULT_MAX_DEVICES", "many"), "quota.default_max_devices", "invalid"),
        ];
        for (variable, key, word) in table {
            let error = with(&[variable]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(word), "{variable:?}: {error}");
            assert!(error.contains(&format!("{PREFIX}__{}", variable.0)), "{error}");
        }
    }
}
