//! From the queue to the database: one transaction for all that has arrived.

use super::durable::{PeerTx, Tally};
use super::failure::BACK_OFF_FIRST;
use super::handle::QUEUE_MESSAGES;
use super::{Conversation, ConversationError, Domain};
use phonefleet_protocol::stream::{Endpoint, Message, Notice};
use phonefleet_store::{Tx, rusqlite};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Items of one write job, but for the last message's: some 10 ms of the writer, in which
/// the jobs of other peers and of the API wait.
const JOB_ITEMS: usize = 1024;
/// When an acknowledgement is written at the latest.
const PERSIST_AFTER: Duration = Duration::from_secs(10);
/// Shortest time between two lines about malformed messages, or about refused hellos:
/// whoever can publish here must not fill the disk with logs.
const COMPLAIN_AFTER: Duration = Duration::from_secs(10);

/// What a job of [`Conversation::handle`] brings back.
struct Handled {
    endpoint: Endpoint,
    notices: Vec<Notice>,
    tally: Tally,
    persisted: u64,
}

/// Why a run of such a job came to nothing.
enum Failed {
    /// An item has to be undone by itself: run again, with savepoints.
    Spoilt,
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl<N: Send + 'static, D: Domain<N>> Conversation<N, D> {
    /// Everything that has arrived, within the limits of one job.
    pub(super) fn take_batch(&mut self, first: Option<Vec<u8>>) -> Vec<Message> {
        let (mut batch, mut items) = (Vec::new(), 0);
        let mut next = first.or_else(|| self.queue.try_recv().ok());
        let mut taken = 0;
        while let Some(payload) = next {
            taken += 1;
            match Message::decode(&payload) {
                Ok(message) => {
                    if let Message::Frame(frame) = &message {
                        items += frame.items.len();
                    }
                    batch.push(message);
                }
                Err(error) => self.complain(payload.len(), &error.to_string()),
            }
            let full = taken >= QUEUE_MESSAGES || items >= JOB_ITEMS;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        if !batch.is_empty() && !self.linked {
            // Late, of a connection that is gone; the endpoint would ignore them one by one.
            batch.clear();
        }
        batch
    }

    /// Counts a payload that is no message.
    fn complain(&mut self, bytes: usize, error: &str) {
        let malformed = self.shared.malformed.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.fail(format!("a message of {bytes} bytes was ignored: {error}"));
        if due(&mut self.complained_at) {
            tracing::warn!(peer = %self.peer, bytes, error, malformed, "ignored a malformed message");
        }
    }

    /// One transaction for all of a batch.
    pub(super) async fn handle(&mut self, batch: Vec<Message>) -> Result<(), ConversationError> {
        let (domain, peer) = (Arc::clone(&self.domain), Arc::clone(&self.peer));
        let (now, seed, elapsed) = (self.clock.now(), self.ids.random(), self.origin.elapsed());
        let (origin, persisted) = (self.endpoint.clone(), self.persisted);
        let attempt = move |tx: &mut Tx<'_, N>, guarded: bool| {
            // The job may run again: each run begins with the endpoint as it was.
            let mut endpoint = origin.clone();
            let mut notices = Vec::new();
            let tally = Tally::default();
            let mut durable =
                PeerTx { tx, domain: &*domain, peer: &peer, now, seed, tally, guarded, spoilt: false };
            for message in &batch {
                match endpoint.handle(elapsed, message, &mut durable) {
                    Ok(more) => notices.extend(more),
                    Err(_) if durable.spoilt => return Err(Failed::Spoilt),
                    Err(error) => return Err(Failed::Database(error)),
                }
            }
            let PeerTx { tx, tally, .. } = durable;
            let mut persisted = if tally.forked { 0 } else { persisted };
            let acknowledged = endpoint.acknowledged();
            // A number that went back is written at once: retention goes by it.
            if acknowledged != persisted && (tally.wrote || acknowledged < persisted) {
                D::LOG.set_acknowledged(tx, &peer, acknowledged)?;
                persisted = acknowledged;
            }
            Ok(Handled { endpoint, notices, tally, persisted })
        };
        let job = move |tx: &mut Tx<'_, N>| {
            let tried = match tx.part(|tx| attempt(tx, false)) {
                // Not where SQLite has rolled back: each statement would be a commit of its own.
                Err(Failed::Spoilt) if !tx.is_autocommit() => attempt(tx, true),
                tried => tried,
            };
            tried.map_err(|failed| match failed {
                Failed::Database(error) => error,
                // Nothing of it stands; the peer sends it again.
                Failed::Spoilt => rusqlite::Error::InvalidQuery,
            })
        };
        match self.store.write(job).await {
            Ok(handled) => self.committed(handled),
            Err(failure) => self.stumble(failure).await?,
        }
        Ok(())
    }

    fn committed(&mut self, handled: Handled) {
        let Handled { endpoint, notices, tally, persisted } = handled;
        self.endpoint = endpoint;
        self.back_off = BACK_OFF_FIRST;
        self.persisted = persisted;
        self.persist_at = match self.persist_at {
            _ if self.endpoint.acknowledged() == persisted => None,
            None => Some(Instant::now() + PERSIST_AFTER),
            due => due,
        };
        self.shared.refused.fetch_add(tally.refused, Ordering::Relaxed);
        self.shared.unknown.fetch_add(tally.unknown, Ordering::Relaxed);
        for refusal in &tally.refusals {
            tracing::warn!(
                peer = %self.peer,
                number = refusal.number,
                kind = refusal.kind,
                reason = refusal.reason,
                "an item was refused and kept as a dead letter"
            );
        }
        if let Some(refusal) = tally.refusals.last() {
            self.shared.fail(format!("item {} was refused: {}", refusal.number, refusal.reason));
        }
        if tally.unknown > 0 {
            tracing::warn!(
                peer = %self.peer,
                items = tally.unknown,
                "items of unknown kinds were kept; they are applied after an upgrade of this daemon"
            );
        }
        for notice in &notices {
            if let Notice::Refused(why) = notice {
                self.shared.unwelcome.fetch_add(1, Ordering::Relaxed);
                self.shared.fail(format!("the peer is refused: {why}"));
                if !due(&mut self.refused_at) {
                    continue;
                }
            }
            self.domain.notice(&self.peer, notice);
        }
    }

    /// Writes the acknowledged number when that was put off for long enough.
    pub(super) async fn persist_when_due(&mut self) -> Result<(), ConversationError> {
        if self.persist_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let (peer, acknowledged) = (Arc::clone(&self.peer), self.endpoint.acknowledged());
        let job = move |tx: &mut Tx<'_, N>| D::LOG.set_acknowledged(tx, &peer, acknowledged);
        match self.store.write(job).await {
            Ok(()) => (self.persisted, self.persist_at) = (acknowledged, None),
            Err(failure) => self.stumble(failure).await?,
        }
        Ok(())
    }
}

/// Whether it is time for another line, which is then taken as written.
fn due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = last.is_none_or(|at| now >= at + COMPLAIN_AFTER);
    if due {
        *last = Some(now);
    }
    due
}
