//! Giving up an unreachable host: what it holds is released in the transaction that
//! fences it. If it ever returns, it is told that all of it shall be absent.

use super::desire;
use crate::quota;
use crate::recording::apply as recordings;
use crate::saga::{Engine, device_deletion};
use crate::store::device::{self as devices, Status};
use crate::store::saga::{self as sagas, SagaStatus};
use crate::store::{Tx, event_outbox, host};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::time::Timestamp;

/// Why a host cannot be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// There is no such host.
    #[error("there is no host of this id")]
    NotFound,
    /// It is alive.
    #[error("host {0} is online; stop its agent first, or delete its devices")]
    Online(HostId),
    /// SQLite refuses.
    #[error(transparent)]
    Sqlite(#[from] phonefleet_store::rusqlite::Error),
}

/// Gives up `host`; returns how many devices were given up with it.
pub fn forget(
    engine: &Engine,
    tx: &mut Tx<'_>,
    host_id: &HostId,
    now: Timestamp,
) -> Result<usize, ForgetError> {
    let row = host::find(tx, host_id)?.ok_or(ForgetError::NotFound)?;
    if row.online {
        return Err(ForgetError::Online(host_id.clone()));
    }
    host::set_forgotten(tx, host_id, now)?;
    recordings::forget_host(tx, host_id, now)?;
    host::drop_strays(tx, host_id)?;
    let mut given_up = 0;
    for mut device in devices::wanted_on(tx, host_id)? {
        if device.deleted_at.is_some() {
            continue;
        }
        given_up += 1;
        device.status = Status::Deleted;
        device.deleted_at = Some(now);
        device.ports = None;
        device.container_id = None;
        quota::release(tx, device.device_id, None)?;
        desire::change_wish(tx, &mut device, Wish::Absent, now)?;
        event_outbox::append(tx, "device", &device.device_id.to_string(), "device.forgotten", &host_id, now)?;
        if let Some(id) = &device.saga_id {
            // A deletion has what it wants. Others turn round, and find nothing left to undo.
            let deletes = sagas::find(tx, id)?.is_some_and(|saga| {
                saga.saga_type == device_deletion::DEFINITION.saga_type && saga.status == SagaStatus::Running
            });
            if !deletes {
                engine.cancel(tx, id, "its host was forgotten", now)?;
            }
            Engine::nudge(tx, id, now)?;
        }
    }
    Ok(given_up)
}
