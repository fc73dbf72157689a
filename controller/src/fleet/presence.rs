//! Who is online, by this clock: a hint for placement and for the names of waits.

use super::admission::wake_waiting;
use super::set_clock::{Pace, take_back};
use crate::store::host::HostRow;
use crate::store::{Store, host};
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_store::{WriteError, rusqlite};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often silence is looked for.
const PERIOD: Duration = Duration::from_secs(5);

/// What an operator sees of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HostStatus {
    /// Heard within the presence period.
    Online,
    /// Silent for longer.
    Unreachable,
    /// Silent for very long, or given up.
    Lost,
    /// Two agents use its id.
    Conflict,
}

/// The status of a host. `lost_after` is the silence after which it counts as lost.
pub fn status(host: &HostRow, lost_after: Duration, now: Timestamp) -> HostStatus {
    if host.forgotten_at.is_some() {
        HostStatus::Lost
    } else if host.conflict_with.is_some() {
        HostStatus::Conflict
    } else if host.online {
        HostStatus::Online
    } else if host.last_seen_at.after(lost_after) < now {
        HostStatus::Lost
    } else {
        HostStatus::Unreachable
    }
}

/// Marks silent hosts until the store is closed. Hosts get one whole period after this
/// controller's own start, in which it could not hear them, and after its clock was set.
pub async fn watch(store: Store, clock: Arc<dyn Clock>, presence: Duration) {
    let mut listens_since = Instant::now();
    let mut pace = Pace::from(clock.now());
    // It may have been set while this controller was down.
    let mut was_set = true;
    loop {
        if was_set {
            match take_back(&store, clock.now()).await {
                Ok(()) => was_set = false,
                Err(WriteError::Closed | WriteError::Unknown(_)) => return,
                Err(error) => tracing::warn!(%error, "moments cannot be brought back; trying again"),
            }
        }
        tokio::time::sleep(PERIOD).await;
        let now = clock.now();
        if pace.was_set(now) {
            (was_set, listens_since) = (true, Instant::now());
        }
        if listens_since.elapsed() <= presence {
            continue;
        }
        let before = Timestamp(now.0 - i64::try_from(presence.as_millis()).unwrap_or(i64::MAX));
        let silent = store
            .write(move |tx| {
                let silent = host::silence(tx, before)?;
                for host in &silent {
                    wake_waiting(tx, host, now)?;
                }
                Ok::<_, rusqlite::Error>(silent)
            })
            .await;
        match silent {
            Ok(silent) => silent.iter().for_each(|host| tracing::warn!(%host, "host is unreachable")),
            Err(WriteError::Closed | WriteError::Unknown(_)) => return,
            Err(error) => tracing::warn!(%error, "presence cannot be written; trying again"),
        }
    }
}
