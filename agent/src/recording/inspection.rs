//! Reads a video of this host: its size, hash, and whether it is whole.

use super::confined::is_plain;
use super::mp4::{Check, Flaw, Movie};
use phonefleet_protocol::time::Timestamp;
use ring::digest::{Context, SHA256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

/// Bytes read at once.
const BLOCK: usize = 256 * 1024;

/// Size and SHA-256 in one reading.
///
/// # Errors
/// Those of the disk, and [`io::ErrorKind::FileTooLarge`] beyond `limit` bytes.
pub(super) fn hash(file: &File, limit: u64) -> io::Result<(u64, String)> {
    if !is_plain(file)? {
        return Err(io::Error::other("it is no plain file"));
    }
    let size = file.metadata()?.len();
    if size > limit {
        return Err(too_large(size, limit));
    }
    let mut reader = file;
    reader.seek(SeekFrom::Start(0))?;
    let (mut context, mut block, mut bytes) = (Context::new(&SHA256), vec![0; BLOCK], 0);
    // Not beyond its present end, should somebody still write to it.
    let mut reader = reader.take(size);
    loop {
        let count = reader.read(&mut block)?;
        if count == 0 {
            break;
        }
        context.update(&block[..count]);
        bytes += count as u64;
    }
    Ok((bytes, hexadecimal(context.finish().as_ref())))
}

/// A file that has more bytes than were to be expected.
pub(super) fn too_large(size: u64, limit: u64) -> io::Error {
    let text = format!("{size} bytes, and at most {limit} were to be expected");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// Bytes as hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// When it was last written. A phone may set that as it likes: whoever uses it has to see
/// whether it can be.
pub(super) fn written_at(file: &File) -> Option<Timestamp> {
    let about = file.metadata().ok()?;
    Some(Timestamp(about.mtime().checked_mul(1000)?.checked_add(about.mtime_nsec() / 1_000_000)?))
}

/// Whether it is a whole video.
pub(crate) fn examine(file: &File, bytes: u64) -> io::Result<Result<Movie, Flaw>> {
    let mut check = Check::new(bytes);
    loop {
        let range = match check.wants() {
            Ok(range) => range,
            Err(result) => return Ok(result),
        };
        let mut piece = Vec::new();
        let mut reader = file;
        reader.seek(SeekFrom::Start(range.start))?;
        reader.take(range.end - range.start).read_to_end(&mut piece)?;
        check.give(&piece);
    }
}
