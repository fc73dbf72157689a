//! The writer: group commit, savepoints, and the rules for errors.
//!
//! * The batch is whatever queues while the last commit and the batch itself run: no timer.
//!   It is capped at [`BATCH_JOBS`] jobs and [`BATCH_TIME`].
//! * A job that fails undoes itself only. Savepoints would do that, and copy every page that
//!   every job touches; so a batch begins without them. When a job fails that has written
//!   something, the batch is rolled back and the others are run again, now each with a
//!   savepoint. A job that refuses before it writes disturbs nobody.
//! * `SQLITE_FULL`, `IOERR` and `NOMEM` may roll back the whole batch. After each error the
//!   writer looks whether a transaction still stands; if not, the other jobs are run again.
//! * A `COMMIT` that a full disk refuses gives the ballast up and is tried again, once.
//! * A `COMMIT` that fails otherwise is unknown. Nobody is told "done", the store stops, and the
//!   daemon has to start again from the disk.
//! * A job that panics is an error of that job.

use crate::ballast::Ballast;
use crate::connection::execute;
use crate::damage::Place;
use crate::job::{Failure, Job};
use crate::queue::Queue;
use crate::tail::Tails;
use crate::transaction::Tx;
use phonefleet_protocol::mutant::{Mutant, planted};
use rusqlite::{Connection, ErrorCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Jobs in one commit at most: beyond some hundred the gain is nil and the wait grows.
pub const BATCH_JOBS: usize = 512;
/// Time that jobs of one batch may take together before it is committed.
pub const BATCH_TIME: Duration = Duration::from_millis(5);

/// Takes another job from the queue, if one waits.
pub(crate) type More<'a, N> = &'a mut dyn FnMut() -> Option<Box<dyn Job<N>>>;
/// What the daemon does with the notices of a commit.
pub(crate) type OnCommit<N> = Arc<dyn Fn(Vec<N>) + Send + Sync>;

/// Owns the one connection that writes.
pub(crate) struct Writer<N> {
    pub connection: Connection,
    pub on_commit: OnCommit<N>,
    /// Of the batch that runs.
    pub notices: Vec<N>,
    pub tails: Tails,
    /// None in simulations.
    pub ballast: Option<Arc<Ballast>>,
    /// None in simulations.
    pub place: Option<Place>,
}

impl<N> Writer<N> {
    /// Runs what is queued until nothing more can come, or a commit is unknown.
    pub fn run(&mut self, queue: &mut Queue<N>) {
        while let Some(first) = queue.wait() {
            if !self.commit_batch(vec![first], &mut || queue.next()) {
                tracing::error!("the database writer stops; the daemon has to start again from the disk");
                return;
            }
        }
    }

    /// Commits all of `batch` and what `more` brings meanwhile, in several commits if it
    /// takes long. `false`: stop.
    pub fn commit_batch(&mut self, mut batch: Vec<Box<dyn Job<N>>>, more: More<'_, N>) -> bool {
        let mut guarded = false;
        while !batch.is_empty() {
            match self.commit_some(&mut batch, more, &mut guarded) {
                Commit::Stands => {}
                Commit::Unknown => return false,
            }
        }
        true
    }

    /// `guarded`: each job gets a savepoint, because one of this batch has failed before.
    fn commit_some(
        &mut self,
        batch: &mut Vec<Box<dyn Job<N>>>,
        more: More<'_, N>,
        guarded: &mut bool,
    ) -> Commit {
        if let Some(place) = self.place.as_ref().filter(|place| place.is_lost()) {
            tracing::error!(database = %place.path().display(), "the database's file was removed or replaced under this daemon");
            batch.drain(..).for_each(|job| job.fail(&Failure::Lost));
            return Commit::Unknown;
        }
        if let Err(error) = execute(&self.connection, "BEGIN IMMEDIATE") {
            let failure = Failure::Unavailable(error.to_string());
            tracing::warn!(%error, "the database refused to begin a write");
            batch.drain(..).for_each(|job| job.fail(&failure));
            return Commit::Stands;
        }
        self.notices.clear();
        self.tails.forget();
        let began = Instant::now();
        let mut ran = 0;
        while ran < BATCH_JOBS && (ran == 0 || began.elapsed() < BATCH_TIME) {
            if ran == batch.len() {
                // What queued while the others ran comes along: whoever is answered at once
                // asks again at once, and would otherwise wait for a commit of its own.
                let Some(job) = more() else { break };
                batch.push(job);
            }
            let end = self.run_job(&mut *batch[ran], *guarded);
            if matches!(end, JobEnd::Fine) {
                ran += 1;
                continue;
            }
            let failed = batch.remove(ran);
            failed.fail(&Failure::Unavailable("the transaction was rolled back".to_owned()));
            match end {
                JobEnd::BatchUndone => {
                    *guarded = true;
                    return Commit::Stands;
                }
                JobEnd::BatchLost => {
                    // It may have been for want of room.
                    let _ = self.ballast.as_ref().is_some_and(|ballast| ballast.give_up_if_full());
                    tracing::warn!(
                        survivors = ran,
                        "the database rolled a batch back; running the others again"
                    );
                    return Commit::Stands;
                }
                JobEnd::Fine | JobEnd::Undone => {}
            }
        }
        let lost = planted(Mutant::LoseCommit) && self.connection.total_changes() % 23 == 7;
        if let Err(error) = execute(&self.connection, if lost { "ROLLBACK" } else { "COMMIT" }) {
            if error.sqlite_error_code() == Some(ErrorCode::DiskFull) && self.connection.is_autocommit() {
                // Known: the disk had no room for the frame that makes a commit of what is before
                // it in the log (the unix VFS writes none behind it), and SQLite has rolled back.
                if self.ballast.as_ref().is_some_and(|ballast| ballast.give_up()) {
                    return Commit::Stands; // for none of them: they run again
                }
                let failure = Failure::Unavailable(error.to_string());
                tracing::warn!(%error, "the disk is full: nothing can be written");
                batch.drain(..).for_each(|job| job.fail(&failure));
                return Commit::Stands;
            }
            let failure = Failure::Unknown(error.to_string());
            tracing::error!(%error, "a commit failed");
            batch.drain(..).for_each(|job| job.fail(&failure));
            return Commit::Unknown;
        }
        if !self.notices.is_empty() {
            (self.on_commit)(std::mem::take(&mut self.notices));
        }
        batch.drain(..ran).for_each(Job::answer);
        Commit::Stands
    }

    /// Runs one job. Whatever its end but [`JobEnd::Fine`], nothing of it stands.
    fn run_job(&mut self, job: &mut dyn Job<N>, guarded: bool) -> JobEnd {
        let mark = self.notices.len();
        if guarded && execute(&self.connection, "SAVEPOINT job").is_err() {
            // Only NOMEM or a lost transaction: let the job fail by itself in it.
            return if self.connection.is_autocommit() { JobEnd::BatchLost } else { JobEnd::Undone };
        }
        let changes = self.connection.total_changes();
        let fine = job.run(&mut Tx::new(&self.connection, &mut self.notices, &mut self.tails));
        if self.connection.is_autocommit() {
            self.notices.clear();
            return JobEnd::BatchLost;
        }
        if fine {
            if guarded {
                let _ = execute(&self.connection, "RELEASE job");
            }
            return JobEnd::Fine;
        }
        self.notices.truncate(mark);
        self.tails.forget();
        if self.connection.total_changes() != changes {
            if !guarded {
                let _ = execute(&self.connection, "ROLLBACK");
                return JobEnd::BatchUndone;
            }
            if execute(&self.connection, "ROLLBACK TO job").is_err() {
                let _ = execute(&self.connection, "ROLLBACK");
                return JobEnd::BatchLost;
            }
        }
        if guarded {
            let _ = execute(&self.connection, "RELEASE job");
        }
        JobEnd::Undone
    }
}

enum JobEnd {
    Fine,
    /// It failed, and the batch goes on without it.
    Undone,
    /// It failed after it had written: the batch was rolled back to undo it.
    BatchUndone,
    /// SQLite rolled the batch back.
    BatchLost,
}

enum Commit {
    Stands,
    Unknown,
}
