//! Where the logs end that a batch appends to: each item is numbered and chained behind the
//! newest one, and looking that up costs as much as the item itself.

use phonefleet_protocol::stream::Chain;
use std::collections::HashMap;

/// The newest item of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub last: u64,
    pub chain: Chain,
}

/// Ends of logs as this batch left them, with the table of each. Nobody else writes meanwhile;
/// what is undone, of a job or of a part of it, makes whoever undoes it forget them all.
#[derive(Debug, Default)]
pub(crate) struct Tails(HashMap<String, (&'static str, Tail)>);

impl Tails {
    /// The end of a log, if this batch has appended to it.
    pub fn get(&self, table: &'static str, log: &str) -> Option<Tail> {
        self.0.get(log).filter(|known| known.0 == table).map(|known| known.1)
    }

    /// The log ends here now.
    pub fn set(&mut self, table: &'static str, log: &str, tail: Tail) {
        match self.0.get_mut(log) {
            Some(known) => *known = (table, tail),
            None => _ = self.0.insert(log.to_owned(), (table, tail)),
        }
    }

    /// Nothing is known any more.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
