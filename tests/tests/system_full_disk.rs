//! A disk that is full, and has room again: a file system of two megabytes with a daemon's
//! database on it. Nothing that was answered is lost, what is refused is known not to stand,
//! and nothing has to start again.

#![allow(clippy::unwrap_used, reason = "tests")]

use phonefleet_controller::store::{self, Store};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::{Mode, WriteError, rusqlite};
use phonefleet_tests::real::small_disk::SmallDisk;
use std::path::Path;
use std::sync::Arc;

async fn append(store: &Store, number: u32) -> Result<(), WriteError<rusqlite::Error>> {
    let text = format!("{number}").repeat(300);
    store
        .write(move |tx| {
            store::event_outbox::append(tx, "test", &number.to_string(), "test.full", &text, Timestamp(1))
        })
        .await
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_nothing_is_in_doubt() {
    let Some(environment) = std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT") else {
        println!("skipped: run it with tests/environment/run");
        return;
    };
    // Too small for a ballast: what is full, is.
    let folder = Path::new(&environment).join(format!("small-{}", std::process::id()));
    let disk = SmallDisk::mount(&folder, 2048);
    let path = disk.folder.join("controller.db");
    let store = store::open(&path, Mode::Threaded, Arc::new(|_| {})).unwrap();
    let (mut stands, mut refused) = (Vec::new(), 0);
    let mut next = 0;
    for _ in 0..3 {
        for full in [false, true] {
            if full {
                disk.fill();
            }
            let mut refused_now = 0;
            for _ in 0..40 {
                next += 1;
                match append(&store, next).await {
                    Ok(()) => stands.push(next.to_string()),
                    Err(WriteError::Unavailable(why)) => {
                        assert!(full && why.contains("full"), "{why}");
                        refused_now += 1;
                    }
                    Err(other) => panic!("write {next} of a disk that is full ({full}): {other:?}"),
                }
            }
            // What the log has room for may still be written; then it is over.
            assert_eq!(refused_now > 0, full, "{refused_now} of 40 were refused");
            refused += refused_now;
            if full {
                disk.empty();
            }
        }
    }
    append(&store, 0).await.unwrap();
    stands.push("0".to_owned());
    let column = |connection: &rusqlite::Connection| {
        let mut rows = connection.prepare("SELECT aggregate_id FROM event_outbox ORDER BY seq")?;
        rows.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(store.read(column).await.unwrap(), stands);
    println!("{} writes stand, {refused} were refused", stands.len());
    // And so it is for whoever opens the database next.
    drop(store);
    let again = loop {
        match store::open(&path, Mode::Threaded, Arc::new(|_| {})) {
            Ok(store) => break store,
            Err(phonefleet_store::OpenError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(again.read(column).await.unwrap(), stands);
}

#[tokio::test]
async fn a_ballast_keeps_room_for_what_must_go_on() {
    let Some(environment) = std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT") else {
        println!("skipped: run it with tests/environment/run");
        return;
    };
    let folder = Path::new(&environment).join(format!("ballast-{}", std::process::id()));
    let disk = SmallDisk::mount(&folder, 32 << 10);
    let (path, ballast) = (folder.join("controller.db"), folder.join("controller.ballast"));
    let store = store::open(&path, Mode::Threaded, Arc::new(|_| {})).unwrap();
    let deadline = || tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    for round in 0..2 {
        assert!(!store.is_short_of_room() && ballast.exists());
        disk.fill();
        let end = deadline();
        while !store.is_short_of_room() {
            assert!(tokio::time::Instant::now() < end, "nobody sees that the disk is full");
            tokio::task::yield_now().await;
        }
        // Every one of them stands, though the disk had no room for them; the ballast had.
        let mut written = 0;
        while ballast.exists() || written < 1000 {
            append(&store, written).await.unwrap();
            written += 1;
            assert!(written < 20_000, "this disk is not full");
        }
        println!("round {round}: {written} writes of a full disk stand");
        assert!(store.is_short_of_room());
        disk.empty();
        let end = deadline();
        while store.is_short_of_room() {
            assert!(tokio::time::Instant::now() < end, "the ballast is not made again");
            tokio::task::yield_now().await;
        }
    }
}
