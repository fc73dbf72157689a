//! A writer thread that commits whatever has queued, and answers each caller after that.

use anyhow::{Result, anyhow};
use phonefleet_store::rusqlite::{self, Connection};
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// Jobs of one commit at most.
const MOST: usize = 1024;

type Work = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

struct Job {
    work: Work,
    done: oneshot::Sender<()>,
}

/// A handle to the thread, which ends with the last of them.
#[derive(Clone)]
pub struct GroupCommit {
    jobs: Sender<Job>,
}

impl GroupCommit {
    /// Starts the thread on a connection.
    pub fn start(connection: Connection) -> Self {
        let (jobs, queue) = channel();
        std::thread::spawn(move || {
            // Its callers are told by their answers, which are dropped with the queue.
            if let Err(error) = commit_all(&connection, &queue) {
                eprintln!("the ceiling's writer ended: {error}");
            }
        });
        Self { jobs }
    }

    /// Runs `work` in a transaction and returns after its commit.
    pub async fn write<F>(&self, work: F) -> Result<()>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        self.jobs
            .send(Job { work: Box::new(work), done })
            .map_err(|_| anyhow!("the ceiling's writer has ended"))?;
        Ok(answer.await?)
    }
}

fn commit_all(connection: &Connection, queue: &Receiver<Job>) -> rusqlite::Result<()> {
    let mut answers = Vec::with_capacity(MOST);
    while let Ok(first) = queue.recv() {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut next = Some(first);
        while let Some(job) = next {
            (job.work)(connection)?;
            answers.push(job.done);
            next = if answers.len() < MOST { queue.try_recv().ok() } else { None };
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        // A caller that went away has no use for it.
        answers.drain(..).for_each(|answer| _ = answer.send(()));
    }
    Ok(())
}
