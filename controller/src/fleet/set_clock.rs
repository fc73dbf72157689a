//! A wall clock that somebody sets. Moments to come are kept by it: when a saga is tried again or
//! given up, until when a host counts as there.
//!
//! Set back, what was written in the time that is now to come is brought back with its distances:
//! a pause stays as long as it was to be. That is seen on the rows, so it also holds for a clock
//! that was set while the controller was down. Set forward, deadlines pass, as they do while a
//! controller is down; but no host was silent for it.

use super::admission::CONFLICT_LASTS;
use crate::store::{Notice, Store, host, saga};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::{WriteError, rusqlite};
use std::time::Duration;
use tokio::time::Instant;

/// A smaller step is none: writers on several threads do not read the clock in the order in which
/// they write, and a processor may be away for a while.
const STEP: Duration = Duration::from_secs(2);

/// What the wall clock should show.
pub(super) struct Pace {
    wall: Timestamp,
    at: Instant,
}

impl Pace {
    pub(super) fn from(wall: Timestamp) -> Self {
        Self { wall, at: Instant::now() }
    }

    /// Whether the clock was set since it was asked last.
    pub(super) fn was_set(&mut self, wall: Timestamp) -> bool {
        let expected = self.wall.after(self.at.elapsed());
        *self = Self::from(wall);
        let set = wall.since(expected).max(expected.since(wall)) > STEP;
        if set {
            tracing::warn!(%wall, %expected, "the clock was set");
        }
        set
    }
}

/// Brings back what was written later than `now`.
pub async fn take_back(store: &Store, now: Timestamp) -> Result<(), WriteError<rusqlite::Error>> {
    let changed = store
        .write(move |tx| {
            let sagas = saga::take_back(tx, now, STEP)?;
            let hosts = host::take_back(tx, now, STEP, CONFLICT_LASTS)?;
            if sagas > 0 {
                tx.announce(Notice::SagaDue(now));
            }
            Ok::<_, rusqlite::Error>((sagas, hosts))
        })
        .await?;
    if changed != (0, 0) {
        tracing::warn!(
            sagas = changed.0,
            hosts = changed.1,
            "the clock was set back: brought back what waits"
        );
    }
    Ok(())
}
