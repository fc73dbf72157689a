//! The tables of the reliable stream, the same in both daemons but for one name: the
//! agent's log is `event_outbox`, the controller's logs are `command_outbox`.
//!
//! A log's rows are numbered without gaps; nothing is updated when they are sent or
//! acknowledged. What was acknowledged is deleted in order, from the oldest, in small
//! chunks; the chain before the oldest kept row stays in `stream_log`, so that the row
//! behind it can still be proven.

use crate::tail::Tail;
use crate::transaction::Tx;
use phonefleet_protocol::stream::durable::LogRead;
use phonefleet_protocol::stream::{Chain, Epoch, LogHead, Position};
use phonefleet_protocol::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

/// What is stored beside an item, to find it by.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Kind of thing that the item is about: `device`, `host`.
    pub aggregate_type: &'a str,
    /// Which one.
    pub aggregate_id: &'a str,
    /// The item's kind.
    pub event_type: &'a str,
}

/// The logs that this database sends from.
#[derive(Clone, Copy, Debug)]
pub struct StreamLog {
    select_newest: &'static str,
    select_chain: &'static str,
    select_page: &'static str,
    insert: &'static str,
    delete_all: &'static str,
    select_prunable: &'static str,
    delete_through: &'static str,
    count: &'static str,
}

macro_rules! stream_log {
    ($table:literal) => {
        StreamLog {
            select_newest: concat!(
                "SELECT seq, chain FROM ",
                $table,
                " WHERE log = ?1 ORDER BY seq DESC LIMIT 1"
            ),
            select_chain: concat!("SELECT chain FROM ", $table, " WHERE log = ?1 AND seq = ?2"),
            select_page: concat!(
                "SELECT payload FROM ",
                $table,
                " WHERE log = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
            ),
            insert: concat!(
                "INSERT INTO ",
                $table,
                "(log, seq, chain, aggregate_type, aggregate_id, event_type, payload, created_at) ",
                "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
            ),
            delete_all: concat!("DELETE FROM ", $table, " WHERE log = ?1"),
            select_prunable: concat!(
                "SELECT max(seq) FROM (SELECT seq, created_at FROM ",
                $table,
                " WHERE log = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?4) WHERE created_at < ?3"
            ),
            delete_through: concat!("DELETE FROM ", $table, " WHERE log = ?1 AND seq <= ?2"),
            count: concat!("SELECT count(*), min(created_at) FROM ", $table, " WHERE log = ?1 AND seq > ?2"),
        }
    };
}

/// The agent's log of events.
pub const EVENT_OUTBOX: StreamLog = stream_log!("event_outbox");
/// The controller's logs of commands, one for each host.
pub const COMMAND_OUTBOX: StreamLog = stream_log!("command_outbox");

/// An item that the domain refused, or did not know.
#[derive(Clone, Copy, Debug)]
pub struct Aside<'a> {
    /// Who sent it.
    pub peer: &'a str,
    /// In which epoch.
    pub epoch: Epoch,
    /// Under which number.
    pub number: u64,
    /// Its kind, if it could be read.
    pub kind: &'a str,
    /// Its JSON text.
    pub payload: &'a str,
}

impl StreamLog {
    /// The log as it stands, `None` before [`Self::open`].
    pub fn head(&self, connection: &Connection, log: &str) -> Result<Option<LogHead>, rusqlite::Error> {
        let Some((epoch, floor, floor_chain)) = floor(connection, log)? else { return Ok(None) };
        let (last, chain) = self.newest(connection, log)?.unwrap_or((floor, floor_chain));
        Ok(Some(LogHead { epoch, oldest: floor + 1, last, chain }))
    }

    /// Number of the newest kept item, and the chain after it.
    fn newest(&self, connection: &Connection, log: &str) -> Result<Option<(u64, Chain)>, rusqlite::Error> {
        connection
            .prepare_cached(self.select_newest)?
            .query_row([log], |row| Ok((row.get::<_, i64>(0)? as u64, chain(row.get(1)?))))
            .optional()
    }

    /// Begins a log, or begins it anew: `epoch` has no items yet.
    pub fn open<N>(
        &self,
        tx: &mut Tx<'_, N>,
        log: &str,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<LogHead, rusqlite::Error> {
        let head = LogHead::empty(epoch);
        tx.prepare_cached(self.delete_all)?.execute([log])?;
        tx.prepare_cached(
            "INSERT INTO stream_log(log, epoch, floor, floor_chain, acknowledged, opened_at)
                 VALUES (?1, ?2, 0, ?3, 0, ?4)
                 ON CONFLICT(log) DO UPDATE SET epoch = excluded.epoch, floor = 0,
                    floor_chain = excluded.floor_chain, acknowledged = 0, opened_at = excluded.opened_at",
        )?
        .execute(params![log, epoch.0 as i64, head.chain.0 as i64, now.0])?;
        tx.tails().set(self.insert, log, Tail { last: head.last, chain: head.chain });
        Ok(head)
    }

    /// Appends an item and returns its number.
    ///
    /// # Errors
    /// `QueryReturnedNoRows` when the log was never opened.
    pub fn append<N>(
        &self,
        tx: &mut Tx<'_, N>,
        log: &str,
        labels: Labels<'_>,
        item: &RawValue,
        now: Timestamp,
    ) -> Result<u64, rusqlite::Error> {
        let Tail { last, chain } = match tx.tails().get(self.insert, log) {
            Some(tail) => tail,
            None => self.tail(tx, log)?,
        };
        let (number, chain) = (last + 1, chain.then(item.get()));
        tx.prepare_cached(self.insert)?.execute(params![
            log,
            number as i64,
            chain.0 as i64,
            labels.aggregate_type,
            labels.aggregate_id,
            labels.event_type,
            item.get(),
            now.0
        ])?;
        tx.tails().set(self.insert, log, Tail { last: number, chain });
        Ok(number)
    }

    /// Where the log ends, by its rows.
    fn tail(&self, connection: &Connection, log: &str) -> Result<Tail, rusqlite::Error> {
        // A log that has rows was opened; one that has none goes on from its floor.
        let (last, chain) = match self.newest(connection, log)? {
            Some(newest) => newest,
            None => floor(connection, log)?
                .map(|(_, floor, chain)| (floor, chain))
                .ok_or(rusqlite::Error::QueryReturnedNoRows)?,
        };
        Ok(Tail { last, chain })
    }

    /// The chain after item `number`, `None` where it is not kept.
    pub fn chain_at(
        &self,
        connection: &Connection,
        log: &str,
        number: u64,
    ) -> Result<Option<Chain>, rusqlite::Error> {
        let row = connection
            .prepare_cached(self.select_chain)?
            .query_row(params![log, number as i64], |row| Ok(chain(row.get(0)?)))
            .optional()?;
        if row.is_some() {
            return Ok(row);
        }
        Ok(floor(connection, log)?.filter(|(_, floor, _)| *floor == number).map(|(_, _, chain)| chain))
    }

    /// Items behind `after`: see [`LogRead::page`].
    pub fn page(
        &self,
        connection: &Connection,
        log: &str,
        after: u64,
        items: usize,
        bytes: usize,
    ) -> Result<Vec<Box<RawValue>>, rusqlite::Error> {
        let mut statement = connection.prepare_cached(self.select_page)?;
        let mut rows = statement.query(params![log, after as i64, items as i64])?;
        let mut page: Vec<Box<RawValue>> = Vec::new();
        let mut size = 0;
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            size += text.len();
            if size > bytes && !page.is_empty() {
                break;
            }
            page.push(RawValue::from_string(text).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
            })?);
        }
        Ok(page)
    }

    /// Remembers how far the peer has come; only a head start for the next connection.
    pub fn set_acknowledged(
        &self,
        connection: &Connection,
        log: &str,
        through: u64,
    ) -> Result<(), rusqlite::Error> {
        connection
            .prepare_cached("UPDATE stream_log SET acknowledged = ?2 WHERE log = ?1 AND acknowledged <> ?2")?
            .execute(params![log, through as i64])
            .map(|_| ())
    }

    /// How far the peer is known to have come.
    pub fn acknowledged(&self, connection: &Connection, log: &str) -> Result<u64, rusqlite::Error> {
        let known = connection
            .prepare_cached("SELECT acknowledged FROM stream_log WHERE log = ?1")?
            .query_row([log], |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(known.unwrap_or(0) as u64)
    }

    /// Items behind `acknowledged`, and when the oldest of them was written.
    pub fn pending(
        &self,
        connection: &Connection,
        log: &str,
        acknowledged: u64,
    ) -> Result<(u64, Option<Timestamp>), rusqlite::Error> {
        connection.prepare_cached(self.count)?.query_row(params![log, acknowledged as i64], |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Option<i64>>(1)?.map(Timestamp)))
        })
    }

    /// Deletes up to `chunk` acknowledged items written before `before`. Returns how many.
    pub fn prune(
        &self,
        connection: &Connection,
        log: &str,
        acknowledged: u64,
        before: Timestamp,
        chunk: u32,
    ) -> Result<u64, rusqlite::Error> {
        let through: Option<i64> = connection
            .prepare_cached(self.select_prunable)?
            .query_row(params![log, acknowledged as i64, before.0, chunk], |row| row.get(0))?;
        let Some(through) = through else { return Ok(0) };
        let Some(chain) = self.chain_at(connection, log, through as u64)? else { return Ok(0) };
        connection
            .prepare_cached("UPDATE stream_log SET floor = ?2, floor_chain = ?3 WHERE log = ?1")?
            .execute(params![log, through, chain.0 as i64])?;
        Ok(connection.prepare_cached(self.delete_through)?.execute(params![log, through])? as u64)
    }
}

fn chain(number: i64) -> Chain {
    Chain(number as u64)
}

type Floor = (Epoch, u64, Chain);

fn floor(connection: &Connection, log: &str) -> Result<Option<Floor>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT epoch, floor, floor_chain FROM stream_log WHERE log = ?1")?
        .query_row([log], |row| {
            Ok((Epoch(row.get::<_, i64>(0)? as u64), row.get::<_, i64>(1)? as u64, chain(row.get(2)?)))
        })
        .optional()
}

/// How far the log of `peer` is applied here.
pub fn cursor(connection: &Connection, peer: &str) -> Result<Option<Position>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT epoch, through, chain FROM inbox_cursor WHERE peer = ?1")?
        .query_row([peer], |row| {
            Ok(Position {
                epoch: Epoch(row.get::<_, i64>(0)? as u64),
                through: row.get::<_, i64>(1)? as u64,
                chain: chain(row.get(2)?),
            })
        })
        .optional()
}

/// Stores the cursor, and the epoch that was left for good.
pub fn set_cursor(
    connection: &Connection,
    peer: &str,
    cursor: Position,
    leaves: Option<Epoch>,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO inbox_cursor(peer, epoch, through, chain, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT(peer) DO UPDATE SET epoch = excluded.epoch, through = excluded.through,
                chain = excluded.chain, updated_at = excluded.updated_at",
        )?
        .execute(params![peer, cursor.epoch.0 as i64, cursor.through as i64, cursor.chain.0 as i64, now.0])?;
    if let Some(epoch) = leaves {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO inbox_retired(peer, epoch, retired_at) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![peer, epoch.0 as i64, now.0])?;
        crate::aside::prune_retired(connection, peer)?;
    }
    Ok(())
}

/// Whether an epoch of `peer` was left for good.
pub fn is_retired(connection: &Connection, peer: &str, epoch: Epoch) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached("SELECT 1 FROM inbox_retired WHERE peer = ?1 AND epoch = ?2")?
        .exists(params![peer, epoch.0 as i64])
}

/// Puts a refused item aside, with the reason.
pub fn dead_letter(
    connection: &Connection,
    aside: Aside<'_>,
    reason: &str,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO inbox_dead_letter(peer, epoch, seq, kind, payload, reason, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            aside.peer,
            aside.epoch.0 as i64,
            aside.number as i64,
            aside.kind,
            aside.payload,
            reason,
            now.0
        ])
        .map(|_| ())
}

/// Keeps an item of an unknown kind raw, for a later version of this program.
pub fn keep_unknown(
    connection: &Connection,
    aside: Aside<'_>,
    now: Timestamp,
) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO inbox_unknown(peer, epoch, seq, kind, payload, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            aside.peer,
            aside.epoch.0 as i64,
            aside.number as i64,
            aside.kind,
            aside.payload,
            now.0
        ])
        .map(|_| ())
}

/// Takes the oldest kept item whose kind is now known: `(peer, payload)`.
pub fn take_now_known(
    connection: &Connection,
    kinds: &[&str],
) -> Result<Option<(String, String)>, rusqlite::Error> {
    let mut statement =
        connection.prepare_cached("SELECT id, peer, kind, payload FROM inbox_unknown ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let kind: String = row.get(2)?;
        if kinds.contains(&kind.as_str()) {
            let (id, peer, payload): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(3)?);
            connection.execute("DELETE FROM inbox_unknown WHERE id = ?1", [id])?;
            return Ok(Some((peer, payload)));
        }
    }
    Ok(None)
}

/// Refused and unknown items that are kept, as counts.
pub fn aside_counts(connection: &Connection) -> Result<(u64, u64), rusqlite::Error> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let dead = count("SELECT count(*) FROM inbox_dead_letter")?;
    let unknown = count("SELECT count(*) FROM inbox_unknown")?;
    Ok((dead as u64, unknown as u64))
}

/// Logs of peers that were left for good, because a peer began another: what they had left to
/// tell is not known to anybody any more.
pub fn left_count(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let count = "SELECT count(*) FROM inbox_retired";
    connection.query_row(count, [], |row| row.get::<_, i64>(0)).map(|count| count as u64)
}

/// A log read outside of a write: what [`phonefleet_protocol::stream::Endpoint::poll`] needs.
pub struct LogReader<'a> {
    /// Connection, in a snapshot of its own.
    pub connection: &'a Connection,
    /// Which table.
    pub table: StreamLog,
    /// Which log of it.
    pub log: &'a str,
}

impl LogRead for LogReader<'_> {
    type Error = rusqlite::Error;

    fn head(&mut self) -> Result<LogHead, rusqlite::Error> {
        self.table.head(self.connection, self.log)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    fn chain_at(&mut self, number: u64) -> Result<Option<Chain>, rusqlite::Error> {
        self.table.chain_at(self.connection, self.log, number)
    }

    fn page(
        &mut self,
        after: u64,
        items: usize,
        bytes: usize,
    ) -> Result<Vec<Box<RawValue>>, rusqlite::Error> {
        self.table.page(self.connection, self.log, after, items, bytes)
    }
}
