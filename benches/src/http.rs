//! The least HTTP client: one connection that is kept, one call at a time.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest answer, in bytes.
const LARGEST: usize = 64 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: address.to_string(), buffer: Vec::new() })
    }

    /// Posts JSON under an idempotency key, and returns the answer's status and body.
    pub async fn post(&mut self, path: &str, key: &str, body: &str) -> Result<(u16, &str)> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server hung up");
            ensure!(self.buffer.len() <= LARGEST, "the answer is too large");
            if let Some((status, body)) = whole(&self.buffer)? {
                return Ok((status, std::str::from_utf8(&self.buffer[body..])?));
            }
        }
    }
}

/// Status of an answer that is there to its end, and where its body begins.
fn whole(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .context("an answer without a length")?
        .trim()
        .parse()?;
    let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
    let body = end + 4;
    Ok((bytes.len() >= body + length).then_some((status, body)))
}
