//! `screenrecord`: records the screen until SIGINT, SIGHUP or the time limit.
//!
//! The video is a smaller copy of the screen (its longer side at most 320 pixels) at five
//! frames a second, each with the phone's name, the clock, and a counter of frames. Times in
//! the file are times that passed: a process that was stopped for a while leaves a long frame.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::h264::Encoder;
use super::interruption::Interruption;
use super::options::{EXIT_USAGE, HELP, Options, Request};
use super::output::Output;
use crate::console;
use crate::display::picture::Picture;
use crate::display::{self, Size};
use crate::fault::{Fault, Faults};
use crate::properties::Properties;
use crate::root::Root;

/// Frames a second; fewer if the boot line says so.
const FRAME_RATE: u64 = 5;

/// Key frames come so often, as with the real one.
const KEY_FRAME_EVERY: Duration = Duration::from_secs(10);

/// Longer side of the video at most, in pixels.
const LONGEST_SIDE: u64 = 320;

/// When the fault `record_fail` strikes, in frames.
const FRAMES_BEFORE_FAILURE: u64 = 3;

/// Why a recording ended badly, in the words of the real one where it has any.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("ERROR: Failed to get ID for any displays")]
    NoDisplay,
    #[error("ERROR: unable to create video/avc codec instance")]
    NoEncoder,
    #[error("Unable to get output buffers (err=-38)")]
    EncoderFailed,
    #[error("Unable to open '{name}': {source}")]
    Open { name: String, source: io::Error },
    #[error("ERROR: cannot write '{name}': {source}")]
    Write { name: String, source: io::Error },
    #[error("Unable to configure signal handlers: {0}")]
    Signals(#[from] Errno),
}

/// Runs the command.
pub fn run(root: &Root, arguments: &[String]) -> ExitCode {
    let options = match Request::parse(arguments) {
        Ok(Request::Record(options)) => options,
        Ok(Request::Help) => {
            console::line(format_args!("{}", HELP.trim_end()));
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            console::error(format_args!("{message}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match record(&Properties::of(root), &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

fn record(properties: &Properties, options: &Options) -> Result<(), RecordError> {
    let faults = Faults::ordered(properties);
    if faults.has(Fault::RecordRefuse) {
        return Err(RecordError::NoEncoder);
    }
    if !display::is_up(properties) {
        return Err(RecordError::NoDisplay);
    }
    let interruption = Interruption::heed()?;
    let size = video_size(options.size.unwrap_or_else(|| display::size(properties)));
    // With a stream on stdout there is no room for words.
    let verbose = options.verbose && options.file != "-";
    if verbose {
        console::line(format_args!(
            "Main display is {}\nConfiguring recorder for {size} video/avc at {:.2}Mbps",
            display::size(properties),
            options.bit_rate as f64 / 1e6
        ));
    }
    let name = display::phone_name(properties);
    let interval = frame_interval(properties);
    let mut encoder = Encoder::new(size);
    let mut output = open(options, size, &encoder)?;
    let cannot_write = |source| RecordError::Write { name: options.file.clone(), source };

    let start = Instant::now();
    let limit = start + options.time_limit;
    let mut last_key = start;
    let mut frames = 0;
    loop {
        let now = Instant::now();
        let picture = Picture::draw(size, &[&name, &display::clock(), &format!("{frames:06}")]);
        let key = now - last_key >= KEY_FRAME_EVERY;
        let frame = encoder.encode(&picture, key);
        if frame.key {
            last_key = now;
        }
        output.write(&frame, now - start).map_err(cannot_write)?;
        frames += 1;

        if faults.has(Fault::RecordHang) {
            interruption.hang();
        }
        if faults.has(Fault::RecordFail) && frames == FRAMES_BEFORE_FAILURE {
            return Err(RecordError::EncoderFailed);
        }
        if interruption.wait_until(next_frame(start, interval).min(limit))? {
            break;
        }
        if Instant::now() >= limit {
            if verbose {
                console::line(format_args!("Time limit reached"));
            }
            break;
        }
    }
    let end = start.elapsed().min(options.time_limit);
    interruption.release()?;
    if verbose {
        console::line(format_args!(
            "Encoder stopping; recorded {frames} frames in {} seconds\nStopping encoder and muxer",
            end.as_secs()
        ));
    }
    output.finish(end).map_err(cannot_write)
}

fn open(options: &Options, size: Size, encoder: &Encoder) -> Result<Output, RecordError> {
    Output::open(&options.file, options.format, size, encoder)
        .map_err(|source| RecordError::Open { name: options.file.clone(), source })
}

/// The next time that is a whole number of intervals from the start; those missed are missed.
fn next_frame(start: Instant, interval: Duration) -> Instant {
    let passed = start.elapsed().as_nanos() / interval.as_nanos();
    // At most 180 s of intervals of 200 ms or more.
    start + interval * (passed as u32 + 1)
}

fn frame_interval(properties: &Properties) -> Duration {
    let rate = display::frame_rate(properties).min(FRAME_RATE);
    Duration::from_secs(1) / rate as u32
}

/// The size of the video: the same shape, smaller, with even sides.
fn video_size(wanted: Size) -> Size {
    let longest = u64::from(wanted.width.max(wanted.height));
    let scale = |side: u32| {
        let side = u64::from(side);
        let side = if longest > LONGEST_SIDE { side * LONGEST_SIDE / longest } else { side };
        (side as u32 / 2 * 2).max(2)
    };
    Size { width: scale(wanted.width), height: scale(wanted.height) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_video_has_the_shape_of_the_screen_and_even_sides() {
        for (wanted, expected) in [
            ("720x1280", "180x320"),
            ("1280x720", "320x180"),
            ("1080x2340", "146x320"),
            ("100x51", "100x50"),
            ("8192x1", "320x2"),
            ("1x1", "2x2"),
        ] {
            let size = video_size(Size::parse(wanted).unwrap());
            assert_eq!(size.to_string(), expected);
        }
    }
}
