//! A mosquitto of the world's own: killed and started again, it has forgotten everything.

use super::program::Program;
use super::until;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Ends with the value.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    program: Program,
}

/// A port that nobody has at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Broker {
    /// Starts one with the settings of the environment's, on a free port of the loopback
    /// and the same port of further addresses.
    pub fn start(folder: &Path, further: &[String]) -> Self {
        let settings = std::env::var_os("PHONEFLEET_TEST_MOSQUITTO_CONFIG")
            .map(|path| std::fs::read_to_string(path).expect("the environment's mosquitto.conf"))
            .unwrap_or_default();
        let port = free_port();
        let mut text = format!("listener {port} 127.0.0.1\n");
        for address in further {
            let _ = writeln!(text, "listener {port} {address}"); // a String takes all
        }
        for line in settings.lines().filter(|line| !line.trim_start().starts_with("listener")) {
            text += line.trim_start();
            text += "\n";
        }
        let file = folder.join("mosquitto.conf");
        std::fs::write(&file, text).expect("mosquitto.conf");
        let command = ["mosquitto".as_ref(), "-c".as_ref(), file.as_os_str()];
        let program = Program::start("mosquitto", command, &folder.join("mosquitto.log"));
        let broker = Self { address: SocketAddr::from(([127, 0, 0, 1], port)), program };
        broker.until_up();
        broker
    }

    fn until_up(&self) {
        until("the broker listens", Duration::from_secs(10), || {
            TcpStream::connect(self.address).map(drop).map_err(|error| error.to_string())
        });
    }

    /// Where it listens on the loopback.
    pub fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// Where it listens on one of its further addresses.
    pub fn url_at(&self, address: &str) -> String {
        format!("mqtt://{address}:{}", self.address.port())
    }

    /// `kill -9`: sessions, queues and retained messages are gone for good.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// An empty one in its place.
    pub fn start_again(&mut self) {
        self.program.start_again();
        self.until_up();
    }

    /// Its process.
    pub fn program(&self) -> &Program {
        &self.program
    }
}
