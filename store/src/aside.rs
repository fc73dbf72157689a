//! What was put aside, refused or unknown, does not grow for ever: the oldest goes.

use crate::rusqlite::{self, Connection, params};
use phonefleet_protocol::time::Timestamp;

/// Of each peer so many epochs are remembered that were left for good; a peer leaves one when its
/// database is lost or restored.
pub const RETIRED_EPOCHS: u32 = 1000;

/// Both have the number that grows, and when it came.
const TABLES: [&str; 2] = ["inbox_dead_letter", "inbox_unknown"];

/// Deletes what came before `before`, and what is more than the newest `most` of its table; of
/// each table the oldest `chunk` are looked at. Returns how many went.
pub fn prune(
    connection: &Connection,
    before: Timestamp,
    most: u32,
    chunk: u32,
) -> Result<u64, rusqlite::Error> {
    let mut deleted = 0;
    for table in TABLES {
        deleted += connection
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?3)
                    AND (at < ?1 OR id <= (SELECT max(id) FROM {table}) - ?2)"
            ))?
            .execute(params![before.0, most, chunk])? as u64;
    }
    Ok(deleted)
}

/// Forgets the oldest of the epochs that `peer` has left, beyond [`RETIRED_EPOCHS`].
pub(crate) fn prune_retired(connection: &Connection, peer: &str) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "DELETE FROM inbox_retired WHERE peer = ?1 AND epoch IN
                (SELECT epoch FROM inbox_retired WHERE peer = ?1
                 ORDER BY retired_at DESC, epoch LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![peer, RETIRED_EPOCHS])
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_log::{Aside, dead_letter, is_retired, keep_unknown, set_cursor};
    use phonefleet_protocol::stream::{Chain, Epoch, Position};

    fn tables() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../migrations/controller/0001_stream.sql")).unwrap();
        connection
    }

    #[test]
    fn what_was_put_aside_is_bounded_by_age_and_by_number() {
        let connection = tables();
        let count = |table: &str| -> i64 {
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        for number in 1..=20 {
            let aside = || Aside { peer: "h", epoch: Epoch(1), number, kind: "device", payload: "{}" };
            let at = Timestamp(i64::try_from(number).unwrap());
            dead_letter(&connection, aside(), "a test", at).unwrap();
            keep_unknown(&connection, aside(), at).unwrap();
        }
        assert_eq!(prune(&connection, Timestamp(1), 100, 500).unwrap(), 0);
        assert_eq!(prune(&connection, Timestamp(6), 100, 500).unwrap(), 10, "five of each are too old");
        assert_eq!(prune(&connection, Timestamp(0), 8, 4).unwrap(), 8, "a chunk of each is too much");
        while prune(&connection, Timestamp(0), 8, 4).unwrap() > 0 {}
        assert_eq!((count("inbox_dead_letter"), count("inbox_unknown")), (8, 8));
        let oldest = "SELECT min(at) FROM inbox_unknown";
        assert_eq!(connection.query_row(oldest, [], |row| row.get::<_, i64>(0)).unwrap(), 13);
    }

    #[test]
    fn so_many_epochs_that_were_left_are_remembered_of_each_peer() {
        let connection = tables();
        let most = u64::from(RETIRED_EPOCHS);
        let leave = |peer: &str, epoch: u64| {
            let now = Timestamp(i64::try_from(epoch).unwrap());
            let next = Position { epoch: Epoch(epoch + 1), through: 0, chain: Chain(0) };
            set_cursor(&connection, peer, next, Some(Epoch(epoch)), now).unwrap();
        };
        leave("other", 1);
        for epoch in 1..=most + 3 {
            leave("peer", epoch);
        }
        let knows = |peer: &str, epoch: u64| is_retired(&connection, peer, Epoch(epoch)).unwrap();
        assert!(!knows("peer", 3) && knows("peer", 4) && knows("peer", most + 3) && knows("other", 1));
    }
}
