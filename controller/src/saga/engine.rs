//! One transition of one saga: a synchronous function over a transaction.
//!
//! ```text
//!            Done ─▶ next step … last step ─▶ COMPLETED
//!  RUNNING ──Wait ─▶ stays; an event, the timer or an operator wakes it
//!            Retry ─▶ pause 1, 2, 4 s, then again; after the last one ─┐
//!            Failed, deadline, cancelled ─────────────────────────────┴▶ turns round
//!  COMPENSATING: the step in flight first, then backwards ─▶ COMPENSATED
//!  what cannot be decided: NEEDS_ATTENTION, until an operator resumes or compensates
//! ```
//!
//! Each call runs one step function, so that each step is a commit of its own. An event
//! that completes a step also begins the next one, so that event, advance and next
//! command are rows of one commit. What others do to a saga is in `verbs`.

mod verbs;

pub use verbs::VerbError;

use super::definition::{Definition, OnFailure, Registry, StepContext, StepFunction, StepOutcome};
use crate::store::saga::{self as table, Cause, SagaEvent, SagaRow, SagaStatus};
use crate::store::{Notice, Result, SagaEnd, Tx, device};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::{DeviceId, SagaId};
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How sagas retry (`[saga]` of controller.toml).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Retries after the first attempt.
    pub retries: u32,
    /// Pause before the first retry; doubles with each.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 3, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    fn pause(&self, retry: u32) -> Duration {
        let factor = 2_u32.saturating_pow(retry.min(16));
        self.first_pause.saturating_mul(factor).min(self.longest_pause)
    }
}

/// What sagas are made of, and how they retry.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// The definitions.
    pub registry: Registry,
    /// Retries and pauses.
    pub retry: RetryPolicy,
}

/// Whether a saga can go on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another step can run now.
    Runnable,
    /// It waits, pauses, or has ended.
    Rests,
}

impl Engine {
    /// Starts a saga: it can run as soon as this transaction is committed.
    pub fn start(
        tx: &mut Tx<'_>,
        definition: &'static Definition,
        saga_id: SagaId,
        device_id: Option<DeviceId>,
        state: String,
        now: Timestamp,
    ) -> Result<()> {
        let mut saga = SagaRow {
            saga_id,
            saga_type: definition.saga_type.to_owned(),
            version: definition.version,
            status: SagaStatus::Running,
            resume_status: None,
            cause: None,
            failed_step: None,
            wait_reason: None,
            step_index: 0,
            current_step: definition.steps[0].name.to_owned(),
            state,
            retry_count: 0,
            error_message: None,
            device_id,
            event_count: 0,
            retry_at: None,
            timeout_at: definition.timeout.map(|timeout| now.after(timeout)),
            due_at: Some(now),
            started_at: now,
            updated_at: now,
            ended_at: None,
        };
        saga.event_count = 1;
        table::insert(tx, &saga)?;
        let event = SagaEvent {
            seq: 1,
            at: now,
            kind: "started".to_owned(),
            step: saga.current_step.clone(),
            detail: None,
        };
        table::insert_event(tx, &saga.saga_id, &event)?;
        tx.announce(Notice::SagaRunnable(saga.saga_id));
        Ok(())
    }

    /// Runs one step function of a saga, if there is one to run.
    pub fn advance(&self, tx: &mut Tx<'_>, saga_id: &SagaId, now: Timestamp) -> Result<Next> {
        let Some(saga) = table::find(tx, saga_id)? else { return Ok(Next::Rests) };
        self.advance_row(tx, saga, now)
    }

    /// Advances a saga because something it may wait for has happened, in the same
    /// transaction. A step that this completes is followed by the beginning of the next.
    ///
    /// A step that cannot be run stops its saga for an operator and nothing else: what has
    /// happened is true all the same, and stays part of the transaction.
    pub fn wake(&self, tx: &mut Tx<'_>, saga_id: &SagaId, now: Timestamp) -> Result<()> {
        let Some(saga) = table::find(tx, saga_id)? else { return Ok(()) };
        let step = saga.step_index;
        let status = saga.status;
        if self.advance_apart(tx, saga, now)? == Next::Rests {
            return Ok(());
        }
        let Some(saga) = table::find(tx, saga_id)? else { return Ok(()) };
        if (saga.step_index, saga.status) != (step, status)
            && self.advance_apart(tx, saga, now)? == Next::Rests
        {
            return Ok(());
        }
        tx.announce(Notice::SagaRunnable(saga_id.clone()));
        Ok(())
    }

    /// One transition, of which nothing stands if its step cannot be run: the saga then stops.
    fn advance_apart(&self, tx: &mut Tx<'_>, saga: SagaRow, now: Timestamp) -> Result<Next> {
        let saga_id = saga.saga_id.clone();
        let advanced = tx.part(|tx| {
            catch_unwind(AssertUnwindSafe(|| self.advance_row(tx, saga, now)))
                .map_err(|panic| Broken::Panicked(panic_text(&*panic)))?
                .map_err(Broken::Sqlite)
        });
        match advanced {
            Ok(next) => Ok(next),
            Err(Broken::Sqlite(error)) if is_transient(&error) || tx.is_autocommit() => Err(error),
            Err(broken) => {
                Self::stop_for_attention(tx, &saga_id, &broken.to_string(), now)?;
                Ok(Next::Rests)
            }
        }
    }

    fn advance_row(&self, tx: &mut Tx<'_>, mut saga: SagaRow, now: Timestamp) -> Result<Next> {
        if saga.status.is_terminal() || saga.status == SagaStatus::NeedsAttention {
            return Ok(Next::Rests);
        }
        let Some(definition) = self.registry.of(&saga) else {
            let why = format!(
                "this program has no definition {} version {} with step {}; run the version that has it, or delete the device",
                saga.saga_type, saga.version, saga.step_index
            );
            return attention(tx, &mut saga, why, now);
        };
        if saga.status == SagaStatus::Running && saga.timeout_at.is_some_and(|at| at <= now) {
            let waited = saga.wait_reason.take().unwrap_or_else(|| saga.current_step.clone());
            let why = format!("the deadline passed while waiting for {waited}");
            return turn(tx, definition, &mut saga, Cause::Timeout, why, now);
        }
        if saga.retry_at.is_some_and(|at| at > now) {
            return Ok(Next::Rests);
        }
        let is_retry = saga.retry_at.take().is_some();
        let step = &definition.steps[saga.step_index as usize];
        let function = match saga.status {
            SagaStatus::Running => Some(step.execute),
            _ => step.compensate,
        };
        let outcome = match function {
            Some(function) => call(tx, function, &mut saga, now, is_retry)?,
            None => StepOutcome::Done,
        };
        match outcome {
            StepOutcome::Done => Self::step_done(tx, definition, &mut saga, now),
            StepOutcome::Wait(what) => self.wait(tx, &mut saga, what, None, now),
            StepOutcome::WaitUntil(what, until) => self.wait(tx, &mut saga, what, Some(until), now),
            StepOutcome::Retry(why) => self.step_failed(tx, definition, &mut saga, now, &why, true),
            StepOutcome::Failed(why) => self.step_failed(tx, definition, &mut saga, now, &why, false),
        }
    }

    fn step_done(
        tx: &mut Tx<'_>,
        definition: &'static Definition,
        saga: &mut SagaRow,
        now: Timestamp,
    ) -> Result<Next> {
        saga.retry_count = 0;
        saga.wait_reason = None;
        // A saga that is due stays due since then: its row in the index need not move.
        let was_due = saga.due_at.is_some_and(|at| at <= now);
        if !was_due {
            saga.due_at = Some(now);
        }
        let step = std::mem::take(&mut saga.current_step);
        if saga.status == SagaStatus::Running {
            if saga.step_index as usize + 1 == definition.steps.len() {
                saga.current_step = step;
                record(tx, saga, now, "done", None)?;
                return end(tx, definition, saga, SagaStatus::Completed, now);
            }
            saga.step_index += 1;
            let next = definition.steps[saga.step_index as usize].name;
            next.clone_into(&mut saga.current_step);
            record_step(tx, saga, now, "done", step, None)?;
        } else {
            if definition.steps[saga.step_index as usize].compensate.is_some() {
                tx.announce(Notice::SagaStep {
                    saga_type: definition.saga_type,
                    step: definition.steps[saga.step_index as usize].name,
                    compensated: true,
                });
            }
            if saga.step_index == 0 {
                saga.current_step = step;
                record(tx, saga, now, "compensated", None)?;
                return end(tx, definition, saga, SagaStatus::Compensated, now);
            }
            saga.step_index -= 1;
            let next = definition.steps[saga.step_index as usize].name;
            next.clone_into(&mut saga.current_step);
            record_step(tx, saga, now, "compensated", step, None)?;
        }
        saga.updated_at = now;
        if was_due {
            table::update_step(tx, saga)?;
        } else {
            table::update(tx, saga)?;
        }
        Ok(Next::Runnable)
    }

    fn step_failed(
        &self,
        tx: &mut Tx<'_>,
        definition: &'static Definition,
        saga: &mut SagaRow,
        now: Timestamp,
        why: &Reason,
        retryable: bool,
    ) -> Result<Next> {
        saga.error_message = Some(why.to_string());
        // The way back, and a saga that persists, are retried for as long as it takes.
        let persists = saga.status == SagaStatus::Compensating || definition.on_failure == OnFailure::Persist;
        if retryable && (persists || saga.retry_count < self.retry.retries) {
            let at = now.after(self.retry.pause(saga.retry_count));
            saga.retry_count += 1;
            saga.retry_at = Some(at);
            saga.wait_reason = Some("RETRY_PAUSE".to_owned());
            let deadline = saga.timeout_at.filter(|_| saga.status == SagaStatus::Running);
            saga.due_at = Some(deadline.map_or(at, |deadline| deadline.min(at)));
            tx.announce(Notice::SagaStep {
                saga_type: definition.saga_type,
                step: definition.steps[saga.step_index as usize].name,
                compensated: false,
            });
            if self.is_told(tx, saga, "retry", &why.to_string())? {
                return rest(tx, saga, now);
            }
            return finish(tx, saga, now, "retry", Some(why.to_string()));
        }
        if persists {
            return attention(tx, saga, why.to_string(), now);
        }
        turn(tx, definition, saga, Cause::Failed, why.to_string(), now)
    }

    /// Lets a saga wait, by name, for its deadline at most; `until` makes it look earlier.
    fn wait(
        &self,
        tx: &mut Tx<'_>,
        saga: &mut SagaRow,
        what: &'static str,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Next> {
        let waited = saga.wait_reason.as_deref() == Some(what);
        saga.wait_reason = Some(what.to_owned());
        let deadline = saga.timeout_at.filter(|_| saga.status == SagaStatus::Running);
        saga.due_at = deadline.into_iter().chain(until).min();
        if waited || self.is_told(tx, saga, "waits", what)? {
            return rest(tx, saga, now);
        }
        finish(tx, saga, now, "waits", Some(what.to_owned()))
    }

    /// Whether the end of its story says so already: what is retried for as long as it takes goes
    /// round in circles, and only the first rounds are written down.
    fn is_told(&self, tx: &Tx<'_>, saga: &SagaRow, kind: &str, detail: &str) -> Result<bool> {
        if saga.retry_count <= self.retry.retries {
            return Ok(false);
        }
        let last = table::events(tx, &saga.saga_id, saga.event_count.saturating_sub(2), 2)?;
        let circles = |line: &SagaEvent| {
            line.step == saga.current_step && matches!(line.kind.as_str(), "retry" | "waits")
        };
        let says = |line: &SagaEvent| line.kind == kind && line.detail.as_deref() == Some(detail);
        Ok(last.iter().all(circles) && last.iter().any(says))
    }

    /// Lets a saga look again, because something that it may wait for has happened outside
    /// of its own events. It is due from now on, so that no crash loses the wake. One that
    /// pauses looks after its pause anyway.
    pub fn nudge(tx: &mut Tx<'_>, saga_id: &SagaId, now: Timestamp) -> Result<()> {
        if planted(Mutant::ForgetNudge) {
            return Ok(());
        }
        if table::make_due(tx, saga_id, now)? {
            tx.announce(Notice::SagaRunnable(saga_id.clone()));
        }
        Ok(())
    }

    /// A step function panicked, or its rows cannot be read: the saga stops for an
    /// operator, and no other saga is held up.
    pub fn stop_for_attention(tx: &mut Tx<'_>, saga_id: &SagaId, why: &str, now: Timestamp) -> Result<()> {
        let Some(mut saga) = table::find(tx, saga_id)? else { return Ok(()) };
        if saga.status.is_terminal() || saga.status == SagaStatus::NeedsAttention {
            return Ok(());
        }
        attention(tx, &mut saga, why.to_owned(), now).map(|_| ())
    }
}

/// Why a saga could not be advanced.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Sqlite(#[from] phonefleet_store::rusqlite::Error),
    #[error("a step panicked: {0}")]
    Panicked(String),
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".to_owned())
}

/// Whether SQLite may do later what it refuses now.
pub(super) fn is_transient(error: &phonefleet_store::rusqlite::Error) -> bool {
    use phonefleet_store::rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::SystemIoFailure
        )
    )
}

fn call(
    tx: &mut Tx<'_>,
    function: StepFunction,
    saga: &mut SagaRow,
    now: Timestamp,
    is_retry: bool,
) -> Result<StepOutcome> {
    function(&mut StepContext { tx, now, saga, is_retry })
}

/// Turns a running saga round, or ends it where nothing can be undone.
fn turn(
    tx: &mut Tx<'_>,
    definition: &'static Definition,
    saga: &mut SagaRow,
    cause: Cause,
    why: String,
    now: Timestamp,
) -> Result<Next> {
    saga.cause = Some(cause);
    if cause != Cause::Cancelled {
        saga.failed_step = Some(saga.current_step.clone());
    }
    saga.error_message = Some(why.clone());
    saga.retry_count = 0;
    saga.retry_at = None;
    saga.wait_reason = None;
    if !definition.can_compensate() {
        record(tx, saga, now, "failed", Some(why))?;
        let status = if cause == Cause::Timeout { SagaStatus::Timeout } else { SagaStatus::Failed };
        return end(tx, definition, saga, status, now);
    }
    saga.status = SagaStatus::Compensating;
    if planted(Mutant::SkipStepInFlight) {
        if saga.step_index == 0 {
            return end(tx, definition, saga, SagaStatus::Compensated, now);
        }
        saga.step_index -= 1;
        definition.steps[saga.step_index as usize].name.clone_into(&mut saga.current_step);
    }
    saga.due_at = Some(now);
    finish(tx, saga, now, "turned", Some(format!("{}: {why}", cause.name())))?;
    Ok(Next::Runnable)
}

fn end(
    tx: &mut Tx<'_>,
    definition: &'static Definition,
    saga: &mut SagaRow,
    status: SagaStatus,
    now: Timestamp,
) -> Result<Next> {
    saga.status = status;
    saga.ended_at = Some(now);
    saga.due_at = None;
    saga.retry_at = None;
    saga.wait_reason = None;
    (definition.at_end)(&mut StepContext { tx, now, saga, is_retry: false })?;
    let result = match (status, saga.cause) {
        (SagaStatus::Completed, _) => "completed",
        (_, Some(Cause::Timeout)) => "timeout",
        (_, Some(Cause::Cancelled)) => "cancelled",
        _ => "failed",
    };
    announce_end(tx, saga, result, now);
    finish(tx, saga, now, "ended", Some(status.name().to_owned()))
}

fn announce_end(tx: &mut Tx<'_>, saga: &SagaRow, result: &'static str, now: Timestamp) {
    let duration_ms = u64::try_from(now.since(saga.started_at).as_millis()).unwrap_or(u64::MAX);
    tx.announce(Notice::SagaEnded(Box::new(SagaEnd {
        saga_type: saga.saga_type.clone(),
        result,
        duration_ms,
    })));
}

/// Stops a saga for an operator. A deletion that waits for it goes on without it.
fn attention(tx: &mut Tx<'_>, saga: &mut SagaRow, why: String, now: Timestamp) -> Result<Next> {
    tracing::error!(saga = %saga.saga_id, step = saga.current_step, why, "saga needs attention");
    saga.resume_status = Some(saga.status);
    saga.status = SagaStatus::NeedsAttention;
    saga.error_message = Some(why.clone());
    saga.wait_reason = Some("OPERATOR".to_owned());
    saga.retry_at = None;
    saga.due_at = None;
    if let Some(device) = saga.device_id
        && let Some(newest) = device::newest_saga(tx, device)?
        && newest != saga.saga_id
    {
        Engine::nudge(tx, &newest, now)?;
    }
    finish(tx, saga, now, "attention", Some(why))
}

/// Writes the saga back, without a line in its story.
fn rest(tx: &mut Tx<'_>, saga: &mut SagaRow, now: Timestamp) -> Result<Next> {
    saga.updated_at = now;
    table::update(tx, saga)?;
    announce_due(tx, saga);
    Ok(Next::Rests)
}

/// Records what happened and writes the saga back.
fn finish(
    tx: &mut Tx<'_>,
    saga: &mut SagaRow,
    now: Timestamp,
    kind: &'static str,
    detail: Option<String>,
) -> Result<Next> {
    record(tx, saga, now, kind, detail)?;
    rest(tx, saga, now)
}

fn announce_due(tx: &mut Tx<'_>, saga: &SagaRow) {
    if let Some(at) = saga.due_at {
        tx.announce(Notice::SagaDue(at));
    }
}

fn record(
    tx: &mut Tx<'_>,
    saga: &mut SagaRow,
    now: Timestamp,
    kind: &'static str,
    detail: Option<String>,
) -> Result<()> {
    let step = saga.current_step.clone();
    record_step(tx, saga, now, kind, step, detail)
}

fn record_step(
    tx: &mut Tx<'_>,
    saga: &mut SagaRow,
    now: Timestamp,
    kind: &'static str,
    step: String,
    detail: Option<String>,
) -> Result<()> {
    saga.event_count += 1;
    let event = SagaEvent { seq: saga.event_count, at: now, kind: kind.to_owned(), step, detail };
    table::insert_event(tx, &saga.saga_id, &event)
}

#[cfg(test)]
mod tests;
