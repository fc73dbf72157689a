//! Where a video is: on this machine, or behind an address that its host serves.

use crate::store::host::HostRow;
use crate::store::recording::RecordingRow;
use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::time::Timestamp;
use ring::hmac;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// How long a signed address is good for: long enough to follow a redirection and to begin
/// again once, too short to be passed on.
pub const VALID_FOR: Duration = Duration::from_secs(300);

/// Where a video can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In this folder of this machine, if its marker says so.
    Here(PathBuf),
    /// At this address of its host.
    There(String),
    /// Nowhere that this controller could tell.
    Nowhere,
}

/// Where the videos of `host` are, seen from machine `own`. `directory` is only believed
/// after a look at its marker; where that fails, ask again with `own` unknown.
pub fn whereabouts(host: &HostRow, own: Option<&str>, row: &RecordingRow, now: Timestamp) -> Whereabouts {
    let access = &host.report.content;
    let directory = PathBuf::from(&access.directory);
    if own == Some(host.machine_id.as_str()) && directory.is_absolute() {
        return Whereabouts::Here(directory);
    }
    let url = access.url.as_deref().filter(|url| is_plain(url));
    match (url, access.key.as_deref().and_then(bytes)) {
        (Some(url), Some(key)) => Whereabouts::There(signed(url, &key, row.recording_id, now)),
        _ => Whereabouts::Nowhere,
    }
}

/// `URL/recordings/ID/content?expires=UNIX&signature=HEX`, with HMAC-SHA256 over
/// `ID\nUNIX`: what the agent's content listener checks.
pub fn signed(url: &str, key: &[u8], recording: RecordingId, now: Timestamp) -> String {
    let expires = now.after(VALID_FOR).0 / 1000;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, format!("{recording}\n{expires}").as_bytes());
    let mut signature = String::with_capacity(64);
    for byte in tag.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(signature, "{byte:02x}");
    }
    let url = url.trim_end_matches('/');
    format!("{url}/recordings/{recording}/content?expires={expires}&signature={signature}")
}

/// An address that can stand in a header, and that no parameter can be hidden in.
fn is_plain(url: &str) -> bool {
    (url.starts_with("http://") || url.starts_with("https://"))
        && url.len() <= 512
        && url.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\".contains(&byte))
}

/// The bytes that a hexadecimal text stands for; `None` when it is none, or too short to be
/// a key.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    if digits.len() < 32 || !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_signed_as_the_host_checks_them() {
        let recording = "0190a1b2-0000-7000-8000-000000000000".parse().unwrap();
        let key = bytes(&"0b".repeat(32)).unwrap();
        let address = signed("http://10.0.0.1:30003/", &key, recording, Timestamp(1_700_000_000_999));
        // python3 -c 'import hmac; print(hmac.new(b"\x0b"*32, b"<id>\n1700000300", "sha256").hexdigest())'
        assert_eq!(
            address,
            "http://10.0.0.1:30003/recordings/0190a1b2-0000-7000-8000-000000000000/content\
             ?expires=1700000300&signature=023c89497a52b3757aa6e34ffea5803f58db72854c989e385a70043b3e0bf49a"
        );
    }

    #[test]
    fn keys_and_addresses_are_checked() {
        assert_eq!(bytes(&"aF".repeat(16)), Some(vec![0xaf; 16]));
        for bad in ["", "ab", &"a".repeat(65), &"xy".repeat(32), &"é".repeat(32)] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        assert!(is_plain("https://phones.example:8443/base"));
        for bad in
            ["", "ftp://x", "http://x\r\nX: y", "http://x?a", "http://x#", "http://x y", "javascript:1"]
        {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
