//! A controller whose applying is the ceiling's, row for row.

use super::{Arrivals, introduction};
use anyhow::Result;
use phonefleet_benches::ceiling::outbox::{RECEIVER_TABLES, apply};
use phonefleet_benches::conversation::converse;
use phonefleet_link::domain::LogItem;
use phonefleet_link::{Applied, ConversationHandle, Domain, MemoryBroker};
use phonefleet_protocol::stream::{Admission, Hello, Notice};
use phonefleet_protocol::time::Timestamp;
use phonefleet_protocol::topic::Channel;
use phonefleet_store::migration::Schema;
use phonefleet_store::stream_log::{COMMAND_OUTBOX, StreamLog};
use phonefleet_store::{Migration, Mode, Options, Store, Tx, rusqlite};
use serde_json::value::RawValue;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

static SCHEMA: [Migration; 2] = [
    Migration {
        number: 1,
        name: "0001_stream",
        sql: include_str!("../../../migrations/controller/0001_stream.sql"),
    },
    Migration { number: 2, name: "0002_bench", sql: RECEIVER_TABLES },
];

/// Announces the number of each item.
#[derive(Default)]
struct Upsert {
    applied: AtomicU64,
}

impl Domain<u64> for Upsert {
    const LOG: StreamLog = COMMAND_OUTBOX;

    fn apply(
        &self,
        tx: &mut Tx<'_, u64>,
        _: &str,
        item: &RawValue,
        _: Timestamp,
    ) -> rusqlite::Result<Applied> {
        let number = self.applied.fetch_add(1, Ordering::Relaxed) + 1;
        apply(tx, number, item.get())?;
        tx.announce(number);
        Ok(Applied::Done)
    }

    fn snapshot(&self, _: &mut Tx<'_, u64>, _: &str, _: Timestamp) -> rusqlite::Result<Vec<LogItem>> {
        Ok(Vec::new())
    }

    fn admit(&self, _: &mut Tx<'_, u64>, _: &str, _: &Hello, _: Timestamp) -> rusqlite::Result<Admission> {
        Ok(Admission::Welcome)
    }

    fn acknowledged(&self, _: &mut Tx<'_, u64>, _: &str, _: u64, _: Timestamp) -> rusqlite::Result<()> {
        Ok(())
    }

    fn notice(&self, _: &str, _: &Notice) {}
}

/// Starts it; it runs until the tasks are dropped.
pub fn start(
    path: &Path,
    tasks: &mut JoinSet<()>,
    broker: &MemoryBroker,
    arrivals: &Arc<Arrivals>,
) -> Result<ConversationHandle> {
    let options = Options {
        path: path.to_owned(),
        schema: Schema { component: "controller", migrations: &SCHEMA },
        mode: Mode::Threaded,
    };
    let arrivals = Arc::clone(arrivals);
    let store = Store::open(&options, move |numbers: Vec<u64>| {
        if let Some(newest) = numbers.last() {
            arrivals.committed(*newest);
        }
    })?;
    Ok(converse(tasks, broker, &store, Upsert::default(), introduction(), (Channel::Up, Channel::Down)))
}
