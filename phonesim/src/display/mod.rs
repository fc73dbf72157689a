//! The phone's screen: its size, and the picture on it.

pub mod font;
pub mod picture;
mod png;
pub mod screencap;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::properties::Properties;

/// Set by `wm size`, gone with the next boot; empty means none.
pub const OVERRIDE_SIZE: &str = "phonesim.wm.size";

/// Set by `wm density`, as above.
pub const OVERRIDE_DENSITY: &str = "phonesim.wm.density";

/// Redroid's own defaults.
const DEFAULT_SIZE: Size = Size { width: 720, height: 1280 };
const DEFAULT_DENSITY: u64 = 320;

/// No side of a screen is longer, in pixels: a picture must fit into memory.
const LONGEST_SIDE: u32 = 8192;

/// A size in pixels, both sides 1 to 8192.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// A size with both sides in range.
    pub fn new(width: u64, height: u64) -> Option<Self> {
        let side =
            |length: u64| u32::try_from(length).ok().filter(|length| (1..=LONGEST_SIDE).contains(length));
        Some(Self { width: side(width)?, height: side(height)? })
    }

    /// Reads `WIDTHxHEIGHT`.
    pub fn parse(text: &str) -> Option<Self> {
        let (width, height) = text.split_once('x')?;
        Self::new(width.parse().ok()?, height.parse().ok()?)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}x{}", self.width, self.height)
    }
}

/// The size the boot line gave.
pub fn physical_size(properties: &Properties) -> Size {
    let side = |name: &str, default: u32| properties.number(name).unwrap_or(default.into());
    Size::new(
        side("ro.boot.redroid_width", DEFAULT_SIZE.width),
        side("ro.boot.redroid_height", DEFAULT_SIZE.height),
    )
    .unwrap_or(DEFAULT_SIZE)
}

/// The size `wm size` gave, if any.
pub fn override_size(properties: &Properties) -> Option<Size> {
    Size::parse(&properties.get(OVERRIDE_SIZE)?)
}

/// The size of what is shown.
pub fn size(properties: &Properties) -> Size {
    override_size(properties).unwrap_or_else(|| physical_size(properties))
}

/// The density the boot line gave, in dots per inch.
pub fn physical_density(properties: &Properties) -> u64 {
    properties.number("ro.boot.redroid_dpi").filter(|density| *density > 0).unwrap_or(DEFAULT_DENSITY)
}

/// Frames a second the boot line gave.
pub fn frame_rate(properties: &Properties) -> u64 {
    properties.number("ro.boot.redroid_fps").filter(|rate| *rate > 0).unwrap_or(30)
}

/// Whether there is anything to take a picture of.
pub fn is_up(properties: &Properties) -> bool {
    properties.service_runs("surfaceflinger")
}

/// What the phone calls itself: its serial number, else its host name.
pub fn phone_name(properties: &Properties) -> String {
    properties
        .get("ro.serialno")
        .filter(|serial| !serial.is_empty())
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "PHONESIM".to_owned(), |name| name.trim().to_owned())
}

/// The time of day in UTC, `HH:MM:SS`.
pub fn clock() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_bounded() {
        let size = Size::parse("720x1280").unwrap();
        assert_eq!(size.to_string(), "720x1280");
        for text in ["", "720", "0x1", "1x0", "1x-1", "9000x1", "axb", "1x2x3"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }
}
