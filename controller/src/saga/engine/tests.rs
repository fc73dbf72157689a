//! The engine by itself: definitions made for the test, a real database, virtual time.

#![allow(clippy::unnecessary_wraps, reason = "steps have one signature")]

use super::*;
use crate::fleet::set_clock::take_back;
use crate::saga::Step;
use crate::saga::runner::{Runner, Wake};
use crate::store::{self, Store};
use phonefleet_protocol::time::Clock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Wall time that follows tokio's virtual time, and can be set, by so many milliseconds.
struct VirtualClock(Instant, AtomicI64);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.1.load(Ordering::SeqCst)).after(self.0.elapsed())
    }
}

/// What the steps did, in order: the test's window into them. Steps are plain functions,
/// so what they do and remember goes through the saga's own state.
fn note(context: &mut StepContext<'_, '_>, what: &str) {
    context.saga.state = format!("{}{what};", context.saga.state);
}

fn done(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let step = context.saga.current_step.clone();
    note(context, &step);
    Ok(StepOutcome::Done)
}

fn undo(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let step = context.saga.current_step.to_lowercase();
    note(context, &step);
    Ok(StepOutcome::Done)
}

fn retries(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    note(context, if context.is_retry { "again" } else { "first" });
    Ok(StepOutcome::Retry(Reason::new("BUSY", "not now")))
}

/// As a step whose host answers each try the same.
fn busy(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    note(context, "x");
    Ok(if context.is_retry {
        let soon = context.now.after(Duration::from_secs(1));
        StepOutcome::WaitUntil("GODOT", soon)
    } else {
        StepOutcome::Retry(Reason::new("BUSY", "not now"))
    })
}

fn fails(_: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    Ok(StepOutcome::Failed(Reason::new("BROKEN", "never")))
}

fn waits(_: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    Ok(StepOutcome::Wait("GODOT"))
}

/// As a step whose answer stands until another try is asked for.
fn fails_until_tried_again(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    if context.is_retry {
        return Ok(StepOutcome::Done);
    }
    Ok(StepOutcome::Failed(Reason::new("BROKEN", "as long as nobody repairs it")))
}

/// Waits for a row, as device steps do.
fn waits_for_a_row(context: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    let came = context.tx.prepare("SELECT 1 FROM meta WHERE key = 'godot'")?.exists([])?;
    Ok(if came { StepOutcome::Done } else { StepOutcome::Wait("GODOT") })
}

fn panics(_: &mut StepContext<'_, '_>) -> Result<StepOutcome> {
    panic!("a step that panics");
}

const fn step(name: &'static str, execute: StepFunction) -> Step {
    Step { name, execute, compensate: Some(undo) }
}

const fn saga(
    saga_type: &'static str,
    steps: &'static [Step],
    timeout: Option<Duration>,
    on_failure: OnFailure,
) -> Definition {
    Definition { saga_type, version: 1, timeout, steps, on_failure, at_end: |_| Ok(()) }
}

static GOOD: Definition =
    saga("GOOD", &[step("A", done), step("B", done)], Some(Duration::from_secs(60)), OnFailure::TurnRound);
static RETRIES: Definition = saga(
    "RETRIES",
    &[step("A", done), step("B", retries), step("C", done)],
    Some(Duration::from_secs(60)),
    OnFailure::TurnRound,
);
static FAILS: Definition =
    saga("FAILS", &[step("A", done), step("B", fails)], Some(Duration::from_secs(60)), OnFailure::TurnRound);
static WAITS: Definition =
    saga("WAITS", &[step("A", done), step("B", waits)], Some(Duration::from_secs(60)), OnFailure::TurnRound);
static PANICS: Definition =
    saga("PANICS", &[step("A", panics)], Some(Duration::from_secs(60)), OnFailure::TurnRound);
static PERSISTS: Definition = saga("PERSISTS", &[step("A", fails)], None, OnFailure::Persist);
static NEVER_IDLE: Definition = saga("NEVER_IDLE", &[step("A", busy)], None, OnFailure::Persist);
static REPAIRED: Definition =
    saga("REPAIRED", &[step("A", fails_until_tried_again)], None, OnFailure::Persist);
static STUCK_BACK: Definition = saga(
    "STUCK_BACK",
    &[Step { name: "A", execute: waits, compensate: Some(fails_until_tried_again) }],
    None,
    OnFailure::TurnRound,
);
static COMES: Definition = saga("COMES", &[step("A", waits_for_a_row)], None, OnFailure::TurnRound);
static PLAIN: Definition = saga(
    "PLAIN",
    &[Step { name: "A", execute: waits, compensate: None }],
    Some(Duration::from_secs(60)),
    OnFailure::TurnRound,
);
static NEWER: Definition = Definition { version: 2, ..GOOD };

const REGISTRY: Registry = Registry(&[
    &GOOD,
    &RETRIES,
    &FAILS,
    &WAITS,
    &PANICS,
    &PERSISTS,
    &PLAIN,
    &REPAIRED,
    &STUCK_BACK,
    &COMES,
    &NEVER_IDLE,
]);
const ENGINE: Engine = Engine {
    registry: REGISTRY,
    retry: RetryPolicy {
        retries: 3,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(60),
    },
};

struct World {
    store: Store,
    clock: Arc<VirtualClock>,
    _directory: tempfile::TempDir,
    ends: Arc<Mutex<Vec<SagaEnd>>>,
}

impl World {
    /// A database, and a runner on it.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock(Instant::now(), AtomicI64::new(0)));
        let (wakes, queue) = mpsc::unbounded_channel();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ends);
        let on_commit = move |notices: Vec<Notice>| {
            for notice in notices {
                match notice {
                    Notice::SagaRunnable(saga) => _ = wakes.send(Wake::Runnable(saga)),
                    Notice::SagaDue(at) => _ = wakes.send(Wake::Due(at)),
                    Notice::SagaEnded(end) => seen.lock().unwrap().push(*end),
                    Notice::SagaStep { .. }
                    | Notice::Commands(_)
                    | Notice::RecordingEnded(_)
                    | Notice::EventApplied { .. } => {}
                }
            }
        };
        let mode = phonefleet_store::Mode::Inline { gate: None };
        let store = store::open(&directory.path().join("c.db"), mode, Arc::new(on_commit)).unwrap();
        let runner = Runner::new(store.clone(), ENGINE, Arc::clone(&clock) as _, queue);
        tokio::spawn(runner.run());
        Self { store, clock, _directory: directory, ends }
    }

    async fn start(&self, definition: &'static Definition, id: &str) -> SagaId {
        let saga: SagaId = id.parse().unwrap();
        let (id, now) = (saga.clone(), self.clock.now());
        self.store
            .write(move |tx| Engine::start(tx, definition, id.clone(), None, String::new(), now))
            .await
            .unwrap();
        saga
    }

    async fn row(&self, saga: &SagaId) -> SagaRow {
        let saga = saga.clone();
        self.store.read(move |connection| table::find(connection, &saga)).await.unwrap().unwrap()
    }

    /// Waits, on virtual time, until the saga is as it should be.
    async fn until(&self, saga: &SagaId, what: impl Fn(&SagaRow) -> bool) -> SagaRow {
        let deadline = Instant::now() + Duration::from_secs(3600);
        loop {
            let row = self.row(saga).await;
            if what(&row) {
                return row;
            }
            assert!(Instant::now() < deadline, "{row:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_status(&self, saga: &SagaId, status: SagaStatus) -> SagaRow {
        self.until(saga, |row| row.status == status).await
    }

    async fn story(&self, saga: &SagaId) -> String {
        let saga = saga.clone();
        let events =
            self.store.read(move |connection| table::events(connection, &saga, 0, 100)).await.unwrap();
        let lines: Vec<String> =
            events.iter().map(|event| format!("{} {}", event.kind, event.step)).collect();
        lines.join(", ")
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_saga_completes_and_tells_its_story() {
    let world = World::new();
    let saga = world.start(&GOOD, "s").await;
    let row = world.until_status(&saga, SagaStatus::Completed).await;
    assert_eq!((row.state.as_str(), row.step_index, row.current_step.as_str()), ("A;B;", 1, "B"));
    assert_eq!(row.due_at, None);
    assert_eq!(world.story(&saga).await, "started A, done A, done B, ended B");
    assert_eq!(world.ends.lock().unwrap()[0].result, "completed");
}

/// What goes on for as long as it takes does not fill the database with the same lines.
#[tokio::test(start_paused = true)]
async fn a_story_that_goes_round_in_circles_is_told_once() {
    let world = World::new();
    let saga = world.start(&NEVER_IDLE, "s").await;
    let row = world.until(&saga, |row| row.retry_count == 20).await;
    assert!(row.state.len() > 2 * 2 * 18, "it is tried all the same: {}", row.state);
    let round = "retry A, waits A";
    assert_eq!(world.story(&saga).await, format!("started A, {round}, {round}, {round}"));
    assert_eq!(row.event_count, 7);
}

#[tokio::test(start_paused = true)]
async fn retries_pause_1_2_4_seconds_and_then_it_turns_round() {
    let world = World::new();
    let began = Instant::now();
    let saga = world.start(&RETRIES, "s").await;
    let row = world.until_status(&saga, SagaStatus::Compensated).await;
    // The step in flight is undone too, and the one that never began is not.
    assert_eq!(row.state, "A;first;again;again;again;b;a;");
    assert_eq!((row.cause, row.failed_step.as_deref()), (Some(Cause::Failed), Some("B")));
    assert_eq!(row.error_message.as_deref(), Some("BUSY: not now"));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(7) && took < Duration::from_secs(9), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_not_retried() {
    let world = World::new();
    let saga = world.start(&FAILS, "s").await;
    let row = world.until_status(&saga, SagaStatus::Compensated).await;
    assert_eq!((row.state.as_str(), row.failed_step.as_deref()), ("A;b;a;", Some("B")));
    assert_eq!(world.ends.lock().unwrap()[0].result, "failed");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_exact_and_names_what_was_waited_for() {
    let world = World::new();
    let began = Instant::now();
    let saga = world.start(&WAITS, "s").await;
    let row = world.until(&saga, |row| row.wait_reason.is_some()).await;
    assert_eq!(row.wait_reason.as_deref(), Some("GODOT"));
    let row = world.until_status(&saga, SagaStatus::Compensated).await;
    assert_eq!((row.cause, row.failed_step.as_deref()), (Some(Cause::Timeout), Some("B")));
    assert!(row.error_message.unwrap().contains("GODOT"));
    assert!(began.elapsed() >= Duration::from_secs(60) && began.elapsed() < Duration::from_secs(62));
    // With nothing to undo, the same is the end.
    let plain = world.start(&PLAIN, "p").await;
    world.until_status(&plain, SagaStatus::Timeout).await;
}

#[tokio::test(start_paused = true)]
async fn one_bad_saga_never_stops_the_others() {
    let world = World::new();
    let future = world.start(&NEWER, "a-future").await;
    let panicking = world.start(&PANICS, "b-panics").await;
    let hopeless = world.start(&PERSISTS, "c-persists").await;
    let good = world.start(&GOOD, "d-good").await;
    world.until_status(&good, SagaStatus::Completed).await;
    for (saga, why) in
        [(future, "no definition GOOD version 2"), (panicking, "a step that panics"), (hopeless, "BROKEN")]
    {
        let row = world.until_status(&saga, SagaStatus::NeedsAttention).await;
        assert!(row.error_message.as_deref().unwrap().contains(why), "{row:?}");
        assert_eq!((row.due_at, row.wait_reason.as_deref()), (None, Some("OPERATOR")));
    }
}

#[tokio::test(start_paused = true)]
async fn operators_resume_and_compensate_by_hand() {
    let world = World::new();
    let saga = world.start(&PERSISTS, "s").await;
    world.until_status(&saga, SagaStatus::NeedsAttention).await;
    let (id, now) = (saga.clone(), world.clock.now());
    world.store.write(move |tx| ENGINE.resume(tx, &id, now)).await.unwrap();
    // It failed again, which the story tells.
    world.until(&saga, |row| row.event_count >= 4).await;
    assert_eq!(world.story(&saga).await, "started A, attention A, resumed A, attention A");
    let (id, now) = (saga.clone(), world.clock.now());
    world.store.write(move |tx| ENGINE.compensate(tx, &id, now)).await.unwrap();
    let row = world.until_status(&saga, SagaStatus::Compensated).await;
    assert_eq!((row.cause, row.state.as_str()), (Some(Cause::Cancelled), "a;"));
    let (id, now) = (saga, world.clock.now());
    let again = world.store.write(move |tx| ENGINE.compensate(tx, &id, now)).await;
    assert!(matches!(
        again,
        Err(phonefleet_store::WriteError::Refused(VerbError::Status("COMPENSATED", "compensated")))
    ));
}

/// The failure that stopped it still stands in the rows; going on means trying again.
#[tokio::test(start_paused = true)]
async fn who_resumes_gets_another_try() {
    let world = World::new();
    let saga = world.start(&REPAIRED, "s").await;
    world.until_status(&saga, SagaStatus::NeedsAttention).await;
    let (id, now) = (saga.clone(), world.clock.now());
    world.store.write(move |tx| ENGINE.resume(tx, &id, now)).await.unwrap();
    world.until_status(&saga, SagaStatus::Completed).await;

    // On its way back the two verbs mean the same.
    let saga = world.start(&STUCK_BACK, "b").await;
    world.until(&saga, |row| row.wait_reason.is_some()).await;
    for status in [SagaStatus::NeedsAttention, SagaStatus::Compensated] {
        let (id, now) = (saga.clone(), world.clock.now());
        world.store.write(move |tx| ENGINE.compensate(tx, &id, now)).await.unwrap();
        world.until_status(&saga, status).await;
    }
}

/// Nothing in the row of a saga that waits without a deadline says that it should look: the
/// wake must outlive a database that refuses for a while, and a controller that dies.
#[tokio::test(start_paused = true)]
async fn a_wake_outlives_a_database_that_refuses() {
    let world = World::new();
    let saga = world.start(&COMES, "s").await;
    world.until(&saga, |row| row.wait_reason.is_some()).await;
    // As a full disk does: SQLite rolls back.
    let id = saga.clone();
    world
        .store
        .write(move |tx| {
            tx.execute_batch(
                "CREATE TEMP TRIGGER refuse BEFORE UPDATE ON saga_state BEGIN SELECT RAISE(ROLLBACK, 'full'); END",
            )?;
            tx.announce(Notice::SagaRunnable(id.clone()));
            tx.execute_batch("INSERT INTO meta(key, value) VALUES ('godot', '')")
        })
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.row(&saga).await.status, SagaStatus::Running);
    world.store.write(|tx| tx.execute_batch("DROP TRIGGER refuse")).await.unwrap();
    world.until_status(&saga, SagaStatus::Completed).await;
}

#[tokio::test(start_paused = true)]
async fn a_nudge_outlives_a_controller_that_dies() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock(Instant::now(), AtomicI64::new(0)));
    let id: SagaId = "s".parse().unwrap();
    let mode = phonefleet_store::Mode::Inline { gate: None };
    let store = store::open(&directory.path().join("c.db"), mode, Arc::new(|_| {})).unwrap();
    let (saga, now) = (id.clone(), clock.now());
    store
        .write(move |tx| {
            Engine::start(tx, &COMES, saga.clone(), None, String::new(), now)?;
            ENGINE.advance(tx, &saga, now)?;
            tx.execute_batch("INSERT INTO meta(key, value) VALUES ('godot', '')")?;
            Engine::nudge(tx, &saga, now)
        })
        .await
        .unwrap();
    let (_wakes, queue) = mpsc::unbounded_channel();
    let runner = tokio::spawn(Runner::new(store.clone(), ENGINE, Arc::clone(&clock) as _, queue).run());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let row = store.read(move |connection| table::find(connection, &id)).await.unwrap().unwrap();
    assert_eq!((row.status, row.due_at), (SagaStatus::Completed, None));
    runner.abort();
}

/// A controller that died between any two transitions: a new runner finds the saga by
/// its due time alone, without any notice.
#[tokio::test(start_paused = true)]
async fn recovery_needs_no_notice() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock(Instant::now(), AtomicI64::new(0)));
    for steps_before_the_crash in 0..4 {
        let path = directory.path().join(format!("{steps_before_the_crash}.db"));
        let id: SagaId = "s".parse().unwrap();
        {
            let mode = phonefleet_store::Mode::Inline { gate: None };
            let store = store::open(&path, mode, Arc::new(|_| {})).unwrap();
            let (saga, now) = (id.clone(), clock.now());
            store
                .write(move |tx| Engine::start(tx, &FAILS, saga.clone(), None, String::new(), now))
                .await
                .unwrap();
            for _ in 0..steps_before_the_crash {
                let (saga, now) = (id.clone(), clock.now());
                store.write(move |tx| ENGINE.advance(tx, &saga, now)).await.unwrap();
            }
        }
        let mode = phonefleet_store::Mode::Inline { gate: None };
        let store = store::open(&path, mode, Arc::new(|_| {})).unwrap();
        let (_wakes, queue) = mpsc::unbounded_channel();
        let runner = tokio::spawn(Runner::new(store.clone(), ENGINE, Arc::clone(&clock) as _, queue).run());
        let deadline = Instant::now() + Duration::from_secs(600);
        loop {
            let saga = id.clone();
            let row = store.read(move |connection| table::find(connection, &saga)).await.unwrap().unwrap();
            if row.status == SagaStatus::Compensated {
                assert_eq!(row.state, "A;b;a;", "after {steps_before_the_crash} steps");
                break;
            }
            assert!(Instant::now() < deadline, "{row:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        runner.abort();
        assert!(runner.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_nothing_wait_longer() {
    let world = World::new();
    let retried = world.start(&RETRIES, "retried").await;
    let waiting = world.start(&WAITS, "waiting").await;
    world.until(&retried, |row| row.retry_at.is_some()).await;
    world.until(&waiting, |row| row.wait_reason.is_some()).await;
    world.clock.1.store(-3_600_000, Ordering::SeqCst);
    let set = Instant::now();
    // One is written between the setting and its being noticed.
    let id = waiting.clone();
    let now = world.clock.now();
    world.store.write(move |tx| Engine::nudge(tx, &id, now)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    take_back(&world.store, world.clock.now()).await.unwrap();
    // The runner looks again, as it does after each commit that makes something due.
    for saga in [retried, waiting] {
        let row = world.until(&saga, |row| row.status.is_terminal()).await;
        assert!(set.elapsed() < Duration::from_secs(130), "{:?}: {row:?}", set.elapsed());
        assert!(row.updated_at <= world.clock.now(), "{row:?}");
    }
    // Done twice, it changes nothing.
    let before = world.clock.now();
    let late = world.start(&WAITS, "late").await;
    let row = world.until(&late, |row| row.wait_reason.is_some()).await;
    take_back(&world.store, before).await.unwrap();
    assert_eq!(world.row(&late).await.timeout_at, row.timeout_at);
}
