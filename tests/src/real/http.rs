//! Small blocking HTTP/1.1: one connection a call, over TCP or a unix socket.

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(60);

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its head, lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The data of an answer that must be a success with this status.
    pub fn data(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let mut json = self.json();
        assert_eq!(json["success"], true, "{json}");
        json["data"].take()
    }

    /// The document of a refusal that must have this status and code.
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let json = self.json();
        assert_eq!((self.status, &json["code"]), (status, &Value::from(code)), "{json}");
        assert_eq!(json["success"], false, "{json}");
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        json
    }
}

/// The controller's API.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Api {
    /// One call. A call without an answer is told as the error that it met.
    ///
    /// # Errors
    /// Those of the connection: whether the call took effect is unknown.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> io::Result<Reply> {
        let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        let mut headers = String::new();
        if let Some(key) = key {
            headers = format!("Idempotency-Key: {key}\r\n");
        }
        exchange(stream, &self.address.to_string(), method, path, &headers, body)
    }

    /// One call, repeated for as long as the controller is away; what takes effect does so
    /// once, by an `Idempotency-Key` of its own.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let key = (method != "GET").then(fresh_key);
        super::until(&format!("an answer to {method} {path}"), SILENCE, || {
            self.try_call(method, path, key.as_deref(), body).map_err(|error| error.to_string())
        })
    }

    /// GET; the data of a success.
    pub fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).data(200)
    }

    /// POST.
    pub fn post(&self, path: &str, body: Option<&Value>) -> Reply {
        self.call("POST", path, body)
    }

    /// PUT.
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.call("PUT", path, Some(body))
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, None)
    }
}

fn fresh_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One call over a unix socket, as the engine listens on.
///
/// # Errors
/// Those of the connection.
pub fn over_socket(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> io::Result<Reply> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE))?;
    exchange(stream, "engine", method, path, "", body)
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&Value>,
) -> io::Result<Reply> {
    let body = body.map(Value::to_string);
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}");
    if let Some(body) = &body {
        let length = body.len();
        // A String takes all.
        let _ = write!(request, "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    } else {
        request += "\r\n";
    }
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is not whole"))
}

/// Reads an answer; `None` where it is not whole.
pub fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let raw = &bytes[end + 4..];
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let body = if header("transfer-encoding:") == Some("chunked") {
        unchunk(raw)?
    } else {
        let length = header("content-length:").and_then(|length| length.parse().ok());
        raw.get(..length.unwrap_or(raw.len()))?.to_vec()
    };
    Some(Reply { status, head, body })
}

fn unchunk(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = raw.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&raw[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        raw = &raw[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(raw.get(..size)?);
        raw = raw.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn answers_of_known_length_and_in_chunks() {
        let plain = parse(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((plain.status, plain.text().as_str()), (202, "{}"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().text(), "[1]");
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").is_none(), "cut off");
        assert!(parse(b"HTTP/1.1 200").is_none());
    }
}
