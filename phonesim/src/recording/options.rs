//! The command line of `screenrecord`: limits and messages of AOSP's
//! `cmds/screenrecord/screenrecord.cpp` as of Android 11.

use std::time::Duration;

use crate::display::Size;

/// Longest recording in seconds, and the default.
const LONGEST: u64 = 180;

/// Bits per second that are accepted.
const BIT_RATES: std::ops::RangeInclusive<u64> = 100_000..=200_000_000;
const DEFAULT_BIT_RATE: u64 = 20_000_000;

/// Exit code for a command line that is not understood.
pub const EXIT_USAGE: u8 = 2;

/// The answer to `--help`. The real one's first lines count: whoever looks for "remove the
/// time limit" must not find it.
pub const HELP: &str = "\
Usage: screenrecord [options] <filename>

Android screenrecord v1.3.  Records the device's display to a .mp4 file.

Options:
--size WIDTHxHEIGHT
    Set the video size, e.g. \"1280x720\".  Default is the device's main
    display resolution (if supported), 1280x720 if not.  For best results,
    use a size supported by the AVC encoder.
--bit-rate RATE
    Set the video bit rate, in bits per second.  Value may be specified as
    bits or megabits, e.g. '4000000' is equivalent to '4M'.  Default 20Mbps.
--output-format FORMAT
    mp4 (the default) or h264.  The filename - stands for stdout, with h264.
--time-limit TIME
    Set the maximum recording time, in seconds.  Default / maximum is 180.
--verbose
    Display interesting information on stdout.
--help
    Show this message.

Recording continues until Ctrl-C is hit or the time limit is reached.
";

/// How frames reach the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An MP4, playable once it is finished.
    Mp4,
    /// The stream of NAL units with start codes, playable as far as it goes.
    H264,
}

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// When it ends by itself.
    pub time_limit: Duration,
    /// Bits per second; checked and reported, the encoder has its own.
    pub bit_rate: u64,
    /// If none, that of the screen.
    pub size: Option<Size>,
    /// How frames are written.
    pub format: Format,
    /// Whether to tell about it.
    pub verbose: bool,
    /// Where to; `-` is stdout for a plain stream.
    pub file: String,
}

/// What a command line comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A recording.
    Record(Options),
    /// `--help`.
    Help,
}

impl Request {
    /// Reads the arguments; an error is what to tell the caller.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options {
            time_limit: Duration::from_secs(LONGEST),
            bit_rate: DEFAULT_BIT_RATE,
            size: None,
            format: Format::Mp4,
            verbose: false,
            file: String::new(),
        };
        let mut files = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(option) = argument.strip_prefix("--") else {
                files.push(argument);
                continue;
            };
            let (name, attached) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            let mut value = || {
                attached
                    .or_else(|| arguments.next().map(String::as_str))
                    .ok_or_else(|| format!("screenrecord: option '--{name}' requires an argument"))
            };
            match name {
                "" => files.extend(arguments.by_ref()),
                "help" => return Ok(Self::Help),
                "verbose" => options.verbose = true,
                // Would add a page about the device in front.
                "bugreport" => {}
                "time-limit" => options.time_limit = time_limit(value()?)?,
                "bit-rate" => options.bit_rate = bit_rate(value()?)?,
                "size" => options.size = Some(size(value()?)?),
                "output-format" => {
                    options.format = match value()? {
                        "mp4" => Format::Mp4,
                        "h264" => Format::H264,
                        other => return Err(format!("Unknown format '{other}'")),
                    }
                }
                // There is one display.
                "display-id" => drop(value()?),
                _ => return Err(format!("screenrecord: unrecognized option '--{name}'")),
            }
        }
        match files.as_slice() {
            [file] if !file.is_empty() => {
                options.file.clone_from(file);
                Ok(Self::Record(options))
            }
            _ => Err("Must specify output file (see --help).".to_owned()),
        }
    }
}

fn time_limit(text: &str) -> Result<Duration, String> {
    // As atoi: what is no number is nought, and that is out of range.
    let seconds: i64 = text.parse().unwrap_or(0);
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| (1..=LONGEST).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("Time limit {seconds}s outside acceptable range [1,{LONGEST}]"))
}

fn bit_rate(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['M', 'm']) {
        Some(digits) => (digits, 1_000_000),
        None => (text, 1),
    };
    let rate: u64 = digits.parse().map_err(|_| format!("Invalid bit rate '{text}'"))?;
    let rate = rate.saturating_mul(unit);
    if BIT_RATES.contains(&rate) {
        return Ok(rate);
    }
    Err(format!("Bit rate {rate}bps outside acceptable range [{},{}]", BIT_RATES.start(), BIT_RATES.end()))
}

fn size(text: &str) -> Result<Size, String> {
    Size::parse(text).ok_or_else(|| format!("Invalid size '{text}', must be width x height"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Request::parse(&arguments)
    }

    #[test]
    fn values_attached_or_apart_and_the_file_anywhere() {
        let expected = Request::Record(Options {
            time_limit: Duration::from_secs(9),
            bit_rate: 4_000_000,
            size: Size::parse("360x640"),
            format: Format::H264,
            verbose: true,
            file: "-".to_owned(),
        });
        for line in [
            "--time-limit 9 --bit-rate 4M --size 360x640 --output-format h264 --verbose -",
            "- --time-limit=9 --bit-rate=4000000 --size=360x640 --output-format=h264 --verbose",
            "--time-limit=9 --bit-rate 4m --verbose --size=360x640 --output-format h264 -- -",
        ] {
            assert_eq!(parse(line).as_ref(), Ok(&expected), "{line}");
        }
    }

    #[test]
    fn refusals_in_the_words_of_the_real_one() {
        for (line, message) in [
            ("--time-limit 0 x", "Time limit 0s outside acceptable range [1,180]"),
            ("--time-limit=181 x", "Time limit 181s outside acceptable range [1,180]"),
            ("--time-limit=-1 x", "Time limit -1s outside acceptable range [1,180]"),
            ("--bit-rate 99999 x", "Bit rate 99999bps outside acceptable range [100000,200000000]"),
            ("--size 1 x", "Invalid size '1', must be width x height"),
            ("--output-format=avi x", "Unknown format 'avi'"),
            ("", "Must specify output file (see --help)."),
            ("a b", "Must specify output file (see --help)."),
            ("x --time-limit", "screenrecord: option '--time-limit' requires an argument"),
            ("--what x", "screenrecord: unrecognized option '--what'"),
        ] {
            assert_eq!(parse(line), Err(message.to_owned()), "{line}");
        }
    }

    #[test]
    fn the_help_does_not_promise_recordings_without_end() {
        assert_eq!(parse("--help"), Ok(Request::Help));
        assert!(!HELP.contains("remove the time limit"));
    }
}
