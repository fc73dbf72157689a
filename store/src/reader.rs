//! Reads: connections of their own, which never wait for the writer.

use crate::connection::connect;
use rusqlite::{Connection, OpenFlags};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Reader connections kept open.
const READERS: usize = 4;
/// Reads at a time; further ones wait. A thousand hosts that come back at once must not
/// become as many threads and connections.
const READS: usize = 16;

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite refuses.
    #[error("the database cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The store is closed, or the reading job panicked.
    #[error("the database is closed")]
    Closed,
}

/// The readers of one database.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
}

impl Readers {
    pub fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Vec::new()), places: Arc::new(Semaphore::new(READS)) }
    }

    /// Runs `job` on a thread that may wait for the disk.
    pub async fn read<T, F>(self: &Arc<Self>, job: F) -> Result<T, ReadError>
    where
        F: FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
        T: Send + 'static,
    {
        // Never closed. The job holds its place also when its caller has gone away.
        let place = Arc::clone(&self.places).acquire_owned().await;
        let readers = Arc::clone(self);
        let read = move || {
            let _place = place;
            readers.read_now(job)
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| ReadError::Closed)?
    }

    fn read_now<T>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, ReadError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = if let Some(connection) = idle {
            connection
        } else {
            let connection =
                connect(&self.path, "FULL", OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE)?;
            connection.pragma_update(None, "query_only", true)?;
            connection
        };
        // A deferred transaction: every statement of the job sees the same state.
        let transaction = connection.unchecked_transaction()?;
        let result = job(&transaction);
        transaction.finish()?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS {
            idle.push(connection);
        }
        Ok(result?)
    }
}
