//! Who is online, by this clock: a hint for placement and for the names of waits.

use super::admission::wake_waiting;
use crate::store::host::HostRow;
use crate::store::{Store, host};
use phonefleet_protocol::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

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
/// controller's own start, in which it could not hear them.
pub async fn watch(store: Store, clock: Arc<dyn Clock>, presence: Duration) {
    let started = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(PERIOD).await;
        if started.elapsed() <= presence {
            continue;
        }
        let now = clock.now();
        let before = Timestamp(now.0 - i64::try_from(presence.as_millis()).unwrap_or(i64::MAX));
        let silent = store
            .write(move |tx| {
                let silent = host::silence(tx, before)?;
                for host in &silent {
                    wake_waiting(tx, host, now)?;
                }
                Ok::<_, phonefleet_store::rusqlite::Error>(silent)
            })
            .await;
        match silent {
            Ok(silent) => silent.iter().for_each(|host| tracing::warn!(%host, "host is unreachable")),
            Err(phonefleet_store::WriteError::Closed | phonefleet_store::WriteError::Unknown(_)) => return,
            Err(error) => tracing::warn!(%error, "presence cannot be written; trying again"),
        }
    }
}
