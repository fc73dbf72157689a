//! A user's own `adb`: the real client, with a server that nobody else uses.

use super::program::Program;
use super::until;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A server and the client for it. Ends with the value.
#[derive(Debug)]
pub struct Adb {
    socket: PathBuf,
    home: PathBuf,
    prefix: Vec<OsString>,
    _server: Program,
}

/// Kept away from every other server and from the search for emulators.
const QUIET: [(&str, &str); 3] = [("ADB_EMU", "0"), ("ADB_USB", "0"), ("ADB_MDNS", "0")];

impl Adb {
    /// Starts a server; `prefix` is what its command begins with, such as another network.
    pub fn start(folder: &Path, prefix: Vec<OsString>) -> Self {
        let home = folder.join("user-adb");
        std::fs::create_dir_all(&home).expect("a home of adb");
        let socket = home.join("adb.sock");
        let listen = format!("localfilesystem:{}", socket.display());
        let mut command = prefix.clone();
        command.extend(["adb", "-L", &listen, "nodaemon", "server"].map(OsString::from));
        let mut variables = QUIET.to_vec();
        let home_text = home.to_string_lossy().into_owned();
        variables.push(("HOME", &home_text));
        let server = Program::start_with("the user's adb server", command, &home.join("log"), &variables);
        until("the user's adb server answers", Duration::from_secs(10), || {
            UnixStream::connect(&socket).map(drop).map_err(|error| error.to_string())
        });
        Self { socket, home, prefix, _server: server }
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let mut words = self.prefix.clone();
        words.push("adb".into());
        words.extend(arguments.iter().map(OsString::from));
        Command::new(&words[0])
            .args(&words[1..])
            .env("ADB_SERVER_SOCKET", format!("localfilesystem:{}", self.socket.display()))
            .env("HOME", &self.home)
            .envs(QUIET)
            .stdin(Stdio::null())
            .output()
            .expect("adb runs")
    }

    /// `adb ARGUMENTS`; what it printed, if it succeeded.
    ///
    /// # Errors
    /// What it printed, if not.
    pub fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let output = self.output(arguments);
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Err(format!("adb {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Connects until the phone is there. A phone that was away is looked for afresh, or
    /// `adb` would wait ten seconds by itself.
    pub fn connect(&self, address: &str) {
        until(&format!("adb connect {address}"), Duration::from_secs(60), || {
            let _ = self.run(&["connect", address]);
            let state = self.run(&["-s", address, "get-state"]).map(|state| text(&state));
            match state.as_deref() {
                Ok("device") => Ok(()),
                other => {
                    let _ = self.run(&["disconnect", address]);
                    Err(format!("{other:?}"))
                }
            }
        });
    }

    /// `adb shell COMMAND` on a phone that is connected; what it printed.
    ///
    /// # Errors
    /// The command failed, or the phone went away.
    pub fn shell(&self, address: &str, command: &str) -> Result<String, String> {
        self.run(&["-s", address, "shell", command]).map(|output| text(&output))
    }

    /// `adb exec-out COMMAND`: its output to the byte.
    ///
    /// # Errors
    /// The command failed, or the phone went away.
    pub fn exec_out(&self, address: &str, command: &str) -> Result<Vec<u8>, String> {
        self.run(&["-s", address, "exec-out", command])
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// What an adb server at a unix socket lists, as (address, state). Asked without `adb`,
/// which would start a server where there is none.
pub fn listed_by(socket: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"000chost:devices")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let lines = answer.get(8..).unwrap_or_default().lines();
    Ok(lines
        .filter_map(|line| line.split_once('\t'))
        .map(|(address, state)| (address.to_owned(), state.to_owned()))
        .collect())
}
