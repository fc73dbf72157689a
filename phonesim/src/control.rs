//! How commands reach PID 1: one datagram `name=value` for each property that is an order
//! (`sys.powerctl`, `ctl.start`, `ctl.stop`), as Android's property service is a socket of
//! init. A socket and not a watched directory: inotify instances are scarce on a host with
//! many phones.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use crate::power::{POWER_CONTROL, PowerAction};
use crate::root::Root;

/// Longer datagrams are cut, and then not understood.
const LONGEST_ORDER: usize = 256;

/// Something that only PID 1 can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End the phone.
    Power(PowerAction),
    /// Start a service.
    Start(String),
    /// Stop a service.
    Stop(String),
}

impl Order {
    /// Whether setting this property is an order and not a value to be kept.
    pub fn is_order(property: &str) -> bool {
        property == POWER_CONTROL || property.starts_with("ctl.")
    }

    /// Reads the order that setting a property gives.
    pub fn parse(property: &str, value: &str) -> Option<Self> {
        match property {
            POWER_CONTROL => PowerAction::parse(value).map(Self::Power),
            "ctl.start" => Some(Self::Start(value.to_owned())),
            "ctl.stop" => Some(Self::Stop(value.to_owned())),
            _ => None,
        }
    }
}

/// Hands an order to PID 1; fails when there is none.
pub fn send(root: &Root, property: &str, value: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(root.control_socket())?;
    socket.send(format!("{property}={value}").as_bytes())?;
    Ok(())
}

/// PID 1's end.
#[derive(Debug)]
pub struct OrderSocket(UnixDatagram);

impl OrderSocket {
    /// Listens afresh; a socket left by an earlier boot is removed.
    pub fn bind(root: &Root) -> io::Result<Self> {
        let path = root.control_socket();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        // The shell user gives orders too.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(Self(socket))
    }

    /// The next order that waits, if any; datagrams that are none are passed over.
    pub fn next(&self) -> Option<Order> {
        let mut buffer = [0; LONGEST_ORDER];
        loop {
            let length = self.0.recv(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..length]);
            if let Some((property, value)) = text.split_once('=')
                && let Some(order) = Order::parse(property, value)
            {
                return Some(order);
            }
        }
    }
}

impl AsFd for OrderSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
