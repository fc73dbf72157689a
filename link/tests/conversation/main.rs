//! Conversations against crashes, losses, refusals and failing disks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use phonefleet_link::ConversationError;
use phonefleet_link::memory::Fate;
use phonefleet_link::retention::{Retention, prune_once};
use phonefleet_protocol::id::IdSource;
use phonefleet_protocol::stream::ForkCause;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::stream_log::{COMMAND_OUTBOX, EVENT_OUTBOX, aside_counts};
use phonefleet_store::{Tx, WriteError};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::{PEER, Seeded, World, texts};

#[tokio::test(start_paused = true)]
async fn items_flow_both_ways_in_order() {
    let world = World::new(1).await;
    let began = Instant::now();
    let (up, down) = (texts("up", 700), texts("down", 3));
    for text in &up {
        world.agent.say(text).await;
    }
    for text in &down {
        world.controller.say(text).await;
    }
    assert_eq!(world.controller.hears(700).await, up);
    assert_eq!(world.agent.hears(3).await, down);
    assert!(began.elapsed() < Duration::from_secs(1), "nothing waits for a timer: {:?}", began.elapsed());
    sleep(Duration::from_secs(1)).await;
    let status = world.agent.handle().status();
    assert!(status.open);
    // The log begins with a snapshot.
    assert_eq!((status.acknowledged, status.dropped, status.last_error), (701, 0, None));
}

#[tokio::test(start_paused = true)]
async fn the_acknowledged_number_is_written_late_and_at_the_end() {
    let mut world = World::new(2).await;
    world.agent.say("one").await;
    world.controller.hears(1).await;
    sleep(Duration::from_secs(1)).await;
    let sql = "SELECT CAST(acknowledged AS TEXT) FROM stream_log";
    assert_eq!(world.agent.handle().status().acknowledged, 2);
    assert_ne!(world.agent.rows(sql).await, ["2"], "not by itself");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.agent.rows(sql).await, ["2"], "but after some seconds");
    world.agent.say("two").await;
    world.controller.hears(2).await;
    sleep(Duration::from_secs(1)).await;
    world.agent.stop().await.unwrap();
    world.broker.set_fate(|_| Fate::Drop);
    world.agent.start().await;
    assert_eq!(world.agent.rows(sql).await, ["3"], "and when the daemon ends");
}

/// Both ends crash at random moments while half of everything is lost, repeated or
/// late, and the broker forgets. Every item counts once, in order.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_nothing_counts_twice() {
    for seed in 0..12 {
        let mut world = World::new(seed).await;
        world.make_lossy(seed);
        let numbers = Seeded::new(seed * 77);
        let (up, down) = (texts("up", 60), texts("down", 60));
        for index in 0..60 {
            world.agent.say(&up[index]).await;
            world.controller.say(&down[index]).await;
            match numbers.random() % 12 {
                0 => {
                    world.agent.crash().await;
                    sleep(Duration::from_millis(numbers.random() % 5000)).await;
                    world.agent.start().await;
                }
                1 => {
                    world.controller.crash().await;
                    world.controller.start().await;
                }
                2 => world.broker.forget(),
                3 => {
                    world.broker.cut("agent");
                    sleep(Duration::from_millis(numbers.random() % 5000)).await;
                    world.broker.heal("agent");
                }
                _ => sleep(Duration::from_millis(numbers.random() % 300)).await,
            }
        }
        assert_eq!(world.controller.hears(60).await, up, "seed {seed}");
        assert_eq!(world.agent.hears(60).await, down, "seed {seed}");
        // Once more after everything has come to rest: nothing came twice.
        sleep(Duration::from_secs(100)).await;
        assert_eq!(world.controller.heard().await.len(), 60);
        assert_eq!(world.agent.heard().await.len(), 60);
        assert!(world.agent.forks().is_empty(), "a history is never given up without need");
        assert!(world.agent.handle().status().open && world.controller.handle().status().open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_item_is_put_aside_and_the_flow_goes_on() {
    let world = World::new(3).await;
    // The second "same" breaks a UNIQUE constraint: no retry would ever mend that.
    for text in ["before", "refuse me", "panic", "same", "same", "after"] {
        world.agent.say(text).await;
    }
    assert_eq!(world.controller.hears(3).await, ["before", "same", "after"]);
    let dead = world.controller.rows("SELECT reason FROM inbox_dead_letter ORDER BY id").await;
    assert_eq!(dead.len(), 3, "{dead:?}");
    assert_eq!(dead[0], "as asked");
    assert!(dead[1].contains("panicked") && dead[2].contains("UNIQUE"), "{dead:?}");
    let status = world.controller.handle().status();
    assert_eq!(status.refused, 3);
    assert!(status.last_error.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kind_is_kept_and_applied_after_an_upgrade() {
    let mut world = World::new(4).await;
    world.agent.say("future").await;
    world.agent.say("after").await;
    assert_eq!(world.controller.hears(1).await, ["after"]);
    assert_eq!(world.controller.handle().status().unknown, 1);
    world.controller.crash().await;
    world.controller.knobs.knows_future.store(true, Ordering::SeqCst);
    world.controller.start().await;
    assert_eq!(world.controller.heard().await, ["after", "future"]);
    let counts = world.controller.store().read(aside_counts).await.unwrap();
    assert_eq!(counts, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn malformed_messages_are_counted_and_change_nothing() {
    let world = World::new(5).await;
    world.agent.say("before").await;
    world.controller.hears(1).await;
    let bad: [&[u8]; 4] = [b"", b"{}", b"\xff\xff", b"{\"frame\":{\"first\":0}}"];
    for payload in bad {
        world.controller.handle().message(payload.to_vec());
    }
    world.agent.say("after").await;
    assert_eq!(world.controller.hears(2).await, ["before", "after"]);
    let status = world.controller.handle().status();
    assert_eq!((status.malformed, status.open), (4, true));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_messages_and_not_the_connection() {
    let world = World::new(6).await;
    world.agent.say("before").await;
    world.controller.hears(1).await;
    // Without a chance for the conversation to read in between.
    world.controller.handle().disconnected();
    for _ in 0..1000 {
        world.controller.handle().message(b"{}".to_vec());
    }
    world.controller.handle().connected();
    world.agent.say("after").await;
    assert_eq!(world.controller.hears(2).await, ["before", "after"]);
    assert_eq!(world.controller.handle().status().dropped, 1000 - 64);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_delays_and_loses_nothing() {
    let world = World::new(7).await;
    world.controller.knobs.disk_full.store(7, Ordering::SeqCst);
    let up = texts("up", 20);
    for text in &up {
        world.agent.say(text).await;
    }
    assert_eq!(world.controller.hears(20).await, up);
    let status = world.controller.handle().status();
    assert_eq!(status.refused, 0, "a full disk is nobody's fault");
    assert!(status.last_error.unwrap().contains("full"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_domain_does_not_end_the_conversation() {
    let mut world = World::new(8).await;
    world.controller.stop().await.unwrap();
    world.controller.knobs.admit_panics.store(3, Ordering::SeqCst);
    world.controller.start().await;
    world.agent.say("after").await;
    assert_eq!(world.controller.hears(1).await, ["after"]);
    assert!(world.controller.handle().status().last_error.unwrap().contains("panicked"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_ends_the_conversation() {
    let mut world = World::new(11).await;
    world.agent.say("before").await;
    world.controller.hears(1).await;
    let orphan = |tx: &mut Tx<'_, ()>| tx.execute("INSERT INTO orphan VALUES (77)", []);
    let failed = world.controller.store().write(orphan).await;
    assert!(matches!(failed, Err(WriteError::Unknown(_))), "{failed:?}");
    world.agent.say("after").await;
    let ended = world.controller.ended().await;
    assert!(matches!(&ended, Err(ConversationError::Closed { peer }) if peer == PEER), "{ended:?}");
    // The daemon starts again from the disk.
    world.controller.start().await;
    assert_eq!(world.controller.hears(2).await, ["before", "after"]);
}

/// Simulations rest on it: one seed, one history.
#[tokio::test(start_paused = true)]
async fn one_seed_is_one_history() {
    let mut histories = Vec::new();
    for _ in 0..2 {
        let mut world = World::new(12).await;
        let (began, numbers) = (Instant::now(), Seeded::new(12));
        let history = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&history);
        world.broker.set_fate(move |message| {
            seen.lock().unwrap().push((began.elapsed(), message.topic.clone(), message.payload.clone()));
            if numbers.random().is_multiple_of(3) { Fate::Drop } else { Fate::Deliver }
        });
        for (up, down) in texts("up", 30).iter().zip(texts("down", 30)) {
            world.agent.say(up).await;
            world.controller.say(&down).await;
            sleep(Duration::from_millis(30)).await;
        }
        world.agent.crash().await;
        world.agent.start().await;
        world.controller.hears(30).await;
        world.agent.hears(30).await;
        histories.push(std::mem::take(&mut *history.lock().unwrap()));
    }
    assert!(histories[0].len() > 30);
    assert!(histories[0] == histories[1]);
}

#[tokio::test(start_paused = true)]
async fn restored_ends_fork_and_come_together_again() {
    let mut world = World::new(9).await;
    world.agent.say("one").await;
    world.controller.hears(1).await;
    world.agent.crash().await;
    let backup = world.agent.backup();
    world.agent.start().await;
    world.agent.say("two").await;
    world.controller.hears(2).await;
    world.agent.crash().await;
    world.agent.restore(&backup);
    world.agent.start().await;
    sleep(Duration::from_secs(5)).await;
    world.agent.say("three").await;
    assert_eq!(world.controller.hears(3).await, ["one", "two", "three"]);
    let heard = world.controller.everything_heard().await;
    assert_eq!(heard.iter().filter(|text| text.starts_with("snapshot")).count(), 2, "{heard:?}");
    assert_eq!(world.agent.forks(), [ForkCause::BeyondEnd]);
}

#[tokio::test(start_paused = true)]
async fn acknowledged_rows_go_when_they_are_old_or_too_many() {
    let world = World::new(10).await;
    for text in texts("up", 1300) {
        world.agent.say(&text).await;
    }
    world.controller.hears(1300).await;
    sleep(Duration::from_secs(15)).await;
    let store = world.agent.store();
    let (now, later) = (Timestamp(1_700_000_000_000), Timestamp(1_800_000_000_000));
    let retention = Retention::default();
    assert_eq!(prune_once(store, EVENT_OUTBOX, retention, now).await.unwrap(), 0, "too young");
    let small = Retention { database_bytes: 100_000, ..retention };
    let some = prune_once(store, EVENT_OUTBOX, small, now).await.unwrap();
    assert!((500..1301).contains(&some) && some.is_multiple_of(500), "{some}");
    world.broker.cut("agent");
    world.agent.say("not acknowledged").await;
    let rest = prune_once(store, EVENT_OUTBOX, retention, later).await.unwrap();
    assert_eq!(some + rest, 1301, "all but the last");
    world.broker.heal("agent");
    assert_eq!(world.controller.hears(1301).await.last().unwrap(), "not acknowledged");
    let head = store.read(|connection| EVENT_OUTBOX.head(connection, PEER)).await.unwrap().unwrap();
    assert_eq!((head.oldest, head.last), (1302, 1302));
    let store = world.controller.store();
    assert!(prune_once(store, COMMAND_OUTBOX, retention, later).await.unwrap() <= 1);
}
