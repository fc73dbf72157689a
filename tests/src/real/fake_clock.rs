//! A wall clock that a test sets for a program, with libfaketime. Only the wall clock: what the
//! program measures by the monotonic one goes on, as when an operator sets a machine's clock.
//! Programs that it starts have its clock, too; statically linked ones have the machine's.

use std::fs;
use std::path::{Path, PathBuf};

/// `$LIB` is the loader's own, for the folder of this machine's libraries.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// A clock that shows the machine's time, and so many seconds more.
#[derive(Clone, Debug)]
pub struct FakeClock {
    file: PathBuf,
}

impl FakeClock {
    /// One that is right, kept in this file.
    pub fn at(file: &Path) -> Self {
        let clock = Self { file: file.to_owned() };
        clock.set(0);
        clock
    }

    /// Sets it to so many seconds after the machine's.
    pub fn set(&self, seconds: i64) {
        // Never seen half written.
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{seconds:+}\n"))
            .and_then(|()| fs::rename(&fresh, &self.file))
            .expect("a clock");
    }

    /// What a program is started with to have this clock.
    pub fn variables(&self) -> [(&'static str, &str); 6] {
        [
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().expect("a path of ASCII")),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ]
    }
}
