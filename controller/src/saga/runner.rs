//! Wakes sagas: those that a commit made runnable, and those whose time has come.
//!
//! One task, one timer. Each runnable saga is driven by a task of its own, transition by
//! transition, until it rests; the group commit makes one fsync of what runs side by
//! side. A saga that cannot be driven stops for an operator; the others do not notice.

use super::engine::{Engine, Next, is_transient};
use crate::store::{Store, saga as table};
use phonefleet_protocol::id::SagaId;
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_service::Pulse;
use phonefleet_store::WriteError;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Sagas that one look at the timer takes at most.
const DUE_PAGE: u32 = 512;
/// The timer looks at least this often, whatever it was told: a wall clock may be set.
const LOOK_AT_LEAST: Duration = Duration::from_secs(60);
/// Pause after the database refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// What wakes the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// This saga can go on.
    Runnable(SagaId),
    /// Some saga is due at this moment.
    Due(Timestamp),
}

/// The runner of one controller.
pub struct Runner {
    store: Store,
    engine: Engine,
    clock: Arc<dyn Clock>,
    wakes: mpsc::UnboundedReceiver<Wake>,
    pulse: Pulse,
}

/// How driving a saga ended.
enum Driven {
    /// It rests.
    Rests,
    /// The database is closed.
    Closed,
}

impl Runner {
    /// A runner, and what wakes it. The queue is unbounded because it is filled from the
    /// writer after commits, which must not wait; its length is bounded by the number of
    /// unfinished sagas, each of which is woken by its own commits only.
    pub fn new(
        store: Store,
        engine: Engine,
        clock: Arc<dyn Clock>,
        wakes: mpsc::UnboundedReceiver<Wake>,
    ) -> Self {
        Self { store, engine, clock, wakes, pulse: Pulse::unheard() }
    }

    /// Shows by this that its loop comes round.
    #[must_use]
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// Runs until the database is closed or nobody can wake it any more.
    pub async fn run(mut self) {
        let mut driven: JoinSet<(SagaId, Driven)> = JoinSet::new();
        // Sagas being driven, and whether they were woken once more meanwhile.
        let mut active: HashMap<SagaId, bool> = HashMap::new();
        // Recovery: whatever is due was interrupted.
        let mut look_at = Some(tokio::time::Instant::now());
        loop {
            let timer = look_at.unwrap_or_else(|| tokio::time::Instant::now() + LOOK_AT_LEAST);
            // What comes seldom goes first, so that the wakes hold up nothing; always in one
            // order, so that a simulation goes one way.
            tokio::select! {
                biased;
                () = self.pulse.asked() => {}
                () = tokio::time::sleep_until(timer) => {
                    look_at = self.look(&mut active, &mut driven).await;
                }
                Some(done) = driven.join_next() => {
                    // A drive task has nothing that panics; if it does, the daemon starts again
                    // and recovery finds its saga.
                    let Ok((saga, end)) = done else { return };
                    let again = active.remove(&saga).unwrap_or(false);
                    match end {
                        Driven::Closed => return,
                        Driven::Rests if again => self.drive(saga, &mut active, &mut driven),
                        Driven::Rests => {}
                    }
                }
                wake = self.wakes.recv() => match wake {
                    None => return,
                    Some(Wake::Runnable(saga)) => self.drive(saga, &mut active, &mut driven),
                    Some(Wake::Due(at)) => {
                        let at = tokio::time::Instant::now() + at.since(self.clock.now());
                        look_at = Some(look_at.map_or(at, |earlier| earlier.min(at)));
                    }
                },
            }
        }
    }

    /// Drives what is due, and says when to look next.
    async fn look(
        &self,
        active: &mut HashMap<SagaId, bool>,
        driven: &mut JoinSet<(SagaId, Driven)>,
    ) -> Option<tokio::time::Instant> {
        let now = self.clock.now();
        let found = self
            .store
            .read(move |connection| {
                Ok((table::due(connection, now, DUE_PAGE)?, table::next_due(connection)?))
            })
            .await;
        let (due, next) = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the saga timer cannot read; it tries again");
                return Some(tokio::time::Instant::now() + REFUSED_PAUSE);
            }
        };
        let overdue = !due.is_empty();
        for saga in due {
            if !active.contains_key(&saga) {
                self.drive(saga, active, driven);
            }
        }
        // What is overdue is being driven; look again soon for the rest of the page.
        let wait = if overdue { REFUSED_PAUSE } else { next?.since(now).min(LOOK_AT_LEAST) };
        Some(tokio::time::Instant::now() + wait)
    }

    fn drive(
        &self,
        saga: SagaId,
        active: &mut HashMap<SagaId, bool>,
        driven: &mut JoinSet<(SagaId, Driven)>,
    ) {
        if let Some(again) = active.get_mut(&saga) {
            *again = true;
            return;
        }
        active.insert(saga.clone(), false);
        let (store, engine, clock) = (self.store.clone(), self.engine, Arc::clone(&self.clock));
        driven.spawn(async move {
            let end = drive_until_rest(&store, engine, &*clock, &saga).await;
            (saga, end)
        });
    }
}

/// A wake is kept until the database takes it: the saga may wait for an event that comes
/// only once, and then nothing in its row says that it should look.
async fn drive_until_rest(store: &Store, engine: Engine, clock: &dyn Clock, saga: &SagaId) -> Driven {
    loop {
        let (id, now) = (saga.clone(), clock.now());
        match store.write(move |tx| engine.advance(tx, &id, now)).await {
            Ok(Next::Runnable) => {}
            Ok(Next::Rests) => return Driven::Rests,
            Err(WriteError::Closed | WriteError::Unknown(_)) => return Driven::Closed,
            Err(error @ (WriteError::Busy | WriteError::Unavailable(_))) => {
                pause(saga, error.to_string()).await;
            }
            Err(WriteError::Refused(error)) if is_transient(&error) => pause(saga, error.to_string()).await,
            Err(error @ (WriteError::Refused(_) | WriteError::Panicked(_))) => {
                let (id, why) = (saga.clone(), error.to_string());
                match store.write(move |tx| Engine::stop_for_attention(tx, &id, &why, now)).await {
                    Ok(()) => return Driven::Rests,
                    Err(error) => pause(saga, error.to_string()).await,
                }
            }
        }
    }
}

async fn pause(saga: &SagaId, error: String) {
    tracing::warn!(%saga, error, "the database refuses to move a saga; trying again");
    tokio::time::sleep(REFUSED_PAUSE).await;
}
