//! One write job: how it runs, and what its caller is told.

use crate::queue::QUEUE_JOBS;
use crate::transaction::Tx;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// Why a write did not happen, or is not known to have happened.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The job itself said no; nothing of it stands. The caller fixes its request.
    #[error(transparent)]
    Refused(E),
    /// The queue is full. Retry in a moment.
    #[error("the database has {QUEUE_JOBS} writes waiting; try again in a moment")]
    Busy,
    /// The job panicked; nothing of it stands. A bug: give up.
    #[error("a database job panicked: {0}")]
    Panicked(String),
    /// SQLite could not run it, or rolled its batch back; nothing of it stands. Retry later.
    #[error("the database cannot write now: {0}")]
    Unavailable(String),
    /// The commit failed: it may or may not stand. The daemon must start again.
    #[error("a commit failed and its outcome is unknown: {0}")]
    Unknown(String),
    /// The store has stopped: after such a failure, because its file was removed, or because the
    /// daemon ends.
    #[error("the database is closed")]
    Closed,
}

/// A queued job whose types are hidden from the writer.
pub(crate) trait Job<N>: Send {
    /// Runs once, or again after a rollback. `true` when it succeeded.
    fn run(&mut self, tx: &mut Tx<'_, N>) -> bool;
    /// Its work is committed, or it refused: tell the caller.
    fn answer(self: Box<Self>);
    /// Its work does not stand, or is not known to.
    fn fail(self: Box<Self>, failure: &Failure);
}

#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Unavailable(String),
    Unknown(String),
    /// Where it would be written, nobody would find it.
    Lost,
}

impl<E> From<&Failure> for WriteError<E> {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Unavailable(why) => Self::Unavailable(why.clone()),
            Failure::Unknown(why) => Self::Unknown(why.clone()),
            Failure::Lost => Self::Closed,
        }
    }
}

/// A job, and where its caller waits.
struct TypedJob<F, T, E> {
    job: F,
    result: Option<Result<T, WriteError<E>>>,
    answer: oneshot::Sender<Result<T, WriteError<E>>>,
}

/// What a caller awaits.
pub(crate) type Answer<T, E> = oneshot::Receiver<Result<T, WriteError<E>>>;

/// Hides the types of a job from the writer.
pub(crate) fn queued<N, F, T, E>(job: F) -> (Box<dyn Job<N>>, Answer<T, E>)
where
    F: FnMut(&mut Tx<'_, N>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let (answer, result) = oneshot::channel();
    (Box::new(TypedJob { job, result: None, answer }), result)
}

impl<N, F, T, E> Job<N> for TypedJob<F, T, E>
where
    F: FnMut(&mut Tx<'_, N>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, tx: &mut Tx<'_, N>) -> bool {
        let result = match catch_unwind(AssertUnwindSafe(|| (self.job)(tx))) {
            Ok(result) => result.map_err(WriteError::Refused),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned());
                Err(WriteError::Panicked(text.unwrap_or_else(|| "without a text".to_owned())))
            }
        };
        let fine = result.is_ok();
        self.result = Some(result);
        fine
    }

    fn answer(self: Box<Self>) {
        // A caller that went away (a cut connection, a crash in a simulation) has no use for it.
        let _ = self.answer.send(self.result.unwrap_or(Err(WriteError::Closed)));
    }

    fn fail(self: Box<Self>, failure: &Failure) {
        let _ = self.answer.send(match self.result {
            // It had refused by itself: that stands whatever became of the batch.
            Some(Err(refusal)) => Err(refusal),
            _ => Err(failure.into()),
        });
    }
}
