//! `sync:`: files to and from the phone, as `adb push` and `adb pull` want them.

use std::collections::VecDeque;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::sync_message::{
    LONGEST_PATH, Order, PIECE_BYTES, failure, long_status, message, path_and_mode, short_status,
};
use crate::adb::connection::{Channel, Closed};

/// The kind of a file, in its mode, and links among the kinds.
const KIND_OF_FILE: u32 = 0o170_000;
const LINK: u32 = 0o120_000;

/// Bytes that are collected before they are sent.
const BATCH_BYTES: usize = 256 * 1024;

/// Serves orders until the host has no more.
pub fn serve(channel: &Channel) -> Result<(), Closed> {
    let mut input = Input { channel, waiting: VecDeque::new() };
    loop {
        let (name, length) = input.head()?;
        let (Some(order), true) = (Order::of(name), length as usize <= LONGEST_PATH) else {
            return channel.send(&failure("no such order, or a path that is too long"));
        };
        let path = input.bytes(length as usize)?;
        let path = String::from_utf8_lossy(&path).into_owned();
        match order {
            Order::Stat => {
                let status = short_status(fs::symlink_metadata(&path).ok().as_ref());
                channel.send(&[&order.name()[..], &status].concat())?;
            }
            Order::StatTarget => status(channel, order, &fs::metadata(&path))?,
            Order::StatPath => status(channel, order, &fs::symlink_metadata(&path))?,
            Order::List | Order::ListAll => list(channel, order, &path)?,
            Order::Receive => match give(channel, &path)? {
                Ok(()) => channel.send(&message(*b"DONE", 0, &[]))?,
                Err(error) => channel.send(&failure(&format!("cannot read '{path}': {}", words(&error))))?,
            },
            Order::Send => match take(&mut input, &path)? {
                Ok(()) => channel.send(&message(*b"OKAY", 0, &[]))?,
                Err(error) => channel.send(&failure(&format!("cannot write '{path}': {}", words(&error))))?,
            },
            Order::Quit => return Ok(()),
        }
    }
}

/// The words of the C library, which hosts know, without the number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn status(channel: &Channel, order: Order, found: &io::Result<fs::Metadata>) -> Result<(), Closed> {
    let status = long_status(found.as_ref().map_err(number));
    channel.send(&[&order.name()[..], &status].concat())
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(nix::libc::EIO)
}

fn list(channel: &Channel, order: Order, path: &str) -> Result<(), Closed> {
    let all = order == Order::ListAll;
    let entry = if all { b"DNT2" } else { b"DENT" };
    let mut batch = Vec::new();
    // A folder that cannot be read is an empty one, as with the real adbd.
    for found in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = found.file_name();
        let name = name.as_encoded_bytes();
        let metadata = found.metadata();
        batch.extend_from_slice(entry);
        if all {
            batch.extend_from_slice(&long_status(metadata.as_ref().map_err(number)));
        } else {
            batch.extend_from_slice(&short_status(metadata.ok().as_ref()));
        }
        batch.extend_from_slice(&(name.len() as u32).to_le_bytes());
        batch.extend_from_slice(name);
        if batch.len() >= BATCH_BYTES {
            channel.send(&batch)?;
            batch.clear();
        }
    }
    batch.extend_from_slice(b"DONE");
    batch.extend_from_slice(&vec![0; if all { 68 } else { 12 } + 4]);
    channel.send(&batch)
}

/// Sends a file, in pieces.
fn give(channel: &Channel, path: &str) -> Result<io::Result<()>, Closed> {
    let opened = fs::metadata(path).and_then(|found| {
        if found.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { File::open(path) }
    });
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    let mut buffer = vec![0; PIECE_BYTES];
    let mut batch = Vec::new();
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => batch.extend_from_slice(&message(*b"DATA", length as u32, &buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
        if batch.len() >= BATCH_BYTES {
            channel.send(&batch)?;
            batch.clear();
        }
    }
    channel.send(&batch).map(Ok)
}

/// Takes a file. After an error the rest of it is heard out: the host listens only then.
fn take(input: &mut Input<'_>, text: &str) -> Result<io::Result<()>, Closed> {
    let mut target = match path_and_mode(text) {
        Some((path, mode)) => Target::make(path, mode),
        None => Err(io::Error::other("the order must be PATH,MODE")),
    };
    loop {
        let (name, length) = input.head()?;
        match &name {
            b"DATA" if length as usize <= PIECE_BYTES => {
                let data = input.bytes(length as usize)?;
                if let Ok(made) = &mut target
                    && let Err(error) = made.write(&data)
                {
                    target = Err(error);
                }
            }
            b"DONE" => return Ok(target.and_then(|made| made.finish(length))),
            // There is no way back into the stream.
            _ => return Err(Closed),
        }
    }
}

/// What a file is on its way to be.
enum Target<'a> {
    File(File, u32),
    /// Where its bytes are the path that it leads to.
    Link(&'a str, Vec<u8>),
}

impl<'a> Target<'a> {
    fn make(path: &'a str, mode: u32) -> io::Result<Self> {
        if let Some(folder) = Path::new(path).parent() {
            fs::create_dir_all(folder)?;
        }
        if mode & KIND_OF_FILE == LINK {
            return Ok(Self::Link(path, Vec::new()));
        }
        // A new file, also in place of a link: what that leads to was not meant.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self::File(File::options().write(true).create_new(true).open(path)?, mode & 0o7777))
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file, _) => file.write_all(data),
            Self::Link(_, text) if text.len() + data.len() <= LONGEST_PATH => {
                text.extend_from_slice(data);
                Ok(())
            }
            Self::Link(..) => Err(io::Error::other("a link leads to a path that is too long")),
        }
    }

    fn finish(self, time: u32) -> io::Result<()> {
        match self {
            Self::File(file, mode) => {
                file.set_permissions(Permissions::from_mode(mode))?;
                let time = UNIX_EPOCH + Duration::from_secs(time.into());
                file.set_times(FileTimes::new().set_modified(time).set_accessed(time))
            }
            Self::Link(path, text) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                symlink(text.trim_end_matches('\0'), path)
            }
        }
    }
}

/// The stream, read in lengths of one's own choosing.
struct Input<'a> {
    channel: &'a Channel,
    waiting: VecDeque<u8>,
}

impl Input<'_> {
    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Closed> {
        while self.waiting.len() < length {
            self.waiting.extend(self.channel.take().ok_or(Closed)?);
        }
        Ok(self.waiting.drain(..length).collect())
    }

    /// A name and a number.
    fn head(&mut self) -> Result<([u8; 4], u32), Closed> {
        let bytes = self.bytes(8)?;
        let (Some(name), Some(number)) = (bytes.first_chunk(), bytes.last_chunk()) else {
            return Err(Closed);
        };
        Ok((*name, u32::from_le_bytes(*number)))
    }
}
