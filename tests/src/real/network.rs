//! A second machine's network: a namespace with its own loopback, joined to this one by
//! a wire.

use super::program::run;
use std::ffi::OsString;

/// Goes with the value.
#[derive(Debug)]
pub struct Network {
    name: String,
}

impl Network {
    /// The address of this side of the wire.
    pub const HERE: &str = "198.51.100.1";
    /// The address of the other side.
    pub const THERE: &str = "198.51.100.2";

    /// Makes the namespace and the wire.
    pub fn make(name: &str) -> Self {
        let near = format!("{name}-near");
        let far = format!("{name}-far");
        let (here, there) = (format!("{}/30", Self::HERE), format!("{}/30", Self::THERE));
        let ip = |words: &[&str]| run(std::iter::once("ip").chain(words.iter().copied())).expect("ip");
        ip(&["netns", "add", name]);
        let network = Self { name: name.to_owned() };
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name]);
        ip(&["addr", "add", &here, "dev", &near]);
        ip(&["link", "set", &near, "up"]);
        ip(&["-n", name, "addr", "add", &there, "dev", &far]);
        ip(&["-n", name, "link", "set", &far, "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        network
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a command begins with to run in there. Not `ip netns exec`: that hides the
    /// control groups.
    pub fn prefix(&self) -> Vec<OsString> {
        vec!["nsenter".into(), format!("--net=/run/netns/{}", self.name).into()]
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The wire goes with it, as soon as no process is in there any more.
        let _ = run(["ip", "netns", "del", &self.name]);
    }
}
