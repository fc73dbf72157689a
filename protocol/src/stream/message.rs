//! What the two ends say to each other: hellos and frames, as JSON.

use super::chain::{Chain, from_hexadecimal, hexadecimal};
use crate::host::HostReport;
use crate::id::{FleetId, HostId, MachineId};
use crate::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;

/// Lowest and highest protocol version that this program speaks.
pub const PROTOCOL: Versions = Versions { lowest: 1, highest: 1 };

/// The random identity of a log: new with every new database and after every fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hexadecimal(self.0))
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_hexadecimal(deserializer).map(Self)
    }
}

/// A receiver's cursor: every item of `epoch` up to and including `through` is applied
/// and committed, and their hash is `chain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which log.
    pub epoch: Epoch,
    /// Number of the last applied item; 0 before the first.
    pub through: u64,
    /// The chain after that item.
    pub chain: Chain,
}

/// A sender's log: what it holds, from the oldest kept item to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// Which log.
    pub epoch: Epoch,
    /// Number of the oldest item still kept; `last + 1` when none is.
    pub oldest: u64,
    /// Number of the newest item; 0 before the first.
    pub last: u64,
    /// The chain after the newest item.
    pub chain: Chain,
}

impl LogHead {
    /// An empty log.
    pub fn empty(epoch: Epoch) -> Self {
        Self { epoch, oldest: 1, last: 0, chain: Chain::genesis(epoch) }
    }
}

/// A range of protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Oldest that is understood.
    pub lowest: u32,
    /// Newest that is understood.
    pub highest: u32,
}

impl Versions {
    /// The newest version that both understand.
    pub fn common(self, other: Self) -> Option<u32> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

/// Who speaks; the part of a hello that does not change while a daemon runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Introduction {
    /// Protocol versions the speaker understands.
    pub protocol: Versions,
    /// Optional abilities; unknown ones are ignored.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The speaker's program and version.
    #[serde(default)]
    pub software: String,
    /// The host that this stream belongs to.
    pub host_id: HostId,
    /// The machine of the agent; absent from a controller's hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<MachineId>,
    /// The fleet; an agent that was never in one leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_id: Option<FleetId>,
    /// The host's own description, from agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<HostReport>,
}

/// The first word at every connection, both ways, repeated until it is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// Drawn anew at each connection.
    #[serde(deserialize_with = "from_hexadecimal", serialize_with = "as_hexadecimal")]
    pub session: u64,
    /// The other end's session, once its hello was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Epoch>,
    /// The speaker has heard the other end answer this session: no answer is due.
    #[serde(default)]
    pub settled: bool,
    /// Who speaks.
    #[serde(flatten)]
    pub introduction: Introduction,
    /// The speaker's own log.
    pub log: LogHead,
    /// How far the speaker has applied the other end's log.
    #[serde(default)]
    pub cursor: Option<Position>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn as_hexadecimal<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Epoch(*number))
}

/// Items of a log, and an acknowledgement of the other one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// The log that the items are of.
    pub epoch: Epoch,
    /// Number of the first item.
    pub first: u64,
    /// The chain before the first item.
    pub chain: Chain,
    /// The items, exactly as they stand in the log.
    #[serde(default)]
    pub items: Vec<Box<RawValue>>,
    /// How far the speaker has applied the other end's log.
    #[serde(default)]
    pub ack: Option<Position>,
    /// The speaker saw a gap: go back to behind `ack`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resend: bool,
    /// An epoch that the speaker has left for good: open a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Epoch>,
}

impl Frame {
    /// Number of the last item, `first - 1` when there is none.
    pub fn last(&self) -> u64 {
        self.first.saturating_add(self.items.len() as u64).saturating_sub(1)
    }
}

/// One MQTT message on an `up` or `down` topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// The first word of a connection.
    Hello(Box<Hello>),
    /// Items and acknowledgement.
    Frame(Frame),
}

/// A payload that is no message of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Larger than [`limits::PACKET_BYTES`].
    #[error("message of {0} bytes is larger than the limit of {max} bytes", max = limits::PACKET_BYTES)]
    TooLarge(usize),
    /// Not JSON of a known shape.
    #[error("message cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A message whose numbers or sizes break the rules.
    #[error("message breaks a limit: {0}")]
    Limits(&'static str),
}

impl Message {
    /// The JSON text.
    ///
    /// # Errors
    /// Serialisation cannot fail for values built by this program; the error is passed on all the same.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads a payload from outside.
    pub fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        if payload.len() > limits::PACKET_BYTES {
            return Err(MessageError::TooLarge(payload.len()));
        }
        let message: Self = serde_json::from_slice(payload)?;
        if matches!(message, Self::Hello(_)) && payload.len() > limits::HELLO_BYTES {
            return Err(MessageError::Limits("the hello is too large"));
        }
        if let Self::Frame(frame) = &message {
            if frame.items.len() > limits::FRAME_ITEMS {
                return Err(MessageError::Limits("too many items"));
            }
            if frame.items.iter().any(|item| item.get().len() > limits::ITEM_BYTES) {
                return Err(MessageError::Limits("an item is too large"));
            }
            if frame.first == 0 || frame.first.checked_add(frame.items.len() as u64).is_none() {
                return Err(MessageError::Limits("item numbers begin at 1 and fit 64 bits"));
            }
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_the_exact_text_of_items() {
        let item = RawValue::from_string(r#"{ "kind" : "x",  "n":1.0 }"#.to_owned()).unwrap();
        let epoch = Epoch(7);
        let chain = Chain::genesis(epoch);
        let frame =
            Frame { epoch, first: 1, chain, items: vec![item], ack: None, resend: false, refused: None };
        let payload = Message::Frame(frame).encode().unwrap();
        let Message::Frame(back) = Message::decode(&payload).unwrap() else { panic!("a frame") };
        assert_eq!(back.items[0].get(), r#"{ "kind" : "x",  "n":1.0 }"#);
        assert_eq!((back.epoch, back.chain, back.last()), (epoch, chain, 1));
    }

    #[test]
    fn a_hello_has_a_size() {
        let hello = |bytes: usize| {
            format!(
                r#"{{"hello":{{"session":"1","protocol":{{"lowest":1,"highest":1}},"hostId":"h","software":"{}",
                    "log":{{"epoch":"1","oldest":1,"last":0,"chain":"0"}}}}}}"#,
                "x".repeat(bytes)
            )
        };
        assert!(Message::decode(hello(limits::HELLO_BYTES - 300).as_bytes()).is_ok());
        let refused = Message::decode(hello(limits::HELLO_BYTES).as_bytes());
        assert!(matches!(refused, Err(MessageError::Limits(_))), "{refused:?}");
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        for bad in [
            &b""[..],
            b"{}",
            b"null",
            b"[1]",
            b"{\"frame\":{}}",
            b"{\"frame\":{\"epoch\":\"zz\",\"first\":1,\"chain\":\"0\"}}",
            b"{\"frame\":{\"epoch\":\"1\",\"first\":0,\"chain\":\"0\"}}",
            b"{\"frame\":{\"epoch\":\"1\",\"first\":18446744073709551615,\"chain\":\"0\",\"items\":[1]}}",
            b"{\"hello\":{}}",
            b"\xff\xfe",
        ] {
            assert!(Message::decode(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(Message::decode(&deep).is_err());
        assert!(matches!(
            Message::decode(&vec![b' '; limits::PACKET_BYTES + 1]),
            Err(MessageError::TooLarge(_))
        ));
    }
}
