//! Byte ranges of a download (RFC 9110, section 14). No IO in here.

/// What a `Range` header asks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it: there is no header, or one that may be ignored: another unit, several
    /// ranges, or no range at all.
    Whole,
    /// These bytes, both ends included.
    Part {
        /// First byte.
        first: u64,
        /// Last byte, below the size.
        last: u64,
    },
    /// Bytes that the file does not have.
    Beyond,
}

/// Reads a `Range` header against a file of `bytes` bytes.
pub fn asked(header: Option<&str>, bytes: u64) -> Asked {
    let Some((unit, set)) = header.and_then(|text| text.split_once('=')) else { return Asked::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Asked::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let (first, last) = (number(first), number(last));
    match (first, last) {
        (Number::Is(first), Number::Is(last)) if first > last => Asked::Whole,
        (Number::Is(first), Number::Is(_) | Number::Missing) if first >= bytes => Asked::Beyond,
        (Number::Is(first), Number::Is(last)) => Asked::Part { first, last: last.min(bytes - 1) },
        (Number::Is(first), Number::Missing) => Asked::Part { first, last: bytes - 1 },
        (Number::Missing, Number::Is(count)) if count == 0 || bytes == 0 => Asked::Beyond,
        (Number::Missing, Number::Is(count)) => {
            Asked::Part { first: bytes.saturating_sub(count), last: bytes - 1 }
        }
        (Number::Missing, Number::Missing) | (Number::Strange, _) | (_, Number::Strange) => Asked::Whole,
    }
}

enum Number {
    Is(u64),
    Missing,
    Strange,
}

/// Digits and nothing else: `+1` would be a number to `parse`. More than 64 bits hold is a
/// number too, and beyond every file.
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
        let part = |first, last| Asked::Part { first, last };
        let table = [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-9", part(0, 9)),
            ("bytes=0-10", part(0, 9)),
            ("Bytes= 3-5 ", part(3, 5)),
            ("bytes=9-", part(9, 9)),
            ("bytes=-1", part(9, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=-99999999999999999999999", part(0, 9)),
            ("bytes=2-99999999999999999999999", part(2, 9)),
            ("bytes=10-", Asked::Beyond),
            ("bytes=10-11", Asked::Beyond),
            ("bytes=99999999999999999999999-", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=5-3", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=--1", Asked::Whole),
            ("bytes", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("", Asked::Whole),
        ];
        for (header, expected) in table {
            assert_eq!(asked(Some(header), 10), expected, "{header}");
        }
        assert_eq!(asked(None, 10), Asked::Whole);
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(asked(Some(header), 0), Asked::Beyond, "an empty file has no bytes");
        }
        assert_eq!(asked(Some("bytes=0-"), u64::MAX), part(0, u64::MAX - 1));
    }
}
