//! The configuration in the words of the parts that use it.

use super::validation::Surroundings;
use super::{Config, PortRange};
use crate::content::signature::Key;
use crate::port::PortSettings;
use crate::recording::RecordingSettings;
use crate::runtime::redroid::ContainerSettings;
use phonefleet_link::mqtt::MqttOptions;
use phonefleet_link::transport::{Delivery, Outgoing};
use phonefleet_protocol::host::{Capacity, ContentAccess, HostReport};
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::topic::Channel;
use phonefleet_settings::Secret;
use std::time::Duration;

impl Config {
    /// What the host takes on.
    pub fn protocol_capacity(&self) -> Capacity {
        Capacity {
            max_devices: self.capacity.max_devices,
            cpu_cores: self.capacity.cpu_cores,
            memory_mb: self.capacity.memory_mb,
        }
    }

    /// What all phones of this host have in common.
    pub fn container_settings(&self, host: &HostId) -> ContainerSettings {
        ContainerSettings {
            host: host.clone(),
            default_image: self.runtime.image.clone(),
            privilege: self.runtime.privilege,
            bind: self.ports.bind,
        }
    }

    /// Where ports are leased from.
    pub fn port_settings(&self, around: &Surroundings) -> PortSettings {
        // Validation let ports of the ephemeral range pass only if the kernel keeps its
        // hands off them; then they must not be left out here.
        let shares = |ephemeral: &PortRange| {
            [self.ports.adb, self.ports.webrtc].iter().any(|range| range.overlap(*ephemeral).is_some())
        };
        PortSettings {
            adb: self.ports.adb.range(),
            webrtc: self.ports.webrtc.range(),
            ephemeral: around.ephemeral.filter(|range| !shares(range)).map(PortRange::range),
        }
    }

    /// How long videos are kept, and how much room they leave.
    pub fn recording_settings(&self) -> RecordingSettings {
        RecordingSettings {
            keep: Duration::from_secs(u64::from(self.recording.keep_days) * 24 * 60 * 60),
            min_free_bytes: self.recording.min_free_mb.saturating_mul(1 << 20),
        }
    }

    /// How to reach the broker. Two agents with one host id do not throw each other out of
    /// the broker for ever: both are heard, and the controller says that there are two.
    pub fn mqtt_options(&self, host: &HostId, instance: &str, last_will: Outgoing) -> MqttOptions {
        MqttOptions {
            url: self.mqtt.url.clone(),
            username: self.mqtt.username.clone(),
            password: self.mqtt.password.as_ref().map(Secret::reveal).map(str::to_owned),
            ca_file: self.mqtt.ca_file.clone(),
            cert_file: self.mqtt.cert_file.clone(),
            key_file: self.mqtt.key_file.clone(),
            client_id: format!("phonefleet-agent-{host}-{instance}"),
            subscriptions: vec![(Channel::Down.of(host), Delivery::AtLeastOnce)],
            last_will: Some(last_will),
            keep_alive: Duration::from_secs(10),
        }
    }

    /// The host's description, without what only the engine can tell.
    pub fn report(&self, machine_cpu_cores: u32, machine_memory_mb: u64, key: &Key) -> HostReport {
        HostReport {
            capacity: self.protocol_capacity(),
            image: self.runtime.image.clone(),
            allowed_images: self.runtime.allowed_images.clone(),
            runtime: self.runtime.kind.name().to_owned(),
            engine_version: String::new(),
            machine_cpu_cores,
            machine_memory_mb,
            address: self.ports.bind.to_string(),
            content: ContentAccess {
                directory: self.state_dir.join("recordings").display().to_string(),
                url: self.content.advertise_url.clone(),
                key: self.content.advertise_url.is_some().then(|| key.text().to_owned()),
                keep_days: Some(self.recording.keep_days),
            },
        }
    }
}
