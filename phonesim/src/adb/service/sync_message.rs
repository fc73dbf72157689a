//! Messages of the file service (`sync:`), sans-IO: a name of four letters, a number, data.
//! AOSP `file_sync_protocol.h`.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Longest path in bytes.
pub const LONGEST_PATH: usize = 1024;

/// Longest piece of a file in bytes.
pub const PIECE_BYTES: usize = 64 * 1024;

/// What the host wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Mode, size and time of a path, in the first version's words.
    Stat,
    /// All of it, of what a link leads to.
    StatTarget,
    /// All of it, of the path itself.
    StatPath,
    /// A folder, in the first version's words.
    List,
    /// A folder, with all of each entry.
    ListAll,
    /// The contents of a file.
    Receive,
    /// A file is to be made.
    Send,
    /// Nothing any more.
    Quit,
}

impl Order {
    /// Reads the name.
    pub fn of(name: [u8; 4]) -> Option<Self> {
        Some(match &name {
            b"STAT" => Self::Stat,
            b"STA2" => Self::StatTarget,
            b"LST2" => Self::StatPath,
            b"LIST" => Self::List,
            b"LIS2" => Self::ListAll,
            b"RECV" => Self::Receive,
            b"SEND" => Self::Send,
            b"QUIT" => Self::Quit,
            _ => return None,
        })
    }

    /// The name in an answer.
    pub fn name(self) -> [u8; 4] {
        *match self {
            Self::Stat => b"STAT",
            Self::StatTarget => b"STA2",
            Self::StatPath => b"LST2",
            Self::List => b"LIST",
            Self::ListAll => b"LIS2",
            Self::Receive => b"RECV",
            Self::Send => b"SEND",
            Self::Quit => b"QUIT",
        }
    }
}

/// A name, a number and data.
pub fn message(name: [u8; 4], number: u32, data: &[u8]) -> Vec<u8> {
    [&name, &number.to_le_bytes()[..], data].concat()
}

/// `FAIL` with words for whoever sits at the host.
pub fn failure(words: &str) -> Vec<u8> {
    let words = &words.as_bytes()[..words.len().min(LONGEST_PATH)];
    message(*b"FAIL", words.len() as u32, words)
}

/// Mode, size and time as the first version tells them; of what is not there all zero.
pub fn short_status(found: Option<&Metadata>) -> [u8; 12] {
    let mut bytes = [0; 12];
    if let Some(found) = found {
        let size = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let time = u32::try_from(found.mtime()).unwrap_or(0);
        for (place, word) in bytes.chunks_exact_mut(4).zip([found.mode(), size, time]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

/// The second version: an error number of Linux, then everything.
pub fn long_status(found: Result<&Metadata, i32>) -> [u8; 68] {
    let mut bytes = Vec::with_capacity(68);
    match found {
        Ok(found) => {
            bytes.extend_from_slice(&0_u32.to_le_bytes());
            bytes.extend_from_slice(&found.dev().to_le_bytes());
            bytes.extend_from_slice(&found.ino().to_le_bytes());
            for word in [found.mode(), found.nlink() as u32, found.uid(), found.gid()] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&found.size().to_le_bytes());
            for time in [found.atime(), found.mtime(), found.ctime()] {
                bytes.extend_from_slice(&time.to_le_bytes());
            }
        }
        Err(number) => bytes.extend_from_slice(&number.to_le_bytes()),
    }
    let mut status = [0; 68];
    status[..bytes.len()].copy_from_slice(&bytes);
    status
}

/// `PATH,MODE` of an order to make a file; the mode is decimal and behind the last comma.
pub fn path_and_mode(text: &str) -> Option<(&str, u32)> {
    let (path, mode) = text.rsplit_once(',')?;
    (!path.is_empty()).then_some((path, mode.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_the_lengths_of_the_books() {
        let folder = tempfile::tempdir().unwrap();
        let found = folder.path().metadata().unwrap();
        assert_eq!(u32::from_le_bytes(short_status(Some(&found))[..4].try_into().unwrap()), found.mode());
        assert_eq!(short_status(None), [0; 12]);
        let status = long_status(Ok(&found));
        assert_eq!(status[20..24], found.mode().to_le_bytes());
        assert_eq!(status[60..68], found.ctime().to_le_bytes());
        let status = long_status(Err(2));
        assert_eq!((status[0], &status[1..]), (2, &[0; 67][..]));
    }

    #[test]
    fn a_path_may_hold_commas() {
        assert_eq!(path_and_mode("/a,b,33188"), Some(("/a,b", 33188)));
        for bad in ["", "/a", ",1", "/a,x", "/a,-1"] {
            assert_eq!(path_and_mode(bad), None);
        }
    }

    #[test]
    fn a_failure_is_never_longer_than_hosts_take() {
        assert_eq!(failure("no"), b"FAIL\x02\0\0\0no");
        assert_eq!(failure(&"x".repeat(5000)).len(), 8 + LONGEST_PATH);
        for order in [Order::Stat, Order::ListAll, Order::Quit] {
            assert_eq!(Order::of(order.name()), Some(order));
        }
        assert_eq!(Order::of(*b"XXXX"), None);
    }
}
