//! Whether a file is a whole video. Sans-IO: it says which bytes it wants to see next, and
//! looks at headers only. Files come from phones: nothing in them is believed beyond what it
//! proves, and the work is bounded.
//!
//! ISO 14496-12: a file is a row of boxes, each with its length (4 bytes), type (4 bytes)
//! and, with length 1, a length of 8 bytes; length 0 reaches to the end. `moov`, which the
//! recorder writes last, holds `mvhd` with time scale and duration: without it nothing can
//! be played.

use std::ops::Range;

/// A whole video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movie {
    /// Its length in milliseconds.
    pub duration_ms: u64,
}

/// Why it is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It begins like something else.
    #[error("the file does not begin with `ftyp`: it is no MP4")]
    NotAVideo,
    /// The recorder did not come to its end.
    #[error("the file ends before its index (`moov`): it was never finished")]
    Truncated,
    /// It has an index that cannot be right.
    #[error("the file is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// It is whole and has no length.
    #[error("the video has no length: no picture was ever drawn")]
    Empty,
}

impl Flaw {
    /// A stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAVideo => "NOT_A_VIDEO",
            Self::Truncated => "TRUNCATED",
            Self::Damaged { .. } => "DAMAGED",
            Self::Empty => "EMPTY",
        }
    }
}

/// Boxes looked at in one file, at most. A recorder writes four; editors a few dozen.
const BOXES: u32 = 1000;
/// The longest header of a box.
const HEADER: u64 = 16;
/// As much of `mvhd` as matters: header, version and flags, times, scale, duration.
const MOVIE_HEADER: u64 = HEADER + 4 + 8 + 8 + 4 + 8;

/// One check of one file.
#[derive(Clone, Debug)]
pub struct Check {
    length: u64,
    boxes: u32,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// At a box of the file.
    Top {
        at: u64,
    },
    /// At a box of `moov`, which ends at `end`.
    Index {
        at: u64,
        end: u64,
    },
    Over(Result<Movie, Flaw>),
}

/// A box's type and extent, header included.
struct Found {
    kind: [u8; 4],
    header: u64,
    end: u64,
}

impl Check {
    /// A check of a file of that length.
    pub fn new(length: u64) -> Self {
        Self { length, boxes: 0, state: State::Top { at: 0 } }
    }

    /// The bytes that it wants to see, never empty and at most 64; or what it found.
    pub fn wants(&self) -> Result<Range<u64>, Result<Movie, Flaw>> {
        match &self.state {
            State::Over(result) => Err(result.clone()),
            State::Top { at } if *at >= self.length => {
                Err(Err(if *at == 0 { Flaw::NotAVideo } else { Flaw::Truncated }))
            }
            State::Top { at } => Ok(*at..at.saturating_add(HEADER).min(self.length)),
            State::Index { at, end } if at >= end => {
                Err(Err(Flaw::Damaged { at: *at, what: "`moov` holds no `mvhd`" }))
            }
            State::Index { at, end } => Ok(*at..at.saturating_add(MOVIE_HEADER).min(*end)),
        }
    }

    /// Takes these bytes. Fewer than were wanted mean that the file is shorter than it said.
    pub fn give(&mut self, bytes: &[u8]) {
        self.boxes += 1;
        let next = match self.state {
            State::Top { at } => self.top(at, bytes),
            State::Index { at, end } => Self::index(at, end, bytes),
            State::Over(_) => return,
        };
        self.state = match next {
            Ok(_) if self.boxes > BOXES => {
                State::Over(Err(Flaw::Damaged { at: 0, what: "it has more boxes than a video needs" }))
            }
            Ok(state) => state,
            Err(flaw) => State::Over(Err(flaw)),
        };
    }

    fn top(&self, at: u64, bytes: &[u8]) -> Result<State, Flaw> {
        let found = match find(at, self.length, bytes) {
            Ok(found) => found,
            Err(_) if at == 0 => return Err(Flaw::NotAVideo),
            Err(flaw) => return Err(flaw),
        };
        if at == 0 && found.kind != *b"ftyp" {
            return Err(Flaw::NotAVideo);
        }
        if found.kind == *b"moov" {
            // What ends with the file may be cut in its middle.
            return Ok(State::Index { at: at + found.header, end: found.end });
        }
        Ok(State::Top { at: found.end })
    }

    fn index(at: u64, end: u64, bytes: &[u8]) -> Result<State, Flaw> {
        let found = find(at, end, bytes)?;
        if found.kind != *b"mvhd" {
            return Ok(State::Index { at: found.end, end });
        }
        let header = usize::try_from(found.header).unwrap_or(usize::MAX);
        let inside = usize::try_from(found.end - at).unwrap_or(usize::MAX).min(bytes.len());
        let body = bytes.get(header..inside).unwrap_or_default();
        let short = Flaw::Damaged { at, what: "`mvhd` is too short" };
        // Version 1 has times and duration of 8 bytes.
        let (scale, duration) = match body.first() {
            Some(0) => (number(body, 12, 4), number(body, 16, 4)),
            Some(1) => (number(body, 20, 4), number(body, 24, 8)),
            Some(_) => return Err(Flaw::Damaged { at, what: "`mvhd` has a version that nobody knows" }),
            None => return Err(short),
        };
        let (Some(scale), Some(duration)) = (scale, duration) else { return Err(short) };
        if scale == 0 {
            return Err(Flaw::Damaged { at, what: "`mvhd` has a time scale of 0" });
        }
        let duration_ms = u64::try_from(u128::from(duration) * 1000 / u128::from(scale)).unwrap_or(u64::MAX);
        if duration_ms == 0 {
            return Err(Flaw::Empty);
        }
        Ok(State::Over(Ok(Movie { duration_ms })))
    }
}

/// The box at `at` in something that ends at `end`.
fn find(at: u64, end: u64, bytes: &[u8]) -> Result<Found, Flaw> {
    let cut = Flaw::Truncated;
    let (Some(short), Some(kind)) = (number(bytes, 0, 4), bytes.get(4..8)) else { return Err(cut) };
    let kind = [kind[0], kind[1], kind[2], kind[3]];
    let (header, length) = match short {
        0 => (8, end - at),
        1 => (16, number(bytes, 8, 8).ok_or(cut.clone())?),
        length => (8, length),
    };
    if length < header {
        return Err(Flaw::Damaged { at, what: "a box is shorter than its own header" });
    }
    match at.checked_add(length) {
        Some(found_end) if found_end <= end => Ok(Found { kind, header, end: found_end }),
        // It says that it goes on behind the end of the file.
        _ => Err(cut),
    }
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
#[path = "mp4_tests.rs"]
mod tests;
