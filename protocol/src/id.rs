//! The names of things.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// A text that is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}, not {got:?}")]
pub struct IdError {
    what: &'static str,
    rule: &'static str,
    got: String,
}

macro_rules! uuid_id {
    ($name:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError {
                    what: $what,
                    rule: "a UUID",
                    got: crate::limits::shorten(text),
                })
            }
        }
    };
}

uuid_id!(DeviceId, "device id", "One cloud phone, for its whole life (UUIDv7).");
uuid_id!(RecordingId, "recording id", "One recording of one device (UUIDv7).");

macro_rules! text_id {
    ($name:ident, $what:literal, $rule:literal, $valid:expr, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    let got = crate::limits::shorten(&text);
                    Err(IdError { what: $what, rule: $rule, got })
                }
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

fn printable(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte))
}

text_id!(
    HostId,
    "host id",
    "1 to 63 of a-z, 0-9 and -",
    |text| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    },
    "A machine that runs phones, as its operator named it. Part of MQTT topics."
);
text_id!(
    UserId,
    "user id",
    "1 to 128 of letters, digits and - _ . : @",
    |text| printable(text, 128),
    "The tenant that owns devices."
);
text_id!(
    SagaId,
    "saga id",
    "1 to 128 of letters, digits and - _ . : @",
    |text| printable(text, 128),
    "A durable transaction: `saga_<unix-ms>_<random>`."
);
text_id!(
    MachineId,
    "machine id",
    "1 to 128 of letters, digits and - _ . : @",
    |text| printable(text, 128),
    "What tells two machines with one host id apart, such as /etc/machine-id."
);
text_id!(
    FleetId,
    "fleet id",
    "1 to 128 of letters, digits and - _ . : @",
    |text| printable(text, 128),
    "The controller's database as such. An agent pins the first that it meets."
);

/// Where new ids come from: the system's random numbers, or a simulation's seed.
pub trait IdSource: Send + Sync + 'static {
    /// A fresh UUIDv7 for the moment `now`.
    fn uuid(&self, now: crate::time::Timestamp) -> Uuid;
    /// Sixty-four random bits.
    fn random(&self) -> u64;
}

/// Ids from the operating system's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn uuid(&self, now: crate::time::Timestamp) -> Uuid {
        uuid_v7(now, Uuid::new_v4().as_u128())
    }

    fn random(&self) -> u64 {
        // The low half of a version 4 UUID holds 62 random bits and the variant;
        // its high 60 bits are random too. Folding fills all 64.
        let bits = Uuid::new_v4().as_u128();
        (bits as u64) ^ ((bits >> 64) as u64).rotate_left(7)
    }
}

/// Builds a version 7 UUID from its two ingredients.
pub fn uuid_v7(now: crate::time::Timestamp, random: u128) -> Uuid {
    let millis = u64::try_from(now.0).unwrap_or(0);
    let mut bytes = [0_u8; 10];
    bytes.copy_from_slice(&random.to_be_bytes()[6..]);
    // The version 4 source fixed bits of its own; fold the high bytes in.
    for (byte, extra) in bytes.iter_mut().zip(random.to_be_bytes()) {
        *byte ^= extra;
    }
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ids_are_checked_where_they_enter() {
        assert!("rack-3-host-07".parse::<HostId>().is_ok());
        for bad in ["", "Host", "a/b", "a b", "+", "#", &"a".repeat(64)] {
            assert!(bad.parse::<HostId>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<HostId>("\"a/#\"").is_err());
    }

    #[test]
    fn ids_sort_by_time_and_differ() {
        let early = SystemIds.uuid(crate::time::Timestamp(1_000));
        let late = SystemIds.uuid(crate::time::Timestamp(2_000));
        assert!(early < late);
        assert_eq!(late.get_version_num(), 7);
        assert_ne!(SystemIds.random(), SystemIds.random());
    }
}
