//! What hosts may ask for. Everything else is refused, as by Debian's adbd: `root`,
//! `remount`, `reboot` and port forwarding among it.

mod shell;
mod shell_packet;
mod sync;
mod sync_message;

use super::connection::Channel;

/// A service, ready to be given its stream.
pub type Service = Box<dyn FnOnce(Channel) + Send>;

/// The service of that name, if there is one.
pub fn find(name: &str) -> Option<Service> {
    if name == "sync:" {
        return Some(Box::new(|channel| {
            // The host has gone in the middle; there is nobody to be told.
            let _ = sync::serve(&channel);
        }));
    }
    let request = shell::Request::parse(name)?;
    Some(Box::new(move |channel| shell::serve(&channel, &request)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_served_is_refused() {
        for name in ["reboot:", "root:", "tcp:80", "jdwp:1", "", "shell", "sync", "shellfish:"] {
            assert!(find(name).is_none(), "{name}");
        }
        assert!(find("sync:").is_some() && find("shell:").is_some());
    }
}
