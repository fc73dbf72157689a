//! A file system whose machine loses power: what was not synced is gone.
//!
//! It is an ext4 in a file, by a loop device. What a program writes stays in the kernel's page
//! cache until somebody syncs it, and only then is in the file; so a copy of the file is what a
//! disk would have after a power cut. Its own journal is written when somebody syncs, or after ten
//! minutes. What a disk loses of its own cache, although it said "synced", is not shown here.

use super::program::run;
use super::small_disk::SmallDisk;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Kibibytes of one.
const SIZE: u32 = 96 << 10;

/// One such disk, mounted.
#[derive(Debug)]
pub struct LossyDisk {
    /// Where it is mounted.
    pub folder: PathBuf,
    /// Where the files are that it is in: two at a time at most.
    images: SmallDisk,
    cuts: u32,
}

impl LossyDisk {
    /// A new one. Only inside of the tests' environment are mounts nobody else's.
    pub fn mount(folder: &Path) -> Self {
        let images = SmallDisk::mount(&folder.with_extension("images"), 3 * SIZE);
        let disk = Self { folder: folder.to_owned(), images, cuts: 0 };
        fs::create_dir_all(folder).expect("a folder");
        let image = fs::File::create(disk.image()).expect("a file");
        image.set_len(u64::from(SIZE) << 10).expect("a long one");
        let words = ["mkfs.ext4", "-q", "-F", "-m", "0"].map(OsStr::new);
        run(words.into_iter().chain([disk.image().as_os_str()])).expect("mkfs.ext4");
        disk.mount_image();
        disk
    }

    /// Power is cut now. Whoever writes to it has to be halted: it is not looked at all at once.
    pub fn cut(&mut self) {
        let before = self.image();
        self.cuts += 1;
        fs::copy(&before, self.image()).expect("what is on the disk");
    }

    /// It comes back, after [`Self::cut`]. Nobody uses the old one any more.
    pub fn restore(&self) {
        self.unmount();
        self.mount_image();
        let _ = fs::remove_file(self.images.folder.join((self.cuts - 1).to_string()));
    }

    fn image(&self) -> PathBuf {
        self.images.folder.join(self.cuts.to_string())
    }

    fn mount_image(&self) {
        let image = self.image();
        let words = ["mount", "-t", "ext4", "-o", "loop,commit=600"].map(OsStr::new);
        run(words.into_iter().chain([image.as_os_str(), self.folder.as_os_str()])).expect("mount");
    }

    fn unmount(&self) {
        // Whoever still has a file open on it keeps it for as long.
        let _ = run(["umount".as_ref(), "-l".as_ref(), self.folder.as_os_str()]);
    }
}

impl Drop for LossyDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}
