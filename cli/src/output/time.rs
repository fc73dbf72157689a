//! Moments, durations and numbers, as people read and write them.

use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// A duration in one or two units: `0.4s`, `12s`, `3m 5s`, `4h 10m`, `5d`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, unit: &str, small: u64, below: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{below}"),
    };
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// How long ago, in one unit for tables: `0s`, `12s`, `3m`, `4h`, `5d`.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A number with its noun: `1 device`, `2 devices`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Bytes with a unit of 1024: `512 B`, `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    let mut size = count as f64;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    for next in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{size:.1} {unit}") }
}

/// Reads a duration: a number with `ms`, `s`, `m` or `h`, or a number of seconds.
///
/// # Errors
/// What is wrong, for clap.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write a number with ms, s, m or h, such as 90s");
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(wrong()),
    };
    // A century is as good as for ever, and additions to clocks cannot overflow.
    millis
        .filter(|millis| (1..=3_153_600_000_000).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| "a duration must be more than 0, and less than a century".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_to_read() {
        for (millis, text) in [
            (0, "0.0s"),
            (430, "0.4s"),
            (12_900, "12s"),
            (60_000, "1m"),
            (185_000, "3m 5s"),
            (4 * 3_600_000 + 600_000, "4h 10m"),
            (5 * 86_400_000, "5d"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(age(Timestamp(300_000), Timestamp(0)), "5m");
        // A clock that was set back, or another machine's that is ahead.
        assert_eq!(age(Timestamp(0), Timestamp(5)), "0s");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(bytes(7), "7 B");
        assert_eq!((count(1, "device"), count(0, "device")), ("1 device".into(), "0 devices".into()));
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "s", "-1", "1.5s", "5 s", "5d", "0", "99999999999999999999", "99999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
