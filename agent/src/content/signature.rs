//! The key that signs addresses of videos, and the test of one.

use crate::store::meta::{self, CONTENT_KEY};
use crate::store::{Notice, Tx};
use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::{Store, WriteError, rusqlite};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt::Write as _;

/// Bytes of a key, and of a signature.
const BYTES: usize = 32;
/// An address that is good for longer than this was not made by a controller.
const LONGEST_MS: i64 = 24 * 60 * 60 * 1000;

/// What addresses are signed with. Where `[content]` is set, its text is in every hello to the
/// controller: whoever may read this host's topics on the broker can sign addresses. It is drawn
/// once for a database, and changes with a new database only.
pub struct Key {
    key: hmac::Key,
    text: String,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for the key of videos")]
    Random,
    /// The database refused.
    #[error("the key of videos cannot be kept: {0}")]
    Store(#[from] WriteError<rusqlite::Error>),
    /// What the database has is no key.
    #[error("the key of videos in the database is none; remove the row {CONTENT_KEY} of the table meta")]
    Damaged,
}

impl Key {
    /// The key of this database, made when there is none yet.
    pub async fn of(store: &Store<Notice>) -> Result<Self, KeyError> {
        let mut fresh = [0; BYTES];
        SystemRandom::new().fill(&mut fresh).map_err(|_| KeyError::Random)?;
        let fresh = hexadecimal(&fresh);
        let text = store
            .write(move |tx: &mut Tx<'_>| {
                if let Some(known) = meta::get(tx, CONTENT_KEY)? {
                    return Ok(known);
                }
                meta::set(tx, CONTENT_KEY, &fresh)?;
                Ok::<_, rusqlite::Error>(fresh.clone())
            })
            .await?;
        Self::from_text(text).ok_or(KeyError::Damaged)
    }

    fn from_text(text: String) -> Option<Self> {
        let bytes = bytes(&text)?;
        Some(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), text })
    }

    /// As the controller is told: 64 hexadecimal digits.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether an address is signed and still good. The comparison takes the same time
    /// wherever a wrong signature begins to be wrong.
    pub fn allows(&self, recording: RecordingId, expires: &str, signature: &str, now: Timestamp) -> bool {
        let Some(signature) = bytes(signature) else { return false };
        // Signed as it was written: another way to write the number has another signature.
        let Ok(seconds) = expires.parse::<i64>() else { return false };
        let until = seconds.saturating_mul(1000);
        let good = until >= now.0 && until.saturating_sub(now.0) <= LONGEST_MS;
        let signed =
            hmac::verify(&self.key, format!("{recording}\n{expires}").as_bytes(), &signature).is_ok();
        good && signed
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of 64 hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * BYTES || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..BYTES).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A key and what it signs, for tests.
    pub fn key() -> Key {
        Key::from_text("0f".repeat(BYTES)).unwrap()
    }

    /// The signature of an address.
    pub fn sign(key: &Key, recording: RecordingId, expires: &str) -> String {
        hexadecimal(hmac::sign(&key.key, format!("{recording}\n{expires}").as_bytes()).as_ref())
    }

    #[test]
    fn only_what_is_signed_and_still_good_is_allowed() {
        let (key, now) = (key(), Timestamp(1_000_000_000));
        let id: RecordingId = "018f3b2a-0000-7000-8000-000000000001".parse().unwrap();
        let other: RecordingId = "018f3b2a-0000-7000-8000-000000000002".parse().unwrap();
        let good = sign(&key, id, "1000100");
        assert!(key.allows(id, "1000100", &good, now));
        assert!(key.allows(id, "1000100", &good.to_uppercase(), now));
        assert!(!key.allows(other, "1000100", &good, now));
        assert!(!key.allows(id, "1000101", &good, now));
        assert!(!key.allows(id, "1000100", &good, Timestamp(1_000_101_000)));
        for expires in ["999999", "9999999999999999999", "-5", "", "1e9", "1100000000"] {
            assert!(!key.allows(id, expires, &sign(&key, id, expires), now), "{expires}");
        }
        for signature in ["", "0", &good[..63], &format!("{good}0"), &"é".repeat(32), &"0".repeat(64)] {
            assert!(!key.allows(id, "1000100", signature, now), "{signature}");
        }
    }

    #[tokio::test]
    async fn a_database_keeps_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.db");
        let opened = crate::store::open(&path, phonefleet_store::Mode::Threaded).unwrap();
        let first = Key::of(&opened.store).await.unwrap();
        let second = Key::of(&opened.store).await.unwrap();
        assert_eq!((first.text(), first.text().len()), (second.text(), 64));
    }
}
