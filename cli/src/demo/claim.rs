//! What only one demo of this network may have: ports from the moment they are chosen, long
//! before a daemon or a phone listens there, and the bridge of an engine of its own.
//!
//! A claim is an abstract unix socket with a name that all demos agree on. The kernel lets one
//! process have it, takes it away with that process however it ends, and knows it in exactly
//! the network that ports and bridges are in. There is nothing to clean up.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Something that is this demo's as long as this value, or this process, lives.
#[derive(Debug)]
pub struct Claim {
    _socket: UnixListener,
}

impl Claim {
    /// `None`: another demo of this network has it.
    pub fn take(what: &str) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("phonefleet-demo {what}")).ok()?;
        UnixListener::bind_addr(&name).ok().map(|socket| Self { _socket: socket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_it_lets_go() {
        let what = format!("test {}", std::process::id());
        let first = Claim::take(&what);
        assert!(first.is_some());
        assert!(Claim::take(&what).is_none());
        assert!(Claim::take(&format!("{what} 2")).is_some());
        drop(first);
        assert!(Claim::take(&what).is_some());
    }
}
