//! Batches, full disks, locks and migrations, on real files.

use super::*;
use crate::migration::Migration;
use crate::stream_log::{self, EVENT_OUTBOX, Labels};
use phonefleet_protocol::stream::{Epoch, LogHead};
use phonefleet_protocol::time::Timestamp;
use serde_json::value::RawValue;

const FIRST: Migration = Migration {
    number: 1,
    name: "0001_first",
    sql: "CREATE TABLE entry(id INTEGER PRIMARY KEY, text TEXT NOT NULL);",
};
const SECOND: Migration =
    Migration { number: 2, name: "0002_second", sql: "ALTER TABLE entry ADD COLUMN more TEXT;" };
const CHANGED: Migration = Migration { number: 1, name: "0001_first", sql: "SELECT 2" };
const STREAM: Migration = Migration {
    number: 1,
    name: "0001_stream",
    sql: include_str!("../../../migrations/agent/0001_stream.sql"),
};

fn options(directory: &tempfile::TempDir, migrations: &'static [Migration], mode: Mode) -> Options {
    let schema = Schema { component: "test", migrations };
    Options { path: directory.path().join("test.db"), schema, mode }
}

fn insert(tx: &mut Tx<'_, u32>, id: u32) -> Result<(), rusqlite::Error> {
    tx.execute("INSERT INTO entry(id, text) VALUES (?1, 'x')", [id])?;
    tx.announce(id);
    Ok(())
}

async fn ids(store: &Store<u32>) -> Vec<u32> {
    store
        .read(|connection| {
            let mut statement = connection.prepare("SELECT id FROM entry ORDER BY id")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
        .await
        .unwrap()
}

/// Failing, panicking, refusing and good jobs at once: each stands or falls alone, and
/// notices come from the good ones only, after their commit.
#[tokio::test]
async fn jobs_of_one_batch_stand_and_fall_alone() {
    let directory = tempfile::tempdir().unwrap();
    let announced = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&announced);
    let store = Store::open(&options(&directory, &[FIRST], Mode::Threaded), move |notices: Vec<u32>| {
        seen.lock().unwrap().extend(notices);
    })
    .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for id in 0..200_u32 {
        let store = store.clone();
        tasks.spawn(async move {
            let result = store
                .write(move |tx| {
                    if id % 10 == 5 {
                        tx.announce(id);
                        return Err(rusqlite::Error::QueryReturnedNoRows);
                    }
                    insert(tx, id)?;
                    match id % 10 {
                        3 => Err(rusqlite::Error::InvalidQuery),
                        7 => panic!("job {id}"),
                        _ => Ok(id),
                    }
                })
                .await;
            match id % 10 {
                3 | 5 => assert!(matches!(result, Err(WriteError::Refused(_)))),
                7 => {
                    assert!(matches!(result, Err(WriteError::Panicked(text)) if text == format!("job {id}")));
                }
                _ => assert_eq!(result.unwrap(), id),
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let expected: Vec<u32> = (0..200).filter(|id| ![3, 5, 7].contains(&(id % 10))).collect();
    assert_eq!(ids(&store).await, expected);
    let mut announced = announced.lock().unwrap().clone();
    announced.sort_unstable();
    assert_eq!(announced, expected);
}

/// A full disk (the database's page limit) rolls back what does not fit; nothing that was
/// answered "done" is missing, nothing that was refused is there, and it goes on by itself.
#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&options(&directory, &[FIRST], Mode::Threaded), |_: Vec<u32>| {}).unwrap();
    store.write(|tx| tx.pragma_update_and_check(None, "max_page_count", 24, |_| Ok(()))).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for id in 0..300_u32 {
        let store = store.clone();
        tasks.spawn(async move {
            let text = "y".repeat(1000);
            let result = store
                .write(move |tx| {
                    tx.execute("INSERT INTO entry(id, text) VALUES (?1, ?2)", rusqlite::params![id, text])
                        .map(|_| ())
                })
                .await;
            result.is_ok().then_some(id)
        });
    }
    let mut stands = Vec::new();
    while let Some(done) = tasks.join_next().await {
        stands.extend(done.unwrap());
    }
    stands.sort_unstable();
    assert!(!stands.is_empty() && stands.len() < 300, "{} of 300 fitted", stands.len());
    assert_eq!(ids(&store).await, stands);
    store
        .write(|tx| tx.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(())))
        .await
        .unwrap();
    store.write(|tx| insert(tx, 1000)).await.unwrap();
}

#[tokio::test]
async fn a_part_undoes_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let mode = Mode::Inline { gate: None };
    let store = Store::open(&options(&directory, &[FIRST], mode), |notices: Vec<u32>| {
        assert_eq!(notices, [1]);
    })
    .unwrap();
    store
        .write(|tx| {
            insert(tx, 1)?;
            let refused: Result<(), rusqlite::Error> = tx.part(|tx| {
                insert(tx, 2)?;
                Err(rusqlite::Error::InvalidQuery)
            });
            assert!(refused.is_err());
            Ok::<_, rusqlite::Error>(())
        })
        .await
        .unwrap();
    assert_eq!(ids(&store).await, [1]);
}

#[test]
fn databases_are_locked_migrated_and_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = |migrations| Store::open(&options(&directory, migrations, Mode::Threaded), |_: Vec<u32>| {});
    let first = open(&[FIRST]).unwrap();
    assert!(matches!(open(&[FIRST]).err(), Some(OpenError::InUse { .. })));
    drop(first);
    // The writer thread ends, and closes the file, soon after its last handle is gone.
    drop(open(&[FIRST, SECOND]).unwrap());
    let newer = open(&[FIRST]).err().unwrap();
    assert!(matches!(newer, OpenError::Newer { found: 2, known: 1, .. }), "{newer}");
    assert!(newer.to_string().contains("newer version"), "{newer}");
    assert!(matches!(open(&[CHANGED, SECOND]).err(), Some(OpenError::Changed { number: 1, .. })));
    let foreign = Options {
        path: directory.path().join("test.db"),
        schema: Schema { component: "other", migrations: &[FIRST, SECOND] },
        mode: Mode::Threaded,
    };
    assert!(matches!(Store::open(&foreign, |_: Vec<u32>| {}).err(), Some(OpenError::Foreign { .. })));
}

#[test]
fn a_database_that_was_here_is_not_begun_a_second_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    // Without a thread, it is closed as soon as it is dropped.
    let options = options(&directory, &[FIRST], Mode::Inline { gate: None });
    let open = || Store::open(&options, |_: Vec<u32>| {});
    // Killed before it was made: nothing was lost.
    std::fs::write(path.with_extension("lock"), "").unwrap();
    std::fs::write(&path, "").unwrap();
    drop(open().unwrap());
    let whole = std::fs::read(&path).unwrap();

    std::fs::remove_file(&path).unwrap();
    let gone = open().err().unwrap();
    assert!(matches!(gone, OpenError::Gone { .. }), "{gone}");
    assert!(gone.to_string().contains("a backup of it") && gone.to_string().contains("test.lock"), "{gone}");
    std::fs::write(&path, "").unwrap();
    assert!(matches!(open().err(), Some(OpenError::Gone { .. })), "an empty file is none");

    // Damaged, with a log that nobody may carry over.
    std::fs::write(&path, [&[0x5a; 512][..], &whole[512..]].concat()).unwrap();
    let log = directory.path().join("test.db-wal");
    std::fs::write(&log, "what was not carried over yet").unwrap();
    let before = [&path, &log].map(|file| std::fs::read(file).unwrap());
    let damaged = open().err().unwrap();
    assert!(matches!(damaged, OpenError::Damaged { .. }), "{damaged}");
    assert!(damaged.to_string().contains("put a backup in its place"), "{damaged}");
    assert_eq!([&path, &log].map(|file| std::fs::read(file).unwrap()), before, "left as it is");

    std::fs::remove_file(&log).unwrap();
    std::fs::write(&path, &whole).unwrap();
    drop(open().unwrap());
    // On purpose.
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(path.with_extension("lock")).unwrap();
    drop(open().unwrap());
    // Whoever can do without it is given a new one.
    std::fs::remove_file(&path).unwrap();
    let (store, aside) = Store::open_or_set_aside(&options, |_: Vec<u32>| {}).unwrap();
    assert_eq!(aside, None);
    drop(store);
}

#[tokio::test]
async fn a_log_keeps_its_chain_when_old_rows_go() {
    let directory = tempfile::tempdir().unwrap();
    let mode = Mode::Inline { gate: None };
    let store = Store::open(&options(&directory, &[STREAM], mode), |_: Vec<u32>| {}).unwrap();
    store
        .write(|tx| {
            let log = EVENT_OUTBOX;
            assert_eq!(log.head(tx, "up")?, None);
            log.open(tx, "up", Epoch(5), Timestamp(0))?;
            let labels = Labels { aggregate_type: "device", aggregate_id: "d", event_type: "k" };
            for number in 1..=10_u64 {
                let item = RawValue::from_string(number.to_string()).unwrap();
                assert_eq!(log.append(tx, "up", labels, &item, Timestamp(number as i64))?, number);
            }
            let full = log.head(tx, "up")?.unwrap();
            let sixth = log.chain_at(tx, "up", 6)?;
            assert_eq!((full.oldest, full.last), (1, 10));
            // Acknowledged to 8, but only what was written before 7 may go, four at a time.
            assert_eq!(log.prune(tx, "up", 8, Timestamp(7), 4)?, 4);
            assert_eq!(log.prune(tx, "up", 8, Timestamp(7), 4)?, 2);
            assert_eq!(log.prune(tx, "up", 8, Timestamp(7), 4)?, 0);
            let pruned = log.head(tx, "up")?.unwrap();
            assert_eq!((pruned.oldest, pruned.last, pruned.chain), (7, 10, full.chain));
            assert_eq!(log.chain_at(tx, "up", 6)?, sixth);
            assert_eq!(log.chain_at(tx, "up", 5)?, None);
            let page: Vec<String> =
                log.page(tx, "up", 6, 2, 1000)?.iter().map(|item| item.get().to_owned()).collect();
            assert_eq!(page, ["7", "8"]);
            assert_eq!(log.prune(tx, "up", 10, Timestamp(99), 100)?, 4);
            let empty = log.head(tx, "up")?.unwrap();
            assert_eq!((empty.oldest, empty.last, empty.chain), (11, 10, full.chain));
            assert!(!stream_log::is_retired(tx, "c", Epoch(5))?);
            stream_log::set_cursor(tx, "c", cursor_at(3), Some(Epoch(5)), Timestamp(0))?;
            assert!(stream_log::is_retired(tx, "c", Epoch(5))?);
            assert_eq!(stream_log::cursor(tx, "c")?, Some(cursor_at(3)));
            Ok::<_, rusqlite::Error>(())
        })
        .await
        .unwrap();
}

/// What is undone numbers nothing: not of a part, not of a job, not of a batch.
#[tokio::test]
async fn a_log_goes_on_where_it_stands_after_whatever_was_undone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&options(&directory, &[STREAM], Mode::Threaded), |_: Vec<u32>| {}).unwrap();
    let labels = Labels { aggregate_type: "device", aggregate_id: "d", event_type: "k" };
    let append = move |tx: &mut Tx<'_, u32>, text: &str| {
        let item = RawValue::from_string(text.to_owned()).unwrap();
        EVENT_OUTBOX.append(tx, "up", labels, &item, Timestamp(0))
    };
    store.write(|tx| EVENT_OUTBOX.open(tx, "up", Epoch(5), Timestamp(0)).map(|_| ())).await.unwrap();
    let mut jobs = tokio::task::JoinSet::new();
    for number in 0..300_u32 {
        let store = store.clone();
        jobs.spawn(async move {
            let job = move |tx: &mut Tx<'_, u32>| {
                append(tx, "1")?;
                let undone = tx.part(|tx| {
                    append(tx, "2")?;
                    Err::<(), _>(rusqlite::Error::InvalidQuery)
                });
                assert!(undone.is_err());
                append(tx, "3")?;
                if number % 7 == 3 { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }
            };
            store.write(job).await.is_ok()
        });
    }
    let stand = jobs.join_all().await.into_iter().filter(|stands| *stands).count() as u64;
    let head = store.read(|connection| EVENT_OUTBOX.head(connection, "up")).await.unwrap().unwrap();
    assert_eq!((head.last, stand), (2 * stand, 257));
    let texts = store.read(move |connection| EVENT_OUTBOX.page(connection, "up", 0, 1000, 1 << 20));
    let chain = texts
        .await
        .unwrap()
        .iter()
        .fold(LogHead::empty(Epoch(5)).chain, |chain, item| chain.then(item.get()));
    assert_eq!(head.chain, chain);

    // Begun anew in the batch that has appended to it.
    let job = move |tx: &mut Tx<'_, u32>| {
        append(tx, "4")?;
        EVENT_OUTBOX.open(tx, "up", Epoch(6), Timestamp(0))?;
        append(tx, "5")
    };
    assert_eq!(store.write(job).await.unwrap(), 1);
}

fn cursor_at(through: u64) -> phonefleet_protocol::stream::Position {
    let epoch = Epoch(u64::MAX - 3);
    phonefleet_protocol::stream::Position {
        epoch,
        through,
        chain: phonefleet_protocol::stream::Chain::genesis(epoch),
    }
}
