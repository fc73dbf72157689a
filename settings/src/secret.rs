//! A text that is used and never shown.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// What stands in place of a secret wherever one is printed.
const MASK: &str = "********";

/// A password or token. Printing and serialising it gives a mask.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own refusals quote the value; these must not.
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text in quotes")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom("a secret is a text in quotes, not a number"))
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
                self.visit_i64(0)
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                self.visit_i64(0)
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
                Err(E::custom("a secret is a text in quotes, not true or false"))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
