//! A small file system of its own, which a test fills and empties; gone with the value.

use super::program::run;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A tmpfs at a folder.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where it is.
    pub folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one with so many kibibytes. Only inside of the tests' environment are mounts
    /// nobody else's.
    pub fn mount(folder: &Path, kibibytes: u32) -> Self {
        assert!(std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT").is_some(), "outside of the environment");
        fs::create_dir_all(folder).expect("a folder");
        let size = format!("size={kibibytes}k,mode=700");
        let words = ["mount".as_ref(), "-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), size.as_ref()];
        run(words.into_iter().chain(["tmpfs".as_ref(), folder.as_os_str()])).expect("mount");
        Self { folder: folder.to_owned() }
    }

    /// Takes all the room that is left, to the last byte.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("a file");
        while file.write_all(&[0x5a; 4096]).is_ok() {}
        while file.write_all(&[0x5a; 1]).is_ok() {}
    }

    /// Gives it back.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled");
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open on it keeps it for as long.
        let _ = run(["umount".as_ref(), "-l".as_ref(), self.folder.as_os_str()]);
    }
}
