//! The folder of one demo, and the record in it by which a later demo can take down what a
//! killed one left.
//!
//! ```text
//!   phonefleet-demo-<name>/          made by the demo, removed by its departure
//!     lock                           locked as long as the demo lives; the kernel lets go of it
//!     demo.json                      which engine has containers of this demo
//! ```
//!
//! The name of the folder is also in the name of the demo's host, which every container
//! carries as a label, and names its control groups. So nothing of one demo can be taken for
//! another's, after whatever restarts.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How the folders of demos begin.
const PREFIX: &str = "phonefleet-demo-";
const LOCK: &str = "lock";
const RECORD: &str = "demo.json";

/// What the kernel cannot take down with a demo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Socket of the engine that has phones of this demo, unless that is the demo's own.
    pub engine: Option<PathBuf>,
    /// The network in which an engine of its own made its bridge.
    pub own_engine_in: Option<String>,
    /// Whether the folder is to stay.
    pub keep: bool,
}

/// A demo's folder, locked.
#[derive(Debug)]
pub struct Lodging {
    /// What is in `demo.json`.
    pub record: Record,
    folder: Option<TempDir>,
    place: PathBuf,
    /// Open as long as the folder is this demo's.
    _lock: File,
}

impl Lodging {
    /// Makes an empty folder with a name of its own.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(keep: bool) -> Result<Self, Failure> {
        Self::new_in(&std::env::temp_dir(), keep).map_err(|error| {
            Failure::Failed(format!("no folder can be made (TMPDIR names another place): {error}"))
        })
    }

    fn new_in(above: &Path, keep: bool) -> io::Result<Self> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{PREFIX}{}", name.get(..8).unwrap_or(&name));
        let folder = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(above)?;
        let place = folder.path().to_owned();
        // Locked before it has its name: nobody ever sees it unlocked while this demo lives.
        let first = place.join("lock.new");
        let lock = File::create_new(&first)?;
        lock.lock()?;
        fs::rename(first, place.join(LOCK))?;
        let lodging =
            Self { record: Record { keep, ..Record::default() }, folder: Some(folder), place, _lock: lock };
        lodging.write()?;
        Ok(lodging)
    }

    /// Where it is.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The demo's name, of a-z, 0-9 and -: that of the folder.
    pub fn name(&self) -> &str {
        self.place.file_name().and_then(|name| name.to_str()).unwrap_or(PREFIX)
    }

    /// What the demo's phone host is called in its fleet, and so its containers' label.
    pub fn host(&self) -> String {
        self.name().replacen("phonefleet-", "", 1)
    }

    /// Changes the record, before what it tells of is begun.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn note(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), Failure> {
        change(&mut self.record);
        self.write().map_err(|error| {
            Failure::Failed(format!("{} cannot be written: {error}", self.place.join(RECORD).display()))
        })
    }

    /// Whole at any moment, whenever this process is killed.
    fn write(&self) -> io::Result<()> {
        let new = self.place.join("demo.json.new");
        fs::write(&new, serde_json::to_vec_pretty(&self.record).map_err(io::Error::other)?)?;
        fs::rename(new, self.place.join(RECORD))
    }

    /// Removes the folder; or what makes it a demo's, where it is to stay.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn leave(&mut self) -> io::Result<()> {
        if self.record.keep {
            if let Some(folder) = self.folder.take() {
                let _ = folder.keep();
            }
            fs::remove_file(self.place.join(RECORD))?;
            return fs::remove_file(self.place.join(LOCK));
        }
        match self.folder.take() {
            Some(folder) => folder.close(),
            None => fs::remove_dir_all(&self.place),
        }
    }
}

/// Folders of demos that were killed, each locked for this process.
pub fn abandoned() -> Vec<Lodging> {
    abandoned_in(&std::env::temp_dir())
}

fn abandoned_in(above: &Path) -> Vec<Lodging> {
    let entries = fs::read_dir(above).into_iter().flatten().flatten();
    entries.filter_map(|entry| take_over(&entry.path())).collect()
}

/// `None` for whatever is no demo's folder, one that lives, or somebody else's: the folder
/// above may be everybody's.
fn take_over(place: &Path) -> Option<Lodging> {
    place.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let own = nix::unistd::geteuid().as_raw();
    let data = fs::symlink_metadata(place).ok()?;
    if !data.is_dir() || data.uid() != own {
        return None;
    }
    let lock = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(place.join(LOCK))
        .ok()?;
    lock.try_lock().ok()?;
    // Another demo may have taken it down between the two.
    let (ours, there) = (lock.metadata().ok()?, fs::symlink_metadata(place.join(LOCK)).ok()?);
    if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
        return None;
    }
    // Without a readable record nothing was begun yet that it could tell of.
    let record = fs::read(place.join(RECORD)).unwrap_or_default();
    let record = serde_json::from_slice(&record).unwrap_or_default();
    Some(Lodging { record, folder: None, place: place.to_owned(), _lock: lock })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_folders_of_dead_demos_are_taken_over() {
        let above = tempfile::tempdir().unwrap();
        let mut alive = Lodging::new_in(above.path(), false).unwrap();
        alive.note(|record| record.engine = Some("/engine.sock".into())).unwrap();
        for (name, lock) in [("phonefleet-demo-other", false), ("another", true)] {
            fs::create_dir(above.path().join(name)).unwrap();
            if lock {
                fs::write(above.path().join(name).join(LOCK), "").unwrap();
            }
        }
        std::os::unix::fs::symlink(alive.place(), above.path().join("phonefleet-demo-link")).unwrap();
        assert!(abandoned_in(above.path()).is_empty());

        // As the kernel does it: the lock is gone, the folder stays.
        let (place, host) = (alive.place().to_owned(), alive.host());
        let _ = alive.folder.take().unwrap().keep();
        drop(alive);
        let mut found = abandoned_in(above.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].place(), found[0].host()), (place.as_path(), host));
        assert_eq!(found[0].record.engine, Some("/engine.sock".into()));
        assert!(abandoned_in(above.path()).is_empty(), "it is locked again");
        found[0].leave().unwrap();
        assert!(!place.exists());
    }

    #[test]
    fn a_folder_that_stays_is_no_demo_s_any_more() {
        let above = tempfile::tempdir().unwrap();
        let mut lodging = Lodging::new_in(above.path(), true).unwrap();
        let place = lodging.place().to_owned();
        lodging.leave().unwrap();
        drop(lodging);
        assert!(place.exists());
        assert!(abandoned_in(above.path()).is_empty());
    }

    #[test]
    fn the_name_is_one_for_a_host() {
        let above = tempfile::tempdir().unwrap();
        let lodging = Lodging::new_in(above.path(), false).unwrap();
        let host = lodging.host();
        assert!(host.parse::<phonefleet_protocol::id::HostId>().is_ok(), "{host}");
        assert_eq!(lodging.name(), format!("phonefleet-{host}"));
    }
}
