//! How a command or an event becomes an item of the stream, and back.
//!
//! An item is `{"kind":"device.desire","data":{…}}`. A kind that this program does
//! not know is not an error: it is kept raw and read again after an upgrade.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a raw item turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded<T> {
    /// An item of a known kind.
    Known(T),
    /// A well-formed item of a kind from the future.
    Unknown {
        /// The kind it names.
        kind: String,
    },
}

/// An item that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// Not an item, or a known kind with the wrong content.
    #[error("item of kind {kind:?} cannot be read: {source}")]
    Malformed {
        /// The kind it names, if it got that far.
        kind: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Larger than [`crate::limits::ITEM_BYTES`].
    #[error("item of {bytes} bytes is larger than the limit of {} bytes", crate::limits::ITEM_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// A family of items: commands, or events.
pub trait Item: Serialize + DeserializeOwned {
    /// Every kind that this program understands.
    const KINDS: &'static [&'static str];

    /// The JSON text of this item.
    fn encode(&self) -> Result<Box<RawValue>, ItemError> {
        let malformed = |source| ItemError::Malformed { kind: String::new(), source };
        let raw = serde_json::value::to_raw_value(self).map_err(malformed)?;
        match raw.get().len() {
            bytes if bytes > crate::limits::ITEM_BYTES => Err(ItemError::TooLarge { bytes }),
            _ => Ok(raw),
        }
    }

    /// Reads an item from its JSON text.
    fn decode(raw: &RawValue) -> Result<Decoded<Self>, ItemError> {
        #[derive(Deserialize)]
        struct Head {
            kind: String,
        }
        let head: Head = serde_json::from_str(raw.get())
            .map_err(|source| ItemError::Malformed { kind: String::new(), source })?;
        if !Self::KINDS.contains(&head.kind.as_str()) {
            return Ok(Decoded::Unknown { kind: crate::limits::shorten(&head.kind) });
        }
        serde_json::from_str(raw.get())
            .map(Decoded::Known)
            .map_err(|source| ItemError::Malformed { kind: head.kind, source })
    }
}
