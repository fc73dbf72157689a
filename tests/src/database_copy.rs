//! A backup of a daemon's database, and its return. The daemon is at rest meanwhile.

use std::path::{Path, PathBuf};

/// The files of a database as they were.
#[derive(Debug)]
pub struct DatabaseCopy(Vec<(PathBuf, Option<Vec<u8>>)>);

impl DatabaseCopy {
    /// Copies the files of the database at `database`, which nobody has open.
    pub fn of(database: &Path) -> Self {
        let files = ["db", "db-wal"].map(|extension| database.with_extension(extension));
        Self(files.into_iter().map(|path| (path.clone(), std::fs::read(&path).ok())).collect())
    }

    /// Puts them back, in place of what has become of them.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn put_back(self) {
        for (path, content) in self.0 {
            match content {
                Some(content) => std::fs::write(path, content).expect("the copy is put back"),
                None => _ = std::fs::remove_file(path),
            }
        }
    }
}
