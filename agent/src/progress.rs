//! What shows that the agent makes progress, and the line that says what it waits for; both
//! for the service manager.
//!
//! A proof is about the agent only. An engine, adb server or broker that is away, or that
//! hangs, is waited for with deadlines, and that is progress.

use crate::status::{Board, Part, PartState};
use crate::store::Notice;
use phonefleet_service::{Proof, Pulse, pulse};
use phonefleet_store::{Store, WriteError, rusqlite};
use std::collections::BTreeMap;

/// The loops that must come round.
pub(crate) struct Pulses {
    pub reconciler: Pulse,
    pub recordings: Pulse,
    pub engine_watch: Pulse,
}

impl Pulses {
    /// For an agent that nobody watches over.
    pub fn unheard() -> Self {
        Self { reconciler: Pulse::unheard(), recordings: Pulse::unheard(), engine_watch: Pulse::unheard() }
    }

    /// With a proof of each, and one of the store's writer.
    pub fn heard(store: Store<Notice>) -> (Self, Vec<Proof>) {
        let (reconciler, first) = pulse("reconciler");
        let (recordings, second) = pulse("recordings");
        let (engine_watch, third) = pulse("engine watch");
        let proofs = vec![of_store(store), first, second, third];
        (Self { reconciler, recordings, engine_watch }, proofs)
    }
}

/// A transaction went through the writer: its queue, its thread, the database's lock. One that
/// was refused did as well: starting again does not empty a full disk.
fn of_store(store: Store<Notice>) -> Proof {
    Proof::new("store", move || {
        let store = store.clone();
        async move {
            let written = store.write(|_| Ok::<_, rusqlite::Error>(())).await;
            !matches!(written, Err(WriteError::Closed | WriteError::Unknown(_)))
        }
    })
}

/// What is missing, and why; or that nothing is.
pub fn status_line(board: &Board) -> String {
    line(&board.parts())
}

fn line(parts: &BTreeMap<Part, PartState>) -> String {
    let missing: Vec<_> = parts
        .iter()
        .filter(|(_, state)| !state.ready)
        .map(|(part, state)| format!("{} ({})", part.name(), state.detail))
        .collect();
    if missing.is_empty() {
        let names: Vec<_> = parts.keys().map(|part| part.name()).collect();
        format!("has {}", names.join(", "))
    } else {
        format!("waiting for {}", missing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phonefleet_protocol::time::SystemClock;
    use std::sync::Arc;

    #[test]
    fn the_line_names_what_is_missing() {
        let board = Board::new(Arc::new(SystemClock));
        for part in [Part::Engine, Part::Adb, Part::Store] {
            board.ready(part, "");
        }
        board.missing(Part::Broker, "connection refused");
        assert_eq!(status_line(&board), "waiting for broker (connection refused)");
        board.ready(Part::Broker, "");
        assert_eq!(status_line(&board), "has engine, adb, broker, store");
    }
}
