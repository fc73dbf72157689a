//! What others do to a saga: a deletion or a forgotten host that puts an end to it, and the
//! verbs of an operator. Each is one transition in the transaction of whoever asks.

use super::{Engine, Next, announce_end, finish, turn};
use crate::fleet::apply;
use crate::store::saga::{self as table, Cause, SagaRow, SagaStatus};
use crate::store::{Notice, Result, Tx, device};
use phonefleet_protocol::id::SagaId;
use phonefleet_protocol::time::Timestamp;

/// Why an operator's verb was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// There is no such saga.
    #[error("there is no saga of this id")]
    NotFound,
    /// It cannot be done in this status.
    #[error("a saga that is {0} cannot be {1}")]
    Status(&'static str, &'static str),
    /// SQLite refuses.
    #[error(transparent)]
    Sqlite(#[from] phonefleet_store::rusqlite::Error),
}

impl Engine {
    /// Turns a running saga round because somebody asked for it. Others are left alone.
    pub fn cancel(&self, tx: &mut Tx<'_>, saga_id: &SagaId, why: &str, now: Timestamp) -> Result<()> {
        let Some(mut saga) = table::find(tx, saga_id)? else { return Ok(()) };
        match (saga.status, self.registry.of(&saga)) {
            (SagaStatus::Running, Some(definition)) => {
                let next = turn(tx, definition, &mut saga, Cause::Cancelled, why.to_owned(), now)?;
                if next == Next::Runnable {
                    tx.announce(Notice::SagaRunnable(saga_id.clone()));
                }
            }
            (SagaStatus::Running, None) | (SagaStatus::NeedsAttention, _) => {
                Self::supersede(tx, &mut saga, why, now)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends a saga that cannot go on: another one of the device takes over, or an operator says so.
    pub fn supersede(tx: &mut Tx<'_>, saga: &mut SagaRow, why: &str, now: Timestamp) -> Result<()> {
        saga.status = SagaStatus::Abandoned;
        saga.cause = Some(Cause::Cancelled);
        saga.ended_at = Some(now);
        saga.due_at = None;
        saga.retry_at = None;
        saga.wait_reason = None;
        saga.resume_status = None;
        announce_end(tx, saga, "cancelled", now);
        finish(tx, saga, now, "ended", Some(format!("ABANDONED: {why}"))).map(|_| ())
    }

    /// An operator lets a saga that needs attention go on where it stopped.
    pub fn resume(
        &self,
        tx: &mut Tx<'_>,
        saga_id: &SagaId,
        now: Timestamp,
    ) -> std::result::Result<(), VerbError> {
        let mut saga = table::find(tx, saga_id)?.ok_or(VerbError::NotFound)?;
        match saga.status {
            SagaStatus::NeedsAttention => {
                saga.status = saga.resume_status.take().unwrap_or(SagaStatus::Running);
                // Try again, do not only look: the answer that stopped it still stands.
                saga.retry_at = Some(now);
                // The way forward gets its whole time again: the operator said go.
                if let (SagaStatus::Running, Some(definition)) = (saga.status, self.registry.of(&saga)) {
                    saga.timeout_at = definition.timeout.map(|timeout| now.after(timeout));
                }
            }
            // Ends a pause, and looks again at what it waits for.
            SagaStatus::Running | SagaStatus::Compensating => {}
            status => return Err(VerbError::Status(status.name(), "resumed")),
        }
        saga.retry_count = 0;
        saga.retry_at = saga.retry_at.map(|_| now);
        saga.due_at = Some(now);
        finish(tx, &mut saga, now, "resumed", None)?;
        tx.announce(Notice::SagaRunnable(saga_id.clone()));
        Ok(())
    }

    /// An operator turns a saga round.
    pub fn compensate(
        &self,
        tx: &mut Tx<'_>,
        saga_id: &SagaId,
        now: Timestamp,
    ) -> std::result::Result<(), VerbError> {
        let mut saga = table::find(tx, saga_id)?.ok_or(VerbError::NotFound)?;
        if saga.status == SagaStatus::NeedsAttention && saga.resume_status == Some(SagaStatus::Compensating) {
            // It was on its way back already.
            return self.resume(tx, saga_id, now);
        }
        let definition = self.registry.of(&saga);
        match (saga.status, definition) {
            (SagaStatus::Running | SagaStatus::NeedsAttention, Some(definition))
                if definition.can_compensate() =>
            {
                saga.status = SagaStatus::Running;
                saga.resume_status = None;
                turn(
                    tx,
                    definition,
                    &mut saga,
                    Cause::Cancelled,
                    "an operator asked for it".to_owned(),
                    now,
                )?;
                tx.announce(Notice::SagaRunnable(saga_id.clone()));
                Ok(())
            }
            (status, _) => Err(VerbError::Status(status.name(), "compensated")),
        }
    }

    /// An operator gives up a saga that needs attention: it ends where it stands, and its device
    /// is what its host says, free for other orders. Repeated, it changes nothing.
    pub fn abandon(
        &self,
        tx: &mut Tx<'_>,
        saga_id: &SagaId,
        why: &str,
        now: Timestamp,
    ) -> std::result::Result<(), VerbError> {
        let mut saga = table::find(tx, saga_id)?.ok_or(VerbError::NotFound)?;
        match saga.status {
            SagaStatus::Abandoned => return Ok(()),
            SagaStatus::NeedsAttention => {}
            status => return Err(VerbError::Status(status.name(), "abandoned")),
        }
        Self::supersede(tx, &mut saga, why, now)?;
        let Some(device) = saga.device_id else { return Ok(()) };
        match device::newest_saga(tx, device)? {
            Some(newest) if newest != *saga_id => Self::nudge(tx, &newest, now)?,
            _ => apply::left_alone(self, tx, device, now)?,
        }
        Ok(())
    }
}
