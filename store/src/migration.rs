//! Opening a database: one process at a time, checked SQLite, migrations applied.
//!
//! Migrations are append-only: each applied one is remembered with the hash of its
//! text, and a database that a newer program has upgraded is refused, not guessed at.

use rusqlite::{Connection, OptionalExtension, params};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// One step of a schema, numbered from 1 without gaps.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number.
    pub number: u32,
    /// Its file name, for messages.
    pub name: &'static str,
    /// Its SQL.
    pub sql: &'static str,
}

/// Why a database cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path} is in use by another process; stop that one, or give this one a directory of its own")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// A newer program has upgraded it.
    #[error(
        "{path} was written by a newer version (schema {found}, this program knows {known}); \
         run that version again, or restore a backup from before the upgrade"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Schema of the database.
        found: u32,
        /// Newest schema of this program.
        known: u32,
    },
    /// It belongs to the other daemon, or to another program.
    #[error("{path} is not a database of the phonefleet {component}; check the configured path")]
    Foreign {
        /// The database.
        path: PathBuf,
        /// What should own it.
        component: &'static str,
    },
    /// An applied migration differs from the program's.
    #[error(
        "{path}: migration {number} ({name}) is not the one that was applied; this is a build of another history"
    )]
    Changed {
        /// The database.
        path: PathBuf,
        /// Number of the migration.
        number: u32,
        /// Its name.
        name: &'static str,
    },
    /// It was here at an earlier start, and is not any more.
    #[error(
        "{path} is gone, or empty, though it was made here before: put it back, or a backup of it; an empty \
         one is begun only when {mark} is removed as well"
    )]
    Gone {
        /// The database.
        path: PathBuf,
        /// The file that remembers it.
        mark: PathBuf,
    },
    /// SQLite says that its pages do not fit together.
    #[error(
        "{path} is damaged ({why}), and is left as it is: move it away together with its -wal and -shm, and \
         put a backup in its place"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// SQLite is older than the fix of its WAL-reset corruption bug (3.51.3).
    #[error("SQLite {found} can corrupt a database in WAL mode; at least 3.51.3 is needed")]
    OldSqlite {
        /// The linked version.
        found: &'static str,
    },
    /// The file cannot be opened, read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// SQLite refuses.
    #[error("{path}: {source}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// What a component's databases look like.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// `agent` or `controller`; written into the file as its application id.
    pub component: &'static str,
    /// Every migration, in order.
    pub migrations: &'static [Migration],
}

impl Schema {
    fn application_id(&self) -> i32 {
        // Positive, and never SQLite's default of 0.
        (xxh3_64(self.component.as_bytes()) as i32 & i32::MAX) | 1
    }
}

/// Takes the lock that keeps every other process away for as long as the file lives.
pub(crate) fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = path.with_extension("lock");
    let at = |source| OpenError::File { path: lock_path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(at)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(at(source)),
    }
}

/// What the lock's file says once there is a database beside it.
const MARK: &[u8] = b"A database was made beside this file, and is not made a second time.\n";

/// Refuses a database that was here, and is not any more.
pub(crate) fn not_gone(lock: &File, path: &Path) -> Result<(), OpenError> {
    let at = |source| OpenError::File { path: path.to_owned(), source };
    let empty = match path.metadata() {
        Ok(known) => known.is_file() && known.len() == 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(at(error)),
    };
    if empty && lock.metadata().map_err(at)?.len() > 0 {
        return Err(OpenError::Gone { path: path.to_owned(), mark: path.with_extension("lock") });
    }
    Ok(())
}

/// Remembers beside a database that it was made. Without room for that it is done next time.
pub(crate) fn mark(lock: &File) {
    if lock.metadata().is_ok_and(|known| known.len() != MARK.len() as u64)
        && let Err(error) = lock.write_all_at(MARK, 0)
    {
        tracing::warn!(%error, "the lock's file cannot be written");
    }
}

/// Brings the schema up to date. Each migration is one transaction.
pub(crate) fn migrate(connection: &Connection, path: &Path, schema: &Schema) -> Result<(), OpenError> {
    // 3.51.3 has the fix; the bundled library is newer, a system library may not be.
    if rusqlite::version_number() < 3_051_003 {
        return Err(OpenError::OldSqlite { found: rusqlite::version() });
    }
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let owner = pragma("application_id").map_err(sqlite)?;
    let found = u32::try_from(pragma("user_version").map_err(sqlite)?).unwrap_or(u32::MAX);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    let fresh = owner == 0 && found == 0 && tables == 0;
    if !fresh && owner != i64::from(schema.application_id()) {
        return Err(OpenError::Foreign { path: path.to_owned(), component: schema.component });
    }
    let known = schema.migrations.last().map_or(0, |migration| migration.number);
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    for migration in schema.migrations {
        let hash = xxh3_64(migration.sql.as_bytes()) as i64;
        if migration.number <= found {
            let applied: Option<i64> = connection
                .query_row("SELECT hash FROM schema_migration WHERE number = ?1", [migration.number], |row| {
                    row.get(0)
                })
                .optional()
                .map_err(sqlite)?;
            if applied != Some(hash) {
                let Migration { number, name, .. } = *migration;
                return Err(OpenError::Changed { path: path.to_owned(), number, name });
            }
            continue;
        }
        apply(connection, schema, migration, hash).map_err(sqlite)?;
        tracing::info!(component = schema.component, migration = migration.name, "database migrated");
    }
    Ok(())
}

fn apply(
    connection: &Connection,
    schema: &Schema,
    migration: &Migration,
    hash: i64,
) -> Result<(), rusqlite::Error> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migration(
            number INTEGER PRIMARY KEY, name TEXT NOT NULL, hash INTEGER NOT NULL)",
    )?;
    transaction.execute_batch(migration.sql)?;
    transaction.execute(
        "INSERT INTO schema_migration(number, name, hash) VALUES (?1, ?2, ?3)",
        params![migration.number, migration.name, hash],
    )?;
    transaction.pragma_update(None, "user_version", migration.number)?;
    transaction.pragma_update(None, "application_id", schema.application_id())?;
    transaction.commit()
}
