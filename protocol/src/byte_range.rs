//! Which bytes of a video a client asks for (RFC 9110, section 14). Agent and controller both
//! serve videos, and a download that one of them began goes on at the other.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it: there is no header, or one that may be passed over: another unit, several
    /// ranges, no range at all.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that the file does not have.
    Beyond,
}

/// Reads a `Range` header of a file of `length` bytes.
pub fn asked(header: &str, length: u64) -> Asked {
    let Some((unit, set)) = header.split_once('=') else { return Asked::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Asked::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let part = |first: u64, end: u64| {
        if first < end { Asked::Part(first..end) } else { Asked::Beyond }
    };
    match (number(first), number(last)) {
        (Number::Is(first), Number::Is(last)) if first > last => Asked::Whole,
        (Number::Is(first), Number::Is(last)) => part(first, last.saturating_add(1).min(length)),
        (Number::Is(first), Number::Missing) => part(first, length),
        (Number::Missing, Number::Is(count)) => part(length.saturating_sub(count), length),
        (Number::Missing, Number::Missing) | (Number::Strange, _) | (_, Number::Strange) => Asked::Whole,
    }
}

enum Number {
    Is(u64),
    Missing,
    Strange,
}

/// Digits, or nothing: `+1` would be a number to `parse`. More than 64 bits hold is beyond
/// all files.
fn number(text: &str) -> Number {
    match text.trim() {
        "" => Number::Missing,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Number::Is(digits.parse().unwrap_or(u64::MAX))
        }
        _ => Number::Strange,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (header, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=0-10", Asked::Part(0..10)),
            ("bytes=0-99999999999999999999999", Asked::Part(0..10)),
            ("bytes=2-99999999999999999999999", Asked::Part(2..10)),
            ("Bytes= 3-5 ", Asked::Part(3..6)),
            ("bytes=9-", Asked::Part(9..10)),
            ("bytes=-1", Asked::Part(9..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=-99999999999999999999999", Asked::Part(0..10)),
            ("bytes=10-", Asked::Beyond),
            ("bytes=10-20", Asked::Beyond),
            ("bytes=99999999999999999999999-", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=18446744073709551615-", Asked::Beyond),
            ("bytes=5-3", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=--1", Asked::Whole),
            ("bytes", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("", Asked::Whole),
        ] {
            assert_eq!(asked(header, 10), expected, "{header}");
        }
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(asked(header, 0), Asked::Beyond, "an empty file has no bytes");
        }
        assert_eq!(asked("bytes=0-", u64::MAX), Asked::Part(0..u64::MAX));
    }
}
