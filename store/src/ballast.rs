//! A file that does nothing but take up room, beside each daemon's database. When the disk is
//! full it is given up, once, so that what must go on has room: deletions, stops, the end of
//! what runs, the events that tell of it. New work is refused meanwhile by whoever asks
//! [`Ballast::is_short`]. It is made again as soon as there is twice the room.

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes kept free. A thousand deletions with their events take some two megabytes, and SQLite's
/// log grows to four before it is used again.
pub const BALLAST_BYTES: u64 = 8 << 20;
/// Less room than this is none: somebody else's write takes it at any moment.
const FULL_BYTES: u64 = 1 << 20;
/// Between two looks at the disk.
const AGAIN: Duration = Duration::from_secs(1);

/// The ballast of one database.
pub(crate) struct Ballast {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    held: bool,
    short: bool,
    looked: Option<Instant>,
}

impl Ballast {
    /// Makes it, or finds that of an earlier run. A disk without room has none.
    pub fn beside(database: &Path) -> Self {
        let path = database.with_extension("ballast");
        let whole = std::fs::metadata(&path).is_ok_and(|known| known.len() == BALLAST_BYTES);
        let held = whole || make(&path);
        Self { path, state: Mutex::new(State { held, short: !held, looked: None }) }
    }

    /// Gives its room away, if the disk seems to have no other. `true`: there is more than before.
    pub fn give_up_if_full(&self) -> bool {
        room(&self.path).is_some_and(|room| room < FULL_BYTES) && self.give_up()
    }

    /// Gives its room away: the disk has no other. `true`: there is more than before.
    pub fn give_up(&self) -> bool {
        let mut state = self.state();
        if !state.held {
            return false;
        }
        *state = State { held: false, short: true, looked: Some(Instant::now()) };
        match std::fs::remove_file(&self.path) {
            Ok(()) => {
                tracing::error!(
                    path = %self.path.display(),
                    "the disk is full: the ballast is given up so that deletions and stops go on, and new work \
                     is refused; make room"
                );
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the ballast cannot be given up");
                false
            }
        }
    }

    /// Whether the disk is full: the ballast is given up and there is no room yet to make it
    /// again, or there is nothing beside it. Looks once a second at most.
    pub fn is_short(&self) -> bool {
        let mut state = self.state();
        if state.looked.is_some_and(|looked| looked.elapsed() < AGAIN) {
            return state.short;
        }
        if !state.held && make(&self.path) {
            tracing::info!(path = %self.path.display(), "the disk has room: there is a ballast again");
            state.held = true;
        }
        state.short = !state.held || room(&self.path).is_some_and(|room| room < FULL_BYTES);
        state.looked = Some(Instant::now());
        state.short
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that the file system has for this process; `None` when it does not tell.
fn room(path: &Path) -> Option<u64> {
    let known = statvfs(path.parent()?).ok()?;
    Some(known.blocks_available().saturating_mul(known.fragment_size()))
}

/// Takes the room, where there is twice as much: otherwise it would be given up again at once.
fn make(path: &Path) -> bool {
    if room(path).is_none_or(|room| room < 2 * BALLAST_BYTES) {
        return false;
    }
    let length = i64::try_from(BALLAST_BYTES).unwrap_or(i64::MAX);
    let made = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
        .and_then(|file| posix_fallocate(&file, 0, length).map_err(io::Error::from));
    if let Err(error) = &made {
        tracing::warn!(path = %path.display(), %error, "the ballast cannot be made");
        // Only room is at stake; the next attempt begins with it.
        let _ = std::fs::remove_file(path);
    }
    made.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_and_is_kept_while_the_disk_has_other() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let ballast = Ballast::beside(&database);
        assert!(!ballast.is_short());
        let file = folder.path().join("a.ballast");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), BALLAST_BYTES);
        assert!(!ballast.give_up_if_full(), "this disk is not full");
        assert!(file.exists());
        assert!(ballast.give_up() && !file.exists());
        assert!(ballast.is_short() && !ballast.give_up(), "once");
        let end = Instant::now() + Duration::from_secs(10);
        while ballast.is_short() {
            assert!(Instant::now() < end, "it is not made again");
            std::thread::yield_now();
        }
        assert!(file.exists());
    }

    #[test]
    fn a_disk_that_tells_nothing_has_none() {
        let ballast = Ballast::beside(Path::new("/nonexistent/a.db"));
        assert!(ballast.is_short() && !ballast.give_up());
    }
}
