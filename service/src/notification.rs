//! The service manager's socket, and what is said to it.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Longest status line, bytes: the manager shows one line of a terminal.
const STATUS_BYTES: usize = 400;

/// One message, in the manager's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The start is complete.
    Ready,
    /// One line for people.
    Status(&'a str),
    /// The daemon makes progress.
    Watchdog,
    /// The daemon ends in order.
    Stopping,
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => out.write_str("READY=1"),
            // A line end would begin another message.
            Self::Status(line) => write!(out, "STATUS={}", cut(line).replace(['\n', '\r', '\0'], " ")),
            Self::Watchdog => out.write_str("WATCHDOG=1"),
            Self::Stopping => out.write_str("STOPPING=1"),
        }
    }
}

fn cut(line: &str) -> &str {
    &line[..line.floor_char_boundary(STATUS_BYTES)]
}

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Notifier {
    /// The manager that `NOTIFY_SOCKET` names; `None` where nobody runs this process as a
    /// service.
    pub fn from_environment() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET")?;
        match Self::to(&name) {
            Ok(notifier) => Some(notifier),
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "NOTIFY_SOCKET cannot be used; the service manager is told nothing");
                None
            }
        }
    }

    /// A socket's path, or `@` and the name of an abstract one.
    ///
    /// # Errors
    /// What the system says; a name that is neither.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let manager = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("it is neither an absolute path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that is slow must not stop the daemon; what counts is said again.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, manager })
    }

    /// Tells it something.
    ///
    /// # Errors
    /// Its queue is full, or it is gone.
    pub fn tell(&self, message: Message<'_>) -> io::Result<()> {
        self.socket.send_to_addr(message.to_string().as_bytes(), &self.manager).map(drop)
    }
}

/// How often the manager wants to hear of progress at least; `None` if it does not, or if it
/// means another process.
pub fn watchdog_period() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    period_of(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), std::process::id())
}

fn period_of(microseconds: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    if process.is_some_and(|process| process != own.to_string()) {
        return None;
    }
    let period = Duration::from_micros(microseconds?.parse().ok()?);
    Some(period).filter(|period| !period.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_a_socket_by_path_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("phonefleet-service-{}", std::process::id());
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        for (receiver, name) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let notifier = Notifier::to(&name).unwrap();
            let mut buffer = [0; 1000];
            for (message, bytes) in [
                (Message::Ready, "READY=1"),
                (Message::Status("waits\nREADY=1"), "STATUS=waits READY=1"),
                (Message::Watchdog, "WATCHDOG=1"),
                (Message::Stopping, "STOPPING=1"),
            ] {
                notifier.tell(message).unwrap();
                let length = receiver.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], bytes.as_bytes());
            }
        }
        assert!(Notifier::to(OsStr::new("notify")).is_err());
        assert!(Notifier::to(OsStr::new("")).is_err());
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let line = "ü".repeat(STATUS_BYTES);
        let text = Message::Status(&line).to_string();
        assert_eq!(text.len(), "STATUS=".len() + STATUS_BYTES);
    }

    #[test]
    fn a_watchdog_of_another_process_is_none_of_ours() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(period_of(Some("1000000"), None, 7), second);
        assert_eq!(period_of(Some("1000000"), Some("7"), 7), second);
        assert_eq!(period_of(Some("1000000"), Some("8"), 7), None);
        for nonsense in [None, Some("0"), Some("-1"), Some("soon")] {
            assert_eq!(period_of(nonsense, None, 7), None);
        }
    }
}
