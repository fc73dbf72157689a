//! The broker, what becomes of its messages, and who is cut off from it.

use crate::random::Random;
use crate::trace::Trace;
use phonefleet_link::MemoryBroker;
use phonefleet_link::memory::Fate;
use phonefleet_link::transport::{Incoming, Transport};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

/// The network; a cheap handle.
#[derive(Clone)]
pub struct Network {
    broker: MemoryBroker,
    state: Arc<Mutex<State>>,
}

struct State {
    /// By client, how many reasons it is cut off for.
    cut: BTreeMap<String, u32>,
    /// Phases of loss that overlap: lost, repeated, delayed, percent each.
    lossy: Vec<(u64, [u64; 3])>,
    phases: u64,
    random: Random,
}

impl Network {
    /// A network that loses nothing yet.
    pub fn new(seed: u64, trace: Trace) -> Self {
        let broker = MemoryBroker::new();
        let state = State {
            cut: BTreeMap::new(),
            lossy: Vec::new(),
            phases: 0,
            random: Random::new(seed, "network"),
        };
        let state = Arc::new(Mutex::new(state));
        let fates = Arc::clone(&state);
        broker.set_fate(move |message| {
            let mut state = fates.lock().unwrap_or_else(PoisonError::into_inner);
            let fate = state.fate();
            let (bytes, hash) = (message.payload.len(), xxh3_64(&message.payload));
            trace.whisper(format_args!("{} {bytes} bytes {hash:016x} {fate:?}", message.topic));
            fate
        });
        Self { broker, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a client, which may find itself cut off.
    pub fn connect(&self, client: &str, topics: &[&str]) -> (Arc<dyn Transport>, mpsc::Receiver<Incoming>) {
        let connection = self.broker.connect(client, topics, None);
        if self.lock().cut.get(client).is_some_and(|reasons| *reasons > 0) {
            self.broker.cut(client);
        }
        connection
    }

    /// Cuts a client off, for one more reason.
    pub fn cut(&self, client: &str) {
        *self.lock().cut.entry(client.to_owned()).or_default() += 1;
        self.broker.cut(client);
    }

    /// One reason fewer.
    pub fn heal(&self, client: &str) {
        let healed = {
            let mut state = self.lock();
            let reasons = state.cut.entry(client.to_owned()).or_default();
            *reasons = reasons.saturating_sub(1);
            *reasons == 0
        };
        if healed {
            self.broker.heal(client);
        }
    }

    /// Kills the broker with all that it knows.
    pub fn forget(&self) {
        self.broker.forget();
    }

    /// Messages fare badly until [`Self::end_lossy`].
    pub fn begin_lossy(&self, percent: [u64; 3]) -> u64 {
        let mut state = self.lock();
        state.phases += 1;
        let phase = state.phases;
        state.lossy.push((phase, percent));
        phase
    }

    /// Ends one such phase.
    pub fn end_lossy(&self, phase: u64) {
        self.lock().lossy.retain(|(known, _)| *known != phase);
    }
}

impl State {
    fn fate(&mut self) -> Fate {
        let Some((_, [lost, twice, late])) = self.lossy.last().copied() else { return Fate::Deliver };
        let drawn = self.random.below(100);
        if drawn < lost {
            Fate::Drop
        } else if drawn < lost + twice {
            Fate::Twice
        } else if self.random.chance(late) {
            Fate::Delay(self.random.time(Duration::from_millis(1), Duration::from_secs(4)))
        } else {
            Fate::Deliver
        }
    }
}
