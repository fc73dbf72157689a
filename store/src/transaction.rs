//! What a job sees of the database: the transaction that it shares with others of its batch.

use crate::connection::execute;
use crate::tail::Tails;
use rusqlite::Connection;
use std::ops::Deref;

/// The transaction a job runs in. `N` is what a daemon announces after commits.
pub struct Tx<'a, N> {
    connection: &'a Connection,
    notices: &'a mut Vec<N>,
    tails: &'a mut Tails,
}

impl<'a, N> Tx<'a, N> {
    /// A transaction on `connection` that the writer begins and commits.
    pub(crate) fn new(connection: &'a Connection, notices: &'a mut Vec<N>, tails: &'a mut Tails) -> Self {
        Self { connection, notices, tails }
    }

    /// Where the logs end that this batch has appended to.
    pub(crate) fn tails(&mut self) -> &mut Tails {
        self.tails
    }

    /// Announces `notice` once this transaction is committed, and not otherwise.
    pub fn announce(&mut self, notice: N) {
        self.notices.push(notice);
    }

    /// Runs `part` so that an error undoes what it wrote and announced, and nothing else.
    pub fn part<T, E: From<rusqlite::Error>>(
        &mut self,
        part: impl FnOnce(&mut Tx<'_, N>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mark = self.notices.len();
        execute(self.connection, "SAVEPOINT part")?;
        let result = part(&mut Tx { connection: self.connection, notices: self.notices, tails: self.tails });
        if result.is_err() {
            self.tails.forget();
        }
        if result.is_err() && !self.connection.is_autocommit() {
            self.notices.truncate(mark);
            execute(self.connection, "ROLLBACK TO part")?;
        }
        if !self.connection.is_autocommit() {
            execute(self.connection, "RELEASE part")?;
        }
        result
    }
}

impl<N> Deref for Tx<'_, N> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection
    }
}
