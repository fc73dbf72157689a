//! phonesim's own `adbd`, for phones that are processes and have no Debian beside them, and
//! for faults that a real one cannot show.
//!
//! | module | what lives there |
//! |---|---|
//! | [`packet`] | the wire format, sans-IO |
//! | [`session`] | one host's conversation, sans-IO |
//! | [`connection`] | that conversation over a socket, shared by threads |
//! | [`service`] | what hosts ask for: shells and files |
//! | [`session_leader`] | how a shell gets a session and a terminal of its own |
//!
//! The listening socket is standard input, as from an inetd that waits: whoever started the
//! phone holds the port for as long as it runs, adbd or not. A thread for each host and a
//! few for each of its streams; a phone has a handful.

mod connection;
mod packet;
mod service;
mod session;
pub mod session_leader;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};

use crate::console;
use crate::fault::{Fault, Faults};
use crate::properties::Properties;
use crate::root::Root;
use connection::Connection;
use session::{Manner, Session};

/// What this adbd can do; hosts use what they know of it, too.
const FEATURES: &str = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir";

/// Hosts at once.
const MOST_HOSTS: usize = 64;

/// Pause after a connection that could not be taken, such as for want of descriptors.
const AGAIN: Duration = Duration::from_millis(100);

/// Enough for what threads do here; the default would be 2 MiB each.
const STACK_BYTES: usize = 256 * 1024;

/// Whether standard input is a socket that listens: what [`run`] needs.
pub fn has_listener() -> bool {
    getsockopt(&io::stdin(), sockopt::AcceptConn).unwrap_or(false)
}

/// Serves hosts until it is killed.
pub fn run(root: &Root, _arguments: &[String]) -> ExitCode {
    if !has_listener() {
        console::error(format_args!("adbd: standard input must be a listening TCP socket"));
        return ExitCode::FAILURE;
    }
    let listener = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => TcpListener::from(socket),
        Err(error) => {
            console::error(format_args!("adbd: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let properties = Properties::of(root);
    let faults = Faults::ordered(&properties);
    let hosts = Arc::new(AtomicUsize::new(0));
    loop {
        let socket = match listener.accept() {
            Ok((socket, _)) if hosts.load(Ordering::Relaxed) < MOST_HOSTS => socket,
            // Closed at once: there are too many.
            Ok(_) => continue,
            Err(error) => {
                console::error(format_args!("adbd: cannot take a connection: {error}"));
                std::thread::sleep(AGAIN);
                continue;
            }
        };
        let (faults, banner, hosts) = (faults.clone(), banner(&properties), Arc::clone(&hosts));
        hosts.fetch_add(1, Ordering::Relaxed);
        let counted = Arc::clone(&hosts);
        let served = thread("host", move || {
            if let Err(error) = serve(socket, &faults, banner) {
                console::error(format_args!("adbd: a connection ended: {error}"));
            }
            hosts.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = served {
            counted.fetch_sub(1, Ordering::Relaxed);
            console::error(format_args!("adbd: cannot serve a host: {error}"));
        }
    }
}

fn serve(socket: TcpStream, faults: &Faults, banner: String) -> io::Result<()> {
    // Answers are small and waited for.
    socket.set_nodelay(true)?;
    if faults.has(Fault::AdbSilent) {
        return listen_only(&socket, &[]);
    }
    if faults.has(Fault::AdbGarbage) {
        return listen_only(&socket, &garbage());
    }
    let manner = if faults.has(Fault::AdbAuth) {
        Manner::RefuseKeys
    } else if faults.has(Fault::AdbAuthOnce) {
        Manner::TakeFirstKey
    } else if faults.has(Fault::AdbHalfOpen) {
        Manner::FallSilent
    } else {
        Manner::Open
    };
    Connection::run(socket, Session::new(manner, banner), service::find)
}

/// Hears the host out; to its first words it says `answer`.
fn listen_only(mut socket: &TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut answered = false;
    while socket.read(&mut buffer)? > 0 {
        if !answered {
            socket.write_all(answer)?;
            answered = true;
        }
    }
    Ok(())
}

/// Bytes that are no packet, wherever one begins to read.
fn garbage() -> Vec<u8> {
    (0..4096_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect()
}

/// What the phone says of itself. No value may hold what separates them.
fn banner(properties: &Properties) -> String {
    let value = |name: &str| properties.get(name).unwrap_or_default().replace([';', '='], " ");
    format!(
        "device::ro.product.name={};ro.product.model={};ro.product.device={};features={FEATURES}",
        value("ro.product.name"),
        value("ro.product.model"),
        value("ro.product.device"),
    )
}

/// A thread with a small stack.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work)
}
