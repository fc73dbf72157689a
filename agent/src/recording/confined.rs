//! Opens files of a phone without being led out of its data.
//!
//! A phone is root in its own `/data` and may put links, pipes or devices wherever a file is
//! expected. Each part of a path is opened by itself and never followed. A file is looked at
//! before it is opened, and only a plain one is: to open a device may already do something,
//! such as set a watchdog going.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// An open folder of a phone.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// How a folder is opened: never through a link.
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// How a thing is held without being opened, a link as the link itself.
const HOLD: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// How a plain file is opened. A lease that the phone has on it must not make the opener wait.
const FILE: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

impl Folder {
    /// A folder of this host, of which the phone cannot make anything else.
    ///
    /// # Errors
    /// `NotFound` without one.
    pub fn root(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, FOLDER, Mode::empty())?))
    }

    /// A folder below it, by plain names separated by `/`.
    ///
    /// # Errors
    /// `NotFound` without one; something else when a part of it is no folder, such as a link.
    pub fn below(&self, path: &str) -> io::Result<Self> {
        let mut folder = Self(self.0.try_clone()?);
        for name in path.split('/') {
            folder = Self(openat(&folder.0, plain(name)?, FOLDER, Mode::empty())?);
        }
        Ok(folder)
    }

    /// Opens a plain file in it.
    ///
    /// # Errors
    /// `NotFound` without one; something else for what is no plain file.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let held = openat(&self.0, plain(name)?, HOLD, Mode::empty())?;
        if !is_plain(&held)? {
            return Err(io::Error::other("it is no plain file"));
        }
        // The very thing that was looked at, whatever has its name by now.
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        Ok(File::from(open(path.as_str(), FILE, Mode::empty())?))
    }

    /// The first bytes of a file, as printable text; nothing of what cannot be read.
    pub fn words(&self, name: &str, most: u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(file) = self.file(name) {
            // What was read before an error counts.
            let _ = file.take(most).read_to_end(&mut bytes);
        }
        printable(&bytes)
    }

    /// Gives a file in it a second name at `to`, whatever it is by now.
    pub fn link(&self, name: &str, to: &Path) -> io::Result<()> {
        Ok(linkat(&self.0, plain(name)?, nix::fcntl::AT_FDCWD, to, AtFlags::empty())?)
    }

    /// Removes names in it; those that are not there are fine.
    pub fn remove(&self, names: &[&str]) -> io::Result<()> {
        for name in names {
            gone(unlinkat(&self.0, plain(name)?, UnlinkatFlags::NoRemoveDir))?;
        }
        Ok(())
    }

    /// Removes an empty folder in it.
    pub fn remove_folder(&self, name: &str) -> io::Result<()> {
        gone(unlinkat(&self.0, plain(name)?, UnlinkatFlags::RemoveDir))
    }
}

/// Bytes of a phone as text for a log: one line, nothing that a terminal would act on.
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether it is a file with bytes in it, and nothing else.
pub fn is_plain(file: &impl AsFd) -> io::Result<bool> {
    let kind = SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFREG)
}

fn plain(name: &str) -> io::Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no plain name")));
    }
    Ok(name)
}

fn gone(removed: nix::Result<()>) -> io::Result<()> {
    match removed {
        Err(Errno::ENOENT) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    #[test]
    fn nothing_leads_out() {
        let host = tempfile::tempdir().unwrap();
        let secret = host.path().join("secret");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("video.mp4"), "host").unwrap();
        let data = host.path().join("data-0");
        fs::create_dir_all(data.join("local/tmp/phonefleet")).unwrap();
        let root = Folder::root(&data).unwrap();
        let below = || root.below("local/tmp/phonefleet/r1");
        assert_eq!(below().unwrap_err().kind(), io::ErrorKind::NotFound);
        // A link in place of the folder, of one above it, and of the file.
        let place = data.join("local/tmp/phonefleet/r1");
        symlink(&secret, &place).unwrap();
        assert_ne!(below().unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        symlink(secret.join("video.mp4"), place.join("video.mp4")).unwrap();
        assert!(below().unwrap().file("video.mp4").is_err());
        fs::rename(data.join("local"), data.join("moved")).unwrap();
        symlink(data.join("moved"), data.join("local")).unwrap();
        assert!(below().is_err());
        assert!(root.below("..").is_err() && root.below("moved//tmp").is_err());
        assert!(root.file("../secret").is_err());
    }

    #[test]
    fn what_is_no_file_is_neither_waited_for_nor_taken() {
        let data = tempfile::tempdir().unwrap();
        let root = Folder::root(data.path()).unwrap();
        nix::unistd::mkfifo(&data.path().join("pipe"), Mode::S_IRWXU).unwrap();
        fs::create_dir(data.path().join("folder")).unwrap();
        for name in ["pipe", "folder"] {
            assert!(root.file(name).is_err(), "{name}");
            assert_eq!(root.words(name, 100), "");
        }
        // Not even opened: that would let a writer in, who waits for a reader.
        let (opened, was_opened) = std::sync::mpsc::channel();
        let pipe = data.path().join("pipe");
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let _open = fs::OpenOptions::new().write(true).open(pipe);
                opened.send(()).unwrap();
            }
        });
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            assert!(root.file("pipe").is_err());
            assert!(was_opened.try_recv().is_err(), "it was opened");
        }
        while !writer.is_finished() {
            open(&pipe, FILE, Mode::empty()).unwrap();
        }
        writer.join().unwrap();
        fs::write(data.path().join("words"), "ERROR:\x1b[2J\nbad\u{7}\0news\n").unwrap();
        assert_eq!(root.words("words", 100), "ERROR: [2J bad news");
        assert_eq!(root.words("words", 5), "ERROR");
        root.remove(&["words", "pipe", "absent"]).unwrap();
        root.remove_folder("folder").unwrap();
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }
}
