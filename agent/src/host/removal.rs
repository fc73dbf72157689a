//! Removes what phones leave on this host's disk.
//!
//! A phone's root writes there: folders nested by the ten thousand, which would use up the stack
//! of a removal that recurses, and files that `chattr +i` made immutable, which a privileged
//! phone may. Nothing is followed and nothing but folders and plain files is opened. Whoever
//! calls has ended the phone, so that nobody works against it.

use nix::errno::Errno;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Removes a folder with all that is in it, or a file; nothing there is as good.
///
/// Needs three folders' worth of path, stack and descriptors, however deep it goes: folders in
/// folders are moved up to the top first.
///
/// # Errors
/// The first thing that could not be removed. What is left can be removed by another call.
pub(crate) fn remove_tree(top: &Path) -> io::Result<()> {
    match fs::symlink_metadata(top) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(about) if !about.is_dir() => return remove_file(top),
        Ok(_) => {}
    }
    // Moving to it is forbidden as well while it is fastened.
    let _ = unfasten(top);
    let mut names = FreshNames::new(top);
    loop {
        let folders = empty(top, None)?;
        if folders.is_empty() {
            return unfastened(top, || fs::remove_dir(top));
        }
        for folder in folders {
            empty(&folder, Some(&mut names))?;
            unfastened(&folder, || fs::remove_dir(&folder))?;
        }
    }
}

/// Removes a file, also one that was made immutable; nothing there is as good.
///
/// # Errors
/// It is there still.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match unfastened(path, || fs::remove_file(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes the files of a folder. Its folders are moved out of it, or are returned.
fn empty(folder: &Path, mut out: Option<&mut FreshNames>) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            remove_file(&path)?;
        } else if let Some(names) = &mut out {
            unfastened(&path, || names.take(&path))?;
        } else {
            folders.push(path);
        }
    }
    Ok(folders)
}

/// Names at the top that nothing has yet.
struct FreshNames {
    top: PathBuf,
    salt: u128,
    next: u64,
}

impl FreshNames {
    fn new(top: &Path) -> Self {
        let salt = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Self { top: top.to_owned(), salt, next: 0 }
    }

    /// Moves a folder to the top.
    fn take(&mut self, folder: &Path) -> io::Result<()> {
        loop {
            let to = self.top.join(format!("{:x}-{}", self.salt, self.next));
            self.next += 1;
            match fs::rename(folder, &to) {
                // The phone had the same idea.
                Err(error)
                    if [ErrorKind::DirectoryNotEmpty, ErrorKind::NotADirectory].contains(&error.kind()) => {}
                done => return done,
            }
        }
    }
}

/// Does something to `path`; where that is forbidden, takes the flags off it and its folder that
/// forbid even root to change them, and does it again.
pub(super) fn unfastened(path: &Path, mut work: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    match work() {
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
            unfasten(path)?;
            if let Some(folder) = path.parent() {
                unfasten(folder)?;
            }
            work()
        }
        done => done,
    }
}

fn unfasten(path: &Path) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if !about.is_dir() && !about.is_file() {
        return Ok(());
    }
    let file: File = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    let fastened = IFlags::IMMUTABLE | IFlags::APPEND;
    match ioctl_getflags(&file) {
        Ok(flags) if flags.intersects(fastened) => {
            tracing::warn!(path = %path.display(), "what a phone made immutable is made removable");
            Ok(ioctl_setflags(&file, flags - fastened)?)
        }
        // A file system without such flags.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Nests folders as somebody in a phone would: each time the whole goes into another one.
    fn nest(top: &Path, levels: u32) {
        let (inner, outer) = (top.join("n"), top.join("d"));
        fs::create_dir(&inner).unwrap();
        for _ in 0..levels {
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join("n")).unwrap();
            fs::rename(&outer, &inner).unwrap();
        }
    }

    #[test]
    fn folders_as_deep_as_can_be_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("data");
        fs::create_dir(&top).unwrap();
        nest(&top, 1_000);
        // A removal that recursed would need more stack than this, as 20,000 levels would in the agent.
        let removed = std::thread::Builder::new().stack_size(64 * 1024).spawn({
            let top = top.clone();
            move || remove_tree(&top)
        });
        removed.unwrap().join().unwrap().unwrap();
        assert!(!top.exists());
        remove_tree(&top).unwrap();
    }

    #[test]
    fn nothing_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (top, other) = (folder.path().join("data"), folder.path().join("other"));
        for made in [&top, &other] {
            fs::create_dir(made).unwrap();
        }
        fs::write(other.join("x"), "x").unwrap();
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::write(top.join("a/b/file"), "x").unwrap();
        symlink(&other, top.join("a/b/link")).unwrap();
        symlink(&other, top.join("link")).unwrap();
        nix::unistd::mkfifo(&top.join("a/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists() && other.join("x").exists());
        // A link in place of the folder itself.
        symlink(&other, &top).unwrap();
        remove_tree(&top).unwrap();
        assert!(fs::symlink_metadata(&top).is_err() && other.join("x").exists());
    }

    /// Where the disk knows such flags, and this process may set them.
    #[test]
    fn what_was_made_immutable_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("data");
        let (inner, file) = (top.join("a/b"), top.join("a/b/file"));
        fs::create_dir_all(&inner).unwrap();
        fs::write(&file, "x").unwrap();
        for (path, flag) in [(&file, IFlags::IMMUTABLE), (&inner, IFlags::APPEND), (&top, IFlags::IMMUTABLE)]
        {
            let open = File::open(path).unwrap();
            if ioctl_getflags(&open).and_then(|flags| ioctl_setflags(&open, flags | flag)).is_err() {
                eprintln!("no such flags here");
                let _ = unfasten(&file);
                let _ = unfasten(&inner);
                return;
            }
        }
        assert_eq!(fs::remove_file(&file).unwrap_err().kind(), ErrorKind::PermissionDenied);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }
}
