//! The ideal outbox, in five threads and without a broker: events are committed in groups
//! beside a device's row, read back in pages, sent in frames, applied in one transaction
//! for all that has arrived, and deleted when the receiver's cursor says so.

use super::database;
use crate::latency::{Latencies, at_rate};
use anyhow::{Context, Result, anyhow, ensure};
use phonefleet_store::rusqlite::{self, Connection, params};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::oneshot;

/// Events that may wait for the writer.
const QUEUE: usize = 4096;
/// Events of one commit of the sender.
const COMMIT_EVENTS: usize = 512;
/// Rows of one page.
const PAGE: i64 = 512;
/// Events of one frame.
const FRAME_EVENTS: usize = 64;
/// Frames under way.
const FRAMES: usize = 20;
/// Frames of one commit of the receiver.
const COMMIT_FRAMES: usize = 64;
/// Events sent and not acknowledged.
const WINDOW: u64 = (4 * FRAMES * FRAME_EVENTS) as u64;
/// Devices that events are about.
pub const DEVICES: u64 = 1000;

/// The sender's tables but for the log: what else a commit changes.
pub const SENDER_DEVICES: &str = "
    CREATE TABLE device(id INTEGER PRIMARY KEY, state TEXT NOT NULL, version INTEGER NOT NULL);
    WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < 999)
        INSERT INTO device SELECT n, 'idle', 0 FROM number;";
/// Takes a device's number.
pub const CHANGE_DEVICE: &str = "UPDATE device SET state = 'busy', version = version + 1 WHERE id = ?1";
/// The receiver's tables but for the cursor: what applying changes.
pub const RECEIVER_TABLES: &str = "
    CREATE TABLE event(host INTEGER NOT NULL, seq INTEGER NOT NULL, payload TEXT NOT NULL,
        PRIMARY KEY(host, seq)) WITHOUT ROWID;
    CREATE TABLE device(id INTEGER PRIMARY KEY, newest TEXT NOT NULL, seq INTEGER NOT NULL);";
/// The sender's log.
pub const OUTBOX: &str =
    "CREATE TABLE outbox(seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, payload TEXT NOT NULL);";
const CURSOR: &str = "CREATE TABLE cursor(host INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
    INSERT INTO cursor VALUES (17, 0);";

/// Puts event `number` into the outbox.
pub fn append(connection: &Connection, number: u64, payload: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO outbox VALUES (?1, 0, ?2)")?
        .execute(params![number as i64, payload])
        .map(|_| ())
}

/// Applies event `number`: a row of history, and the device's newest.
pub fn apply(connection: &Connection, number: u64, payload: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO event VALUES (17, ?1, ?2)")?
        .execute(params![number as i64, payload])?;
    let newest = payload.get(..16).unwrap_or(payload);
    connection
        .prepare_cached(
            "INSERT INTO device VALUES (?1, ?2, ?3)
             ON CONFLICT(id) DO UPDATE SET newest = excluded.newest, seq = excluded.seq",
        )?
        .execute(params![(number % DEVICES) as i64, newest, number as i64])
        .map(|_| ())
}

/// Where events come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// One thread that keeps the queue full and asks for no answer.
    Flood,
    /// So many tasks, each of which waits until its event is durable, as an agent's do.
    /// Not more than the queue takes.
    Callers(u64),
    /// So many per second, whatever became of the earlier ones.
    Rate(u64),
}

/// What goes through the outbox.
#[derive(Clone)]
pub struct Flow {
    /// How many events.
    pub events: u64,
    /// Where from.
    pub source: Source,
    /// Their texts, in turn.
    pub texts: Arc<[String]>,
}

/// An event on its way to the sender's database.
struct Order {
    index: u64,
    due: Option<Instant>,
    durable: Option<oneshot::Sender<()>>,
}

/// A number that rises, and whoever waits for that.
#[derive(Default)]
struct Progress {
    number: Mutex<u64>,
    rose: Condvar,
}

impl Progress {
    fn rise(&self, number: u64) {
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) = number;
        self.rose.notify_one();
    }

    fn get(&self) -> u64 {
        *self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, least: u64) {
        let number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.rose.wait_while(number, |number| *number < least));
    }
}

#[derive(Default)]
struct Shared {
    committed: Progress,
    acknowledged: Progress,
}

/// Events per second from end to end, with databases `<name>-sender` and `-receiver`.
/// Within a runtime, for callers.
pub fn run(directory: &Path, name: &str, flow: &Flow, latencies: &Arc<Latencies>) -> Result<f64> {
    let path = |end: &str| directory.join(format!("{name}-{end}.db"));
    let sender = database(&path("sender"), &format!("{OUTBOX}{SENDER_DEVICES}"))?;
    let reader = database(&path("sender"), "")?;
    let receiver = database(&path("receiver"), &format!("{CURSOR}{RECEIVER_TABLES}"))?;
    let shared = Arc::new(Shared::default());
    let (events, queue) = sync_channel::<Order>(QUEUE);
    let (frames, arriving) = sync_channel::<Vec<u8>>(FRAMES);
    let (acknowledge, acknowledged) = channel::<u64>();

    let began = Instant::now();
    let (work, texts, stamps) = (Arc::clone(&shared), Arc::clone(&flow.texts), Arc::clone(latencies));
    let writer = std::thread::spawn(move || write(&sender, &queue, &work, &texts, &stamps));
    let (work, last) = (Arc::clone(&shared), flow.events);
    let pages = std::thread::spawn(move || send(&reader, &frames, &work, last));
    let (work, stamps) =
        (Arc::clone(&shared), matches!(flow.source, Source::Rate(_)).then(|| Arc::clone(latencies)));
    let applier =
        std::thread::spawn(move || receive(&receiver, &arriving, &acknowledge, last, stamps.as_deref()));
    let link =
        std::thread::spawn(move || acknowledged.iter().for_each(|number| work.acknowledged.rise(number)));

    match flow.source {
        Source::Flood => {
            for index in 0..flow.events {
                let order = Order { index, due: None, durable: None };
                events.send(order).context("the ceiling's writer has ended")?;
            }
        }
        Source::Callers(callers) => start_callers(callers, flow.events, &events),
        Source::Rate(rate) => at_rate(flow.events, rate, |index, due| {
            // That it ended is told by its result, below.
            let _ = events.send(Order { index, due: Some(due), durable: None });
        }),
    }
    let applied = join(applier)?;
    let rate = flow.events as f64 / began.elapsed().as_secs_f64();
    ensure!(applied == flow.events, "the ceiling applied {applied} of {} events", flow.events);
    drop(events);
    join(writer)?;
    join(pages)?;
    link.join().map_err(|_| anyhow!("a thread of the ceiling panicked"))?;
    Ok(rate)
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the ceiling panicked"))?
}

fn start_callers(callers: u64, last: u64, events: &SyncSender<Order>) {
    let next = Arc::new(AtomicU64::new(0));
    for _ in 0..callers {
        let (next, events) = (Arc::clone(&next), events.clone());
        tokio::spawn(async move {
            loop {
                let (durable, answer) = oneshot::channel();
                let index = next.fetch_add(1, Ordering::Relaxed);
                let order = Order { index, due: None, durable: Some(durable) };
                if index >= last || events.send(order).is_err() || answer.await.is_err() {
                    return;
                }
            }
        });
    }
}

fn write(
    connection: &Connection,
    queue: &Receiver<Order>,
    shared: &Shared,
    texts: &[String],
    latencies: &Latencies,
) -> Result<()> {
    let (mut number, mut deleted, mut answers) = (0_u64, 0, Vec::new());
    while let Ok(first) = queue.recv() {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(Order { index, due, durable }) = next {
            number += 1;
            taken += 1;
            append(connection, number, &texts[index as usize % texts.len()])?;
            connection.prepare_cached(CHANGE_DEVICE)?.execute([(number * 7919 % DEVICES) as i64])?;
            if let Some(due) = due {
                latencies.due(number, due);
            }
            answers.extend(durable);
            next = if taken < COMMIT_EVENTS { queue.try_recv().ok() } else { None };
        }
        // Deleting rides on the next insert: alone it would be a commit more.
        let acknowledged = shared.acknowledged.get();
        if acknowledged > deleted {
            connection
                .prepare_cached("DELETE FROM outbox WHERE seq <= ?1")?
                .execute([acknowledged as i64])?;
            deleted = acknowledged;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        shared.committed.rise(number);
        // A caller that went away has no use for it.
        answers.drain(..).for_each(|durable: oneshot::Sender<()>| _ = durable.send(()));
    }
    Ok(())
}

fn send(connection: &Connection, frames: &SyncSender<Vec<u8>>, shared: &Shared, last: u64) -> Result<()> {
    let mut sent = 0_u64;
    while sent < last {
        shared.committed.wait_for(sent + 1);
        shared.acknowledged.wait_for((sent + 1).saturating_sub(WINDOW));
        let mut select =
            connection.prepare_cached("SELECT payload FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
        let page: Vec<String> =
            select.query_map(params![sent as i64, PAGE], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for events in page.chunks(FRAME_EVENTS) {
            let mut frame = (sent + 1).to_le_bytes().to_vec();
            for event in events {
                frame.extend((event.len() as u16).to_le_bytes());
                frame.extend(event.as_bytes());
            }
            frames.send(frame).context("the ceiling's receiver has ended")?;
            sent += events.len() as u64;
        }
    }
    Ok(())
}

fn receive(
    connection: &Connection,
    frames: &Receiver<Vec<u8>>,
    acknowledge: &Sender<u64>,
    last: u64,
    latencies: Option<&Latencies>,
) -> Result<u64> {
    let mut cursor = 0_u64;
    while cursor < last {
        let Ok(first) = frames.recv() else { break };
        let before = cursor;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(frame) = next {
            cursor = apply_frame(connection, cursor, &frame)?;
            taken += 1;
            next = if taken < COMMIT_FRAMES { frames.try_recv().ok() } else { None };
        }
        connection.prepare_cached("UPDATE cursor SET seq = ?1 WHERE host = 17")?.execute([cursor as i64])?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        if let Some(latencies) = latencies {
            latencies.arrived(before + 1..=cursor);
        }
        // The sender ends before the last acknowledgement.
        let _ = acknowledge.send(cursor);
    }
    Ok(cursor)
}

/// Applies what continues at the cursor, drops what was applied before, and returns the
/// cursor after that.
fn apply_frame(connection: &Connection, mut cursor: u64, frame: &[u8]) -> Result<u64> {
    let (first, mut rest) = frame.split_first_chunk::<8>().context("a frame without a number")?;
    let mut number = u64::from_le_bytes(*first);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (event, after) = after
            .split_at_checked(u16::from_le_bytes(*length) as usize)
            .context("a frame that ends early")?;
        ensure!(number <= cursor + 1, "a gap before event {number}");
        if number == cursor + 1 {
            apply(connection, number, std::str::from_utf8(event)?)?;
            cursor = number;
        }
        number += 1;
        rest = after;
    }
    Ok(cursor)
}
