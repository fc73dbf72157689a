//! One phone that was ordered, and the proof that nobody touched it.

use super::engine::Container;
use super::world::{Host, World, text};
use std::path::PathBuf;

/// A phone that is, or was, RUNNING.
#[derive(Clone, Debug)]
pub struct Phone {
    /// The device's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where `adb connect` finds it.
    pub address: String,
    /// Its ADB port.
    pub port: u16,
    /// On which host.
    pub host: String,
}

/// Everything that changes when somebody restarts a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    container: Container,
    boots: String,
}

impl World {
    /// Orders a phone and waits until it runs.
    pub fn phone(&self, name: &str) -> Phone {
        self.phone_with(name, &[])
    }

    /// The same with boot arguments.
    pub fn phone_with(&self, name: &str, boot_args: &[&str]) -> Phone {
        let (saga, device) = self.order(&Self::order_body(name, boot_args));
        self.completed(&saga);
        self.running_phone(&device)
    }

    /// A device that must be RUNNING, as a phone.
    pub fn running_phone(&self, device: &str) -> Phone {
        let view = self.device(device);
        assert_eq!(view["status"], "RUNNING", "{view}");
        let port = view["ports"]["adb"].as_u64().and_then(|port| port.try_into().ok());
        Phone {
            id: device.to_owned(),
            name: text(&view["name"]),
            address: text(&view["adbAddress"]),
            port: port.unwrap_or_else(|| panic!("no port: {view}")),
            host: text(&view["hostId"]),
        }
    }

    /// The host of a phone.
    pub fn host_of(&self, phone: &Phone) -> &Host {
        self.hosts.iter().find(|host| host.id == phone.host).expect("a host of this world")
    }

    /// What proves that a phone was not restarted, if it is the same later.
    pub fn witness(&self, phone: &Phone) -> Witness {
        let host = self.host_of(phone);
        let containers = host.containers();
        let container = containers.into_iter().find(|container| container.device == phone.id);
        let container = container.unwrap_or_else(|| panic!("{} has no container", phone.name));
        assert_eq!(container.state, "running", "{}", phone.name);
        Witness { container, boots: self.boots(phone) }
    }

    /// How often its present data has seen a boot, as the phone itself counts.
    pub fn boots(&self, phone: &Phone) -> String {
        let path = self.data(phone).join("phonesim/boots");
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned()
    }

    /// Where the host keeps its newest data.
    pub fn data(&self, phone: &Phone) -> PathBuf {
        let folder = self.host_of(phone).state.join("phones").join(&phone.id);
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let newest = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let epoch = path.file_name()?.to_str()?.strip_prefix("data-")?.parse::<u32>().ok()?;
                Some((epoch, path))
            })
            .max();
        newest.unwrap_or_else(|| panic!("no data in {}", folder.display())).1
    }

    /// A property of a phone, through the user's adb.
    pub fn getprop(&self, phone: &Phone, property: &str) -> String {
        self.adb.connect(&phone.address);
        self.adb.shell(&phone.address, &format!("getprop {property}")).expect("getprop")
    }
}
