//! Where the frames of a recording go: an MP4 file, or a plain stream to a file or stdout.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::h264::{Encoder, Frame};
use super::mp4::Mp4Writer;
use super::options::Format;
use crate::display::Size;

/// In front of each NAL unit of a plain stream (ITU-T H.264 annex B).
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// An output that was opened.
pub enum Output {
    /// Playable once finished.
    Mp4(Mp4Writer<File>),
    /// Playable as far as it goes.
    Stream(Box<dyn Write>),
}

impl Output {
    /// Opens the output and writes what comes before the first frame.
    pub fn open(name: &str, format: Format, size: Size, encoder: &Encoder) -> io::Result<Self> {
        let parameters = [encoder.sequence_parameters(), encoder.picture_parameters()];
        if format == Format::Mp4 {
            let [sequence, picture] = parameters;
            return Mp4Writer::start(create(name)?, size, sequence, picture).map(Self::Mp4);
        }
        let mut stream: Box<dyn Write> =
            if name == "-" { Box::new(io::stdout().lock()) } else { Box::new(File::create(name)?) };
        for unit in parameters {
            write_unit(&mut stream, &unit);
        }
        Ok(Self::Stream(stream))
    }

    /// Writes a frame that is shown from `at` on.
    pub fn write(&mut self, frame: &Frame, at: Duration) -> io::Result<()> {
        match self {
            Self::Mp4(writer) => writer.write(&frame.unit, at, frame.key),
            Self::Stream(stream) => {
                write_unit(stream, &frame.unit);
                Ok(())
            }
        }
    }

    /// Ends the recording well.
    pub fn finish(self, end: Duration) -> io::Result<()> {
        match self {
            Self::Mp4(writer) => writer.finish(end),
            Self::Stream(_) => Ok(()),
        }
    }
}

/// The real one does not look whether its stream can be written: when the reader has gone it
/// records on to the time limit.
fn write_unit(stream: &mut impl Write, unit: &[u8]) {
    let _ = stream.write_all(&[&START_CODE, unit].concat()).and_then(|()| stream.flush());
}

/// A new file in place of an old one, readable for its owner only, as the real one makes it.
fn create(name: &str) -> io::Result<File> {
    match fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(name)
}
