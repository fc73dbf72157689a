//! Asks a running agent for its status, or for orphans. Blocking: for a command that ends after it.

use crate::orphan::Report;
use crate::status::Status;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The agent answers from memory and one short read of its database.
const PATIENCE: Duration = Duration::from_secs(5);
/// A host with thousands of phones stays far below.
const ANSWER_BYTES: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not an agent.
    #[error(
        "no agent answers at {address}: {why}; does it run, and is local_api.listen of the same configuration?"
    )]
    NoAnswer {
        /// Where it was looked for.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
}

/// The status of the agent that listens there, as it sent it and as it reads.
pub fn status(address: SocketAddr) -> Result<(String, Status), ClientError> {
    ask(address, "/status")
}

/// What belongs to no device of that agent, looked for now.
pub fn orphans(address: SocketAddr) -> Result<(String, Report), ClientError> {
    ask(address, "/orphans")
}

fn ask<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<(String, T), ClientError> {
    let no_answer = |why: String| ClientError::NoAnswer { address, why };
    let body = get(address, path).map_err(|error| no_answer(error.to_string()))?;
    let answer = serde_json::from_str(&body).map_err(|error| no_answer(error.to_string()))?;
    Ok((body, answer))
}

/// One HTTP/1.0 call: the answer ends with the connection, and is never in chunks.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("the answer is no HTTP"))?;
    let line = head.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) != Some("200") {
        return Err(std::io::Error::other(format!("it answered {line:?}")));
    }
    Ok(body.to_owned())
}
