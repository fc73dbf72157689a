//! A database that is damaged is refused; or it is set aside, and a new one begins in its
//! place: for daemons that can make good for all that was in it from elsewhere.
//!
//! Damaged is what SQLite itself says is: no database, or one whose pages do not fit together
//! (`PRAGMA quick_check`, which reads the file once: some 100 MB a second). A database that
//! cannot be opened for another reason is left alone: its disk may come back.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Of the databases that were set aside, so many are kept: the newest.
const KEPT: usize = 3;
/// Between a database's name and the number of one that was set aside.
const ASIDE: &str = ".damaged-";
/// What SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Why the database at `path` cannot be used for ever; `None` when it can, or when there is
/// none, or when that cannot be told now.
pub(crate) fn damage(path: &Path) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let check = || -> Result<String, rusqlite::Error> {
        let connection = Connection::open_with_flags(path, flags)?;
        // A damaged one is left as it is, with its log.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
    };
    match check() {
        Ok(result) if result == "ok" => None,
        Ok(result) => Some(result),
        Err(error) => is_damage(&error).then(|| error.to_string()),
    }
}

/// Whether SQLite says with this error that its database is damaged, for ever.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// Reads the first page of each table anew, and not from what this connection remembers: a
/// database that somebody has written over would else go unnoticed for as long as that serves.
///
/// # Errors
/// SQLite's; [`is_damage`] tells those that are for ever.
pub fn look(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch("PRAGMA shrink_memory")?;
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for table in tables {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM \"{}\")", table.replace('"', "\"\""));
        connection.query_row(&sql, [], |_| Ok(()))?;
    }
    Ok(())
}

/// The file that a database is in: another one may take its name, or none.
pub(crate) struct Place {
    path: PathBuf,
    file: (u64, u64),
}

impl Place {
    /// Where the database at `path` is now.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: identity(path)? })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether that file has lost its name: what is written to it, nobody will find.
    pub fn is_lost(&self) -> bool {
        match identity(&self.path) {
            Ok(file) => file != self.file,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let known = std::fs::metadata(path)?;
    Ok((known.dev(), known.ino()))
}

/// Moves a database out of the way, with what lies beside it; returns where it is now.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let target = with_suffix(path, &format!("{ASIDE}{:06}", times_set_aside(path) + 1));
    for (from, to) in moves(path, &target) {
        match std::fs::rename(&from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound || from == path => return Err(error),
            _ => {}
        }
    }
    let mut kept = all_set_aside(path);
    while kept.len() > KEPT {
        let oldest = kept.remove(0);
        for name in BESIDE.iter().map(|beside| with_suffix(&oldest, beside)).chain([oldest.clone()]) {
            // Only room is at stake; the next time tries again.
            let _ = std::fs::remove_file(name);
        }
    }
    Ok(target)
}

/// What is renamed, in order: the database first. Killed after that, there is none, and SQLite
/// deletes what lies beside one that it makes. Without its log, though, a database would be
/// whole again, and older than what was told from it.
fn moves(path: &Path, target: &Path) -> Vec<(PathBuf, PathBuf)> {
    let both = |suffix: &str| (with_suffix(path, suffix), with_suffix(target, suffix));
    [""].into_iter().chain(BESIDE).map(both).collect()
}

/// How many databases were set aside so far in the place of the one at `path`; not all are kept.
pub fn times_set_aside(path: &Path) -> u32 {
    all_set_aside(path).last().and_then(|newest| number(path, newest)).unwrap_or(0)
}

/// Databases that were set aside in the place of the one at `path`, the oldest first.
pub fn all_set_aside(path: &Path) -> Vec<PathBuf> {
    let Some(folder) = path.parent() else { return Vec::new() };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> =
        entries.map(|entry| entry.path()).filter_map(|found| Some((number(path, &found)?, found))).collect();
    found.sort();
    found.into_iter().map(|(_, found)| found).collect()
}

/// Which of the databases set aside this is: they are numbered, because clocks are set back.
fn number(path: &Path, found: &Path) -> Option<u32> {
    let start = with_suffix(path, ASIDE);
    found.to_str()?.strip_prefix(start.to_str()?)?.parse().ok()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn database(path: &Path) {
        let connection = Connection::open(path).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t(a TEXT); CREATE INDEX i ON t(a);
                 WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000)
                 INSERT INTO t SELECT 'row ' || x FROM n;",
            )
            .unwrap();
    }

    #[test]
    fn what_was_written_over_is_seen_though_it_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        database(&path);
        let connection = Connection::open(&path).unwrap();
        let read = || connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        let rows = read().unwrap();
        look(&connection).unwrap();
        assert_eq!(read(), Ok(rows));
        let length = fs::metadata(&path).unwrap().len();
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        io::Write::write_all(&mut file, &vec![0x5a; length as usize]).unwrap();
        assert_eq!(read(), Ok(rows), "it remembers");
        assert!(look(&connection).is_err_and(|error| is_damage(&error)));
    }

    #[test]
    fn damage_is_told_from_what_may_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        assert_eq!(damage(&path), None, "there is none");
        fs::write(&path, b"").unwrap();
        assert_eq!(damage(&path), None, "an empty one is a new one");
        database(&path);
        assert_eq!(damage(&path), None);
        let whole = fs::read(&path).unwrap();

        let mut bytes = whole.clone();
        bytes[..100].fill(0x5a);
        fs::write(&path, &bytes).unwrap();
        assert!(damage(&path).is_some(), "its header is gone");

        let mut bytes = whole.clone();
        let middle = bytes.len() / 2 / 4096 * 4096;
        bytes[middle..middle + 4096].fill(0);
        fs::write(&path, &bytes).unwrap();
        assert!(damage(&path).is_some(), "a page of it is gone");

        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(damage(&path).is_some(), "half of it is gone");

        // A folder in its place is no damage of a database.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(damage(&path), None);
    }

    /// A whole database with a log that damages it, as a daemon leaves them that is killed.
    fn damaged_by_its_log(path: &Path) {
        database(path);
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = 'CREATE INDEX ?' WHERE name = 'i';",
            )
            .unwrap();
        let copies = BESIDE.map(|beside| with_suffix(path, beside)).map(|file| (fs::read(&file), file));
        let main = fs::read(path).unwrap();
        drop(connection);
        fs::write(path, main).unwrap();
        for (bytes, file) in copies {
            if let Ok(bytes) = bytes {
                fs::write(file, bytes).unwrap();
            }
        }
    }

    #[test]
    fn a_kill_in_between_leaves_no_older_database() {
        for done in 0..=BESIDE.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.db");
            damaged_by_its_log(&path);
            for (from, to) in moves(&path, &with_suffix(&path, ".damaged-000001")).into_iter().take(done) {
                let _ = fs::rename(from, to);
            }
            if damage(&path).is_some() {
                assert_eq!(done, 0, "it is set aside");
                continue;
            }
            let connection = Connection::open(&path).unwrap();
            let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()));
            mode.unwrap();
            let tables: u32 =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
            assert_eq!(tables, 0, "killed after {done} of the moves");
        }
    }

    #[test]
    fn what_is_set_aside_is_kept_for_a_while_and_leaves_nothing_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        for number in 0..KEPT + 2 {
            fs::write(&path, format!("database {number}")).unwrap();
            fs::write(with_suffix(&path, "-wal"), "log").unwrap();
            let target = set_aside(&path).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), format!("database {number}"));
            assert_eq!(fs::read_to_string(with_suffix(&target, "-wal")).unwrap(), "log");
            assert!(!path.exists() && !with_suffix(&path, "-wal").exists());
        }
        let kept = all_set_aside(&path);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(times_set_aside(&path) as usize, KEPT + 2);
        assert_eq!(fs::read_to_string(&kept[0]).unwrap(), "database 2");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2 * KEPT, "with what lies beside them");
    }
}
