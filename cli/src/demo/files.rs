//! Configuration of the demo's daemons.

use super::engine::Runtime;
use super::image::Image;
use super::surroundings::Ports;
use crate::failure::Failure;
use std::path::Path;

/// Phones of a user, if fewer were asked for: there is to be room for trying things out.
const ROOM: u16 = 5;
/// The show orders one phone beside those that were asked for.
const ONE_MORE: u16 = 1;

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.to_string_lossy().into_owned()).to_string()
}

/// What the files are about.
#[derive(Debug)]
pub struct Files<'a> {
    /// Where they are, and the controller's database.
    pub place: &'a Path,
    /// Name of this machine in the fleet.
    pub host: &'a str,
    /// The ports.
    pub ports: &'a Ports,
    /// Where the agent's things are.
    pub agent_state: &'a Path,
}

impl Files<'_> {
    /// Writes all of them.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, image: &Image, runtime: Option<&Runtime>, phones: u16) -> Result<(), Failure> {
        let files = [
            ("mosquitto.conf", self.mosquitto()),
            ("controller.toml", self.controller(phones)),
            ("agent.toml", self.agent(image, runtime)),
        ];
        for (name, text) in files {
            let path = self.place.join(name);
            std::fs::write(&path, text)
                .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))?;
        }
        Ok(())
    }

    /// As the tests' broker: nothing is kept over a restart, the product must not need it.
    fn mosquitto(&self) -> String {
        let user = if nix::unistd::geteuid().is_root() { "user root\n" } else { "" };
        format!(
            "listener {} 127.0.0.1\nallow_anonymous true\n{user}persistence false\n\
             max_inflight_messages 100\nmax_queued_messages 100000\nset_tcp_nodelay true\n",
            self.ports.broker,
        )
    }

    fn controller(&self, phones: u16) -> String {
        format!(
            "listen = \"127.0.0.1:{}\"\ndatabase = {}\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n\
             [quota]\ndefault_max_devices = {}\n",
            self.ports.controller,
            quoted(&self.place.join("controller.db")),
            self.ports.broker,
            phones.saturating_add(ONE_MORE).max(ROOM),
        )
    }

    fn agent(&self, image: &Image, runtime: Option<&Runtime>) -> String {
        let runtime = match runtime {
            Some(Runtime::Processes(phonesim)) => {
                format!("kind = \"process\"\nphonesim = {}", quoted(phonesim))
            }
            Some(Runtime::Engine(engine)) => format!("docker_host = {:?}", engine.url()),
            None => String::new(),
        };
        format!(
            "host_id = {:?}\nstate_dir = {}\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n\
             [runtime]\nimage = {:?}\nprivilege = \"{}\"\n{runtime}\n\
             [ports]\nadb = \"{}-{}\"\nwebrtc = \"{}-{}\"\n[local_api]\nlisten = \"127.0.0.1:{}\"\n\
             [recording]\nmin_free_mb = 64\n",
            self.host,
            quoted(self.agent_state),
            self.ports.broker,
            image.name,
            image.privilege,
            self.ports.adb.start(),
            self.ports.adb.end(),
            self.ports.webrtc.start(),
            self.ports.webrtc.end(),
            self.ports.agent,
        )
    }
}
