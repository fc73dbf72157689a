//! Speaks the adb server's own protocol over its private unix socket.
//!
//! ```text
//!   ──▶ 4 hex digits, request          ◀── OKAY | FAIL + 4 hex digits, text
//!   host:connect:ADDRESS, host:devices ◀── 4 hex digits, text
//!   host:transport:SERIAL, then shell,v2,raw:COMMAND on the same connection:
//!   ──▶◀── packets: id (1 byte), length (4 bytes, little-endian), data
//!   or sync: ──▶ RECV, length, path    ◀── DATA, length, data … DONE | FAIL, length, text
//! ```
//!
//! No `adb` program is started for this: any of those would start a server of its own when
//! none answers, and exits with 0 when a device goes away in mid-command. Here only the
//! exit packet proves that a command ended.

use super::{Adb, AdbError, ShellOutput};
use async_trait::async_trait;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

/// The server answers from memory: what takes longer is a hung server.
const SERVER_ANSWER: Duration = Duration::from_secs(5);
/// The server itself gives a connection 10 s, then answers that it failed.
const SERVER_CONNECT: Duration = Duration::from_secs(13);
/// Between two looks at a device that is not there yet.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// How long a device may be `offline` or `unauthorized` in passing.
const PASSING: Duration = Duration::from_secs(2);
/// Standard output and standard error are cut here, each.
const OUTPUT_BYTES: usize = 64 * 1024;
/// No packet of the shell protocol is longer than adb's own largest payload.
const PACKET_BYTES: u32 = 1024 * 1024;

/// A piece of a file in the sync protocol has at most 64 KiB (AOSP `file_sync_protocol.h`).
const SYNC_BYTES: u32 = 64 * 1024;

const PACKET_STDOUT: u8 = 1;
const PACKET_STDERR: u8 = 2;
const PACKET_EXIT: u8 = 3;
const PACKET_CLOSE_STDIN: u8 = 4;

/// A client of one adb server. Cheap; every call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the server at that socket, which need not be there yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The server's protocol version; also the test whether it answers.
    pub async fn version(&self, deadline: Duration) -> Result<u32, AdbError> {
        let text = self.ask("host:version", deadline).await?;
        u32::from_str_radix(&text, 16).map_err(|_| garbage("a version", text.as_bytes()))
    }

    /// The state of a device as the server sees it, such as `device` or `offline`;
    /// `None` when it has no such device.
    pub async fn state(&self, address: SocketAddr) -> Result<Option<String>, AdbError> {
        let serial = address.to_string();
        let devices = self.ask("host:devices", SERVER_ANSWER).await?;
        Ok(devices
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .find(|(found, _)| *found == serial)
            .map(|(_, state)| state.trim().to_owned()))
    }

    /// A connection to one device.
    async fn transport(&self, address: SocketAddr, deadline: Duration) -> Result<Connection, AdbError> {
        let transport = async {
            let mut connection = Connection::open(&self.socket).await?;
            connection.request(&format!("host:transport:{address}")).await?;
            Ok(connection)
        };
        let patience = SERVER_ANSWER.min(deadline);
        timeout(patience, transport).await.unwrap_or_else(|_| Err(silent(patience)))
    }

    /// One request with one text as its answer.
    async fn ask(&self, request: &str, deadline: Duration) -> Result<String, AdbError> {
        let answer = async {
            let mut connection = Connection::open(&self.socket).await?;
            connection.request(request).await?;
            connection.text().await
        };
        timeout(deadline, answer).await.unwrap_or_else(|_| Err(silent(deadline)))
    }
}

#[async_trait]
impl Adb for Client {
    async fn connect(&self, address: SocketAddr, deadline: Duration) -> Result<(), AdbError> {
        let end = Instant::now() + deadline;
        let mut said = String::from("never listed");
        // Since when it has been in a state that may pass by itself.
        let mut passing: Option<Instant> = None;
        loop {
            let state = self.state(address).await?;
            let patient = passing.get_or_insert_with(Instant::now).elapsed() < PASSING;
            match state.as_deref() {
                Some("device") => return Ok(()),
                Some("unauthorized") if !patient => return Err(AdbError::Unauthorized),
                Some("unauthorized" | "authorizing" | "connecting") => {}
                Some("offline") if patient => {}
                other => {
                    // A device that stays offline is not tried again by the server until
                    // it is forgotten.
                    if other.is_some() {
                        self.disconnect(address).await?;
                    }
                    passing = None;
                    let left = SERVER_CONNECT.min(end.saturating_duration_since(Instant::now()));
                    match self.ask(&format!("host:connect:{address}"), left).await {
                        Ok(words) => said = words,
                        // Out of time for the device, no proof against the server.
                        Err(AdbError::Server(_)) if Instant::now() >= end => {}
                        Err(error) => return Err(error),
                    }
                    if (said.starts_with("connected") || said.starts_with("already"))
                        && self.state(address).await?.as_deref() == Some("device")
                    {
                        return Ok(());
                    }
                }
            }
            if Instant::now() >= end {
                let state = state.unwrap_or_else(|| "not connected".to_owned());
                return Err(AdbError::Offline(format!(
                    "{state} after {deadline:?}; the adb server said: {said}"
                )));
            }
            continue_soon(end).await;
        }
    }

    async fn disconnect(&self, address: SocketAddr) -> Result<(), AdbError> {
        match self.ask(&format!("host:disconnect:{address}"), SERVER_ANSWER).await {
            // It says so of a device that it does not have.
            Ok(_) | Err(AdbError::Offline(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn shell(
        &self,
        address: SocketAddr,
        command: &str,
        deadline: Duration,
    ) -> Result<ShellOutput, AdbError> {
        let end = Instant::now() + deadline;
        let mut connection = self.transport(address, deadline).await?;
        let session = async {
            connection.request(&format!("shell,v2,raw:{command}")).await?;
            connection.shell_output().await
        };
        timeout_at(end, session).await.unwrap_or(Err(AdbError::Timeout(deadline)))
    }

    async fn pull(
        &self,
        address: SocketAddr,
        path: &str,
        mut file: tokio::fs::File,
        limit: u64,
        deadline: Duration,
    ) -> Result<Option<u64>, AdbError> {
        let end = Instant::now() + deadline;
        let mut connection = self.transport(address, deadline).await?;
        let session = async {
            connection.request("sync:").await?;
            connection.receive(path, &mut file, limit).await
        };
        timeout_at(end, session).await.unwrap_or(Err(AdbError::Timeout(deadline)))
    }
}

async fn continue_soon(end: Instant) {
    tokio::time::sleep_until(end.min(Instant::now() + CONNECT_PAUSE)).await;
}

fn silent(deadline: Duration) -> AdbError {
    AdbError::Server(format!("no answer within {deadline:?}"))
}

fn garbage(expected: &str, got: &[u8]) -> AdbError {
    let got = String::from_utf8_lossy(&got[..got.len().min(64)]);
    AdbError::Server(format!("expected {expected}, got {got:?}: is this an adb server?"))
}

/// One connection to the server.
struct Connection {
    stream: UnixStream,
}

impl Connection {
    async fn open(socket: &Path) -> Result<Self, AdbError> {
        match UnixStream::connect(socket).await {
            Ok(stream) => Ok(Self { stream }),
            Err(error) => Err(AdbError::Server(format!("cannot connect to {}: {error}", socket.display()))),
        }
    }

    /// Sends a request and takes OKAY. FAIL is the device's fault, by the words.
    async fn request(&mut self, request: &str) -> Result<(), AdbError> {
        if request.len() > 0xffff {
            return Err(AdbError::Server(format!(
                "a request has at most 65535 bytes, this one {}",
                request.len()
            )));
        }
        let message = format!("{:04x}{request}", request.len());
        self.stream.write_all(message.as_bytes()).await.map_err(|error| lost(&error))?;
        let mut status = [0; 4];
        self.stream.read_exact(&mut status).await.map_err(|error| lost(&error))?;
        match &status {
            b"OKAY" => Ok(()),
            b"FAIL" => {
                let words = self.text().await?;
                if words.contains("unauthorized") {
                    Err(AdbError::Unauthorized)
                } else {
                    Err(AdbError::Offline(words))
                }
            }
            other => Err(garbage("OKAY or FAIL", other)),
        }
    }

    /// A text after its length; at most 65535 bytes, as four digits say no more.
    async fn text(&mut self) -> Result<String, AdbError> {
        let mut digits = [0; 4];
        self.stream.read_exact(&mut digits).await.map_err(|error| lost(&error))?;
        let length = std::str::from_utf8(&digits)
            .ok()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| usize::from_str_radix(digits, 16).ok())
            .ok_or_else(|| garbage("a length in four hexadecimal digits", &digits))?;
        let mut text = vec![0; length];
        self.stream.read_exact(&mut text).await.map_err(|error| lost(&error))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Packets up to the exit packet.
    async fn shell_output(&mut self) -> Result<ShellOutput, AdbError> {
        // No input: a command that reads must find the end, not wait for it.
        // A command that has ended already is not there to be told; what it said is.
        let _ = self.stream.write_all(&[PACKET_CLOSE_STDIN, 0, 0, 0, 0]).await;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let id = self.stream.read_u8().await.map_err(|error| device_gone(&error))?;
            let length = self.stream.read_u32_le().await.map_err(|error| device_gone(&error))?;
            if length > PACKET_BYTES {
                return Err(AdbError::Offline(format!(
                    "the device sent a packet of {length} bytes, which no shell does"
                )));
            }
            match id {
                PACKET_STDOUT => self.data(length, &mut stdout).await?,
                PACKET_STDERR => self.data(length, &mut stderr).await?,
                PACKET_EXIT => {
                    let mut status = Vec::new();
                    self.data(length, &mut status).await?;
                    let Some(status) = status.first().copied() else {
                        return Err(AdbError::Offline("the device sent an empty exit packet".to_owned()));
                    };
                    return Ok(ShellOutput {
                        stdout: String::from_utf8_lossy(&stdout).into_owned(),
                        stderr: String::from_utf8_lossy(&stderr).into_owned(),
                        status,
                    });
                }
                _ => {
                    return Err(AdbError::Offline(format!(
                        "the device sent a packet of the unknown kind {id}; its adbd lacks shell_v2?"
                    )));
                }
            }
        }
    }

    /// One file by the sync protocol, up to `limit` bytes of it.
    async fn receive(
        &mut self,
        path: &str,
        file: &mut tokio::fs::File,
        limit: u64,
    ) -> Result<Option<u64>, AdbError> {
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes();
        let request = [b"RECV", &length[..], path.as_bytes()].concat();
        self.stream.write_all(&request).await.map_err(|error| device_gone(&error))?;
        let mut bytes = 0;
        let mut buffer = vec![0; SYNC_BYTES as usize];
        loop {
            let mut id = [0; 4];
            self.stream.read_exact(&mut id).await.map_err(|error| device_gone(&error))?;
            let length = self.stream.read_u32_le().await.map_err(|error| device_gone(&error))?;
            if &id == b"DONE" {
                file.flush().await.map_err(|error| no_room(&error))?;
                return Ok(Some(bytes));
            }
            if length > SYNC_BYTES {
                return Err(AdbError::Offline(format!(
                    "the device sent {length} bytes at once, which none does"
                )));
            }
            let data = &mut buffer[..length as usize];
            self.stream.read_exact(data).await.map_err(|error| device_gone(&error))?;
            match &id {
                b"DATA" => {
                    let room = usize::try_from(limit - bytes).unwrap_or(usize::MAX);
                    let taken = &data[..data.len().min(room)];
                    file.write_all(taken).await.map_err(|error| no_room(&error))?;
                    bytes += taken.len() as u64;
                    if bytes == limit {
                        file.flush().await.map_err(|error| no_room(&error))?;
                        return Ok(Some(bytes));
                    }
                }
                b"FAIL" => {
                    let words = String::from_utf8_lossy(data);
                    return if words.contains("No such file") {
                        Ok(None)
                    } else {
                        Err(AdbError::Offline(format!("the device refused to give {path}: {words}")))
                    };
                }
                other => return Err(garbage("DATA, DONE or FAIL", other)),
            }
        }
    }

    /// Takes a packet's data; what is beyond the limit is read and dropped.
    async fn data(&mut self, length: u32, into: &mut Vec<u8>) -> Result<(), AdbError> {
        let mut left = length as usize;
        let mut buffer = [0; 4096];
        while left > 0 {
            let wanted = left.min(buffer.len());
            let got = self.stream.read(&mut buffer[..wanted]).await.map_err(|error| device_gone(&error))?;
            if got == 0 {
                return Err(device_gone(&io::ErrorKind::UnexpectedEof.into()));
            }
            let room = OUTPUT_BYTES.saturating_sub(into.len());
            into.extend_from_slice(&buffer[..got.min(room)]);
            left -= got;
        }
        Ok(())
    }
}

/// The connection broke before the server had answered.
fn lost(error: &io::Error) -> AdbError {
    AdbError::Server(format!("the connection ended before the answer: {error}"))
}

/// The connection broke while the device was speaking. The server may be the cause, too;
/// the next call will tell.
fn device_gone(error: &io::Error) -> AdbError {
    AdbError::Offline(format!("the connection ended before the command did: {error}"))
}

/// This host could not keep what the device sent.
fn no_room(error: &io::Error) -> AdbError {
    AdbError::Offline(format!("this host cannot write what the device sends: {error}"))
}

#[cfg(test)]
mod tests;
