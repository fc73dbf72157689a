//! A range of ports as operators write it: `20000-20999`, both ends included.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// At least one port; the first is not above the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Both ends included; the wrong way round is turned round.
    pub const fn new(one: u16, other: u16) -> Self {
        if one <= other { Self { first: one, last: other } } else { Self { first: other, last: one } }
    }

    /// As a range.
    pub const fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// The ports that are in both.
    pub fn overlap(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// The first port.
    pub const fn first(self) -> u16 {
        self.first
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not a range of ports such as \"20000-20999\"");
        let (first, last) = text.split_once('-').ok_or_else(fault)?;
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(fault()),
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_nonsense_is_refused() {
        assert_eq!("20000-20999".parse(), Ok(PortRange::new(20_000, 20_999)));
        assert_eq!("5-5".parse(), Ok(PortRange::new(5, 5)));
        for bad in ["", "20000", "2-1", "0-5", "1-65536", "a-b", "-1-2"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
        assert_eq!(PortRange::new(1, 5).overlap(PortRange::new(5, 9)), Some(PortRange::new(5, 5)));
        assert_eq!(PortRange::new(1, 5).overlap(PortRange::new(6, 9)), None);
    }
}
