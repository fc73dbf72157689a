//! A rolling 8-byte hash over the items of one epoch.
//!
//! It is no defence against forgery; it tells a restored or cloned log, which has
//! different items under the same numbers, from the real one.

use super::message::Epoch;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hash of every item up to some number. JSON: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chain(pub u64);

impl Chain {
    /// The chain before item 1 of an epoch.
    pub fn genesis(epoch: Epoch) -> Self {
        Self(xxh3_64_with_seed(b"phonefleet stream", epoch.0))
    }

    /// The chain after one more item, given its exact JSON text.
    #[must_use]
    pub fn then(self, item: &str) -> Self {
        Self(xxh3_64_with_seed(item.as_bytes(), self.0))
    }
}

/// Sixteen hexadecimal digits, for numbers that JSON readers would round.
pub(crate) fn hexadecimal(number: u64) -> String {
    format!("{number:016x}")
}

/// Reads what [`hexadecimal`] wrote.
pub(crate) fn from_hexadecimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > 16 {
        return Err(serde::de::Error::custom("more than 16 hexadecimal digits"));
    }
    u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
}

impl fmt::Display for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hexadecimal(self.0))
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_hexadecimal(deserializer).map(Self)
    }
}
