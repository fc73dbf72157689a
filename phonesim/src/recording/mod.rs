//! Screen recording: `screenrecord` and what it is made of.
//!
//! [`screenrecord`] draws a picture a few times a second, [`h264`] turns it into a frame,
//! [`mp4`] or a plain stream takes it to the file; [`options`] reads the command line and
//! [`interruption`] hears the two signals that end a recording well.

mod bitstream;
mod h264;
mod interruption;
mod mp4;
mod options;
mod output;
pub mod screenrecord;
