//! Opening a video that an agent on this machine keeps.
//!
//! The folder is named by a host, so it is believed only if its marker holds that host's id.
//! Below it, every step is opened by its own name, without following a link: what is opened
//! is what the agent put there. Blocking calls: not for the runtime's threads.

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use phonefleet_protocol::id::{DeviceId, HostId, RecordingId};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The file that says whose folder it is.
pub const MARKER: &str = ".phonefleet-host";
/// Longest marker: a host id and a line end are shorter.
const MARKER_BYTES: u64 = 256;

/// Why a video cannot be read here.
#[derive(Debug, thiserror::Error)]
pub enum KeptFileError {
    /// The folder is not that host's, or cannot be seen from here.
    #[error("{0} is not the recordings folder of this host")]
    NotItsFolder(String),
    /// The file is not there (any more).
    #[error("its host no longer keeps it")]
    Gone,
    /// It is there, and cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::Error),
}

/// A video that is open for reading.
#[derive(Debug)]
pub struct KeptFile {
    /// The file, at its beginning.
    pub file: File,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Opens `<directory>/<device>/<recording>.mp4`.
pub fn open(
    directory: &Path,
    host: &HostId,
    device: DeviceId,
    recording: RecordingId,
) -> Result<KeptFile, KeptFileError> {
    let strange = || KeptFileError::NotItsFolder(directory.display().to_string());
    let folder: OwnedFd =
        nix::fcntl::open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|_| strange())?;
    let mut text = String::new();
    File::from(entry(&folder, MARKER, OFlag::O_NONBLOCK).map_err(|_| strange())?)
        .take(MARKER_BYTES)
        .read_to_string(&mut text)
        .map_err(|_| strange())?;
    if text.trim() != host.as_str() {
        return Err(strange());
    }
    let missing = |error: nix::Error| match error {
        // A link where the agent puts none: what it kept is not there any more.
        nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP => KeptFileError::Gone,
        other => KeptFileError::Unreadable(other.into()),
    };
    let below = entry(&folder, &device.to_string(), OFlag::O_DIRECTORY).map_err(missing)?;
    // Without O_NONBLOCK a pipe of that name would hold this thread for ever.
    let file = entry(&below, &format!("{recording}.mp4"), OFlag::O_NONBLOCK).map_err(missing)?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(KeptFileError::Unreadable)?;
    if !metadata.is_file() {
        return Err(KeptFileError::Gone);
    }
    Ok(KeptFile { file, bytes: metadata.len() })
}

fn entry(folder: &impl AsFd, name: &str, kind: OFlag) -> nix::Result<OwnedFd> {
    openat(folder, name, kind | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::{fs, io};
    use uuid::Uuid;

    #[test]
    fn only_what_the_agent_put_there_is_opened() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let (device, recording) = (DeviceId(Uuid::from_u128(1)), RecordingId(Uuid::from_u128(2)));
        let host: HostId = "host-1".parse().unwrap();
        let try_open = |path: &Path| open(path, &host, device, recording);
        let path = root.path();
        assert!(matches!(try_open(path), Err(KeptFileError::NotItsFolder(_))), "no marker");
        fs::write(path.join(MARKER), "host-2\n")?;
        assert!(matches!(try_open(path), Err(KeptFileError::NotItsFolder(_))), "another host's");
        fs::write(path.join(MARKER), "host-1\n")?;
        assert!(matches!(try_open(path), Err(KeptFileError::Gone)), "no device");
        let below = path.join(device.to_string());
        fs::create_dir(&below)?;
        assert!(matches!(try_open(path), Err(KeptFileError::Gone)), "no file");
        let file = below.join(format!("{recording}.mp4"));
        symlink("/etc/hostname", &file)?;
        assert!(matches!(try_open(path), Err(KeptFileError::Gone)), "a link");
        fs::remove_file(&file)?;
        fs::create_dir(&file)?;
        assert!(matches!(try_open(path), Err(KeptFileError::Gone)), "a folder");
        fs::remove_dir(&file)?;
        nix::unistd::mkfifo(&file, Mode::S_IRWXU)?;
        assert!(matches!(try_open(path), Err(KeptFileError::Gone)), "a pipe");
        fs::remove_file(&file)?;
        fs::write(&file, b"video")?;
        assert_eq!(try_open(path).unwrap().bytes, 5);
        fs::rename(&below, path.join("elsewhere"))?;
        symlink("elsewhere", &below)?;
        assert!(matches!(try_open(path), Err(KeptFileError::Gone)), "a linked folder");
        assert!(matches!(try_open(Path::new("/nonexistent")), Err(KeptFileError::NotItsFolder(_))));
        Ok(())
    }
}
