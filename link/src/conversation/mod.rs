//! The conversation with one peer: an actor that drives the stream's endpoint over the
//! store and the broker connection.
//!
//! ```text
//!   handle ──message()──▶ queue ─┐                        ┌─ Endpoint::handle, for all of a batch
//!          ──connected()─▶ watch ─┼─▶ wake up ─▶ write job ┤  Domain::apply for each item
//!          ──log_grew()──▶ flag  ─┤                        └─ cursor; commit
//!     own deadline (go back) ─────┘      └─▶ read job: Endpoint::poll ─▶ Transport::publish
//! ```
//!
//! Every round does all there is to do, whatever woke it, so that no source can starve
//! another and none is lost. The endpoint in memory is replaced only behind a commit:
//! after a failed write it is still what the disk says, the messages are forgotten,
//! and the peer sends them again.
//!
//! The acknowledged number is written along with other work, or after
//! `PERSIST_AFTER`: on its own it would cost one more fsync for each event at low load, and
//! it is only a head start, because the peer's hello tells the truth.

mod durable;
mod handle;
mod reapply;

use crate::domain::Domain;
use crate::transport::{Delivery, Outgoing, Transport};
pub use durable::begin_log;
use durable::{PeerTx, Tally};
pub use handle::{ConversationHandle, ConversationStatus};
use handle::{QUEUE_MESSAGES, Shared};
use phonefleet_protocol::id::IdSource;
use phonefleet_protocol::stream::message::Introduction;
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::stream::{Endpoint, Epoch, Message, Notice};
use phonefleet_protocol::time::Clock;
use phonefleet_store::stream_log::LogReader;
use phonefleet_store::{ReadError, Store, WriteError, rusqlite};
pub use reapply::reapply_known;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Items of one write job, but for the last message's: some 10 ms of the writer, in which
/// the jobs of other peers and of the API wait.
const JOB_ITEMS: usize = 1024;
/// Frames of one read job: half a megabyte in memory at most.
const READ_FRAMES: usize = 4;
/// First wait after the database failed; doubles up to [`BACK_OFF_MOST`].
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
/// Longest wait after the database failed.
const BACK_OFF_MOST: Duration = Duration::from_secs(5);
/// When an acknowledgement is written at the latest.
const PERSIST_AFTER: Duration = Duration::from_secs(10);
/// When a transport that refused a message while it was said to stand is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Shortest time between two lines about malformed messages.
const COMPLAIN_AFTER: Duration = Duration::from_secs(10);

type Failure = WriteError<rusqlite::Error>;

/// Who talks with whom.
#[derive(Clone, Debug)]
pub struct ConversationOptions {
    /// The peer: the own log's name, and the inbox's.
    pub peer: String,
    /// The topic that the peer listens to.
    pub send_topic: String,
    /// What hellos say of this end.
    pub introduction: Introduction,
    /// How the own log answers a peer that was restored.
    pub regression: Regression,
}

/// Why a conversation ended before its handles did. The daemon must start again.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The store is closed.
    #[error("the conversation with {peer} ends: the database is closed")]
    Closed {
        /// The peer.
        peer: String,
    },
    /// A commit failed; nobody knows whether it stands.
    #[error("the conversation with {peer} ends: a commit failed and its outcome is unknown: {why}")]
    Unknown {
        /// The peer.
        peer: String,
        /// What the store says.
        why: String,
    },
}

/// The actor of one peer.
pub struct Conversation<N, D> {
    options: ConversationOptions,
    peer: Arc<str>,
    store: Store<N>,
    domain: Arc<D>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    queue: mpsc::Receiver<Vec<u8>>,
    connection: watch::Receiver<handle::Connection>,
    shared: Arc<Shared>,
    /// The endpoint's time counts from here.
    origin: Instant,
    endpoint: Endpoint,
    /// The state of the connection that the endpoint was told.
    followed: handle::Connection,
    /// The endpoint is connected.
    linked: bool,
    retry_at: Option<Instant>,
    /// The acknowledged number in the database.
    persisted: u64,
    persist_at: Option<Instant>,
    back_off: Duration,
    complained_at: Option<Instant>,
}

/// What ended a wait.
enum Woken {
    Message(Vec<u8>),
    Something,
    /// Nobody holds a handle any more.
    Ended,
}

/// What a job of [`Conversation::handle`] brings back.
struct Handled {
    endpoint: Endpoint,
    notices: Vec<Notice>,
    tally: Tally,
    persisted: u64,
}

impl<N: Send + 'static, D: Domain<N>> Conversation<N, D> {
    /// A conversation that does nothing before [`Self::run`].
    pub fn new(
        options: ConversationOptions,
        store: Store<N>,
        domain: Arc<D>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> (Self, ConversationHandle) {
        let (messages, queue) = mpsc::channel(QUEUE_MESSAGES);
        let (changes, connection) = watch::channel(handle::Connection::default());
        let shared = Arc::new(Shared::default());
        let handle = ConversationHandle { messages, connection: changes, shared: Arc::clone(&shared) };
        let conversation = Self {
            peer: options.peer.as_str().into(),
            endpoint: Endpoint::new(options.introduction.clone(), options.regression, 0),
            options,
            store,
            domain,
            transport,
            clock,
            ids,
            queue,
            connection,
            shared,
            origin: Instant::now(),
            followed: handle::Connection::default(),
            linked: false,
            retry_at: None,
            persisted: 0,
            persist_at: None,
            back_off: BACK_OFF_FIRST,
            complained_at: None,
        };
        (conversation, handle)
    }

    /// Runs until every handle is dropped, or the store is closed.
    pub async fn run(mut self) -> Result<(), ConversationError> {
        while let Err(failure) = self.load().await {
            self.stumble(failure).await?;
            if self.connection.has_changed().is_err() {
                return Ok(());
            }
        }
        let mut first = None;
        loop {
            self.follow();
            let batch = self.take_batch(first.take());
            if !batch.is_empty() {
                self.handle(batch).await?;
            }
            self.persist_when_due().await?;
            self.drain().await?;
            self.show();
            match self.wait().await {
                Woken::Message(payload) => first = Some(payload),
                Woken::Something => {}
                Woken::Ended => break,
            }
        }
        self.persist_at = self.persist_at.map(|_| Instant::now());
        // Only a head start: that it fails now is no reason to end with an error.
        let _ = self.persist_when_due().await;
        Ok(())
    }

    /// Makes the endpoint from the database, and begins the own log if there is none.
    async fn load(&mut self) -> Result<(), Failure> {
        let (domain, peer) = (Arc::clone(&self.domain), Arc::clone(&self.peer));
        let (introduction, regression) = (self.options.introduction.clone(), self.options.regression);
        let (now, seed) = (self.clock.now(), self.ids.random());
        let job = move |tx: &mut phonefleet_store::Tx<'_, N>| {
            begin_log(tx, &*domain, &peer, Epoch(seed), now)?;
            let mut durable =
                PeerTx { tx, domain: &*domain, peer: &peer, now, seed, tally: Tally::default() };
            let acknowledged = D::LOG.acknowledged(durable.tx, &peer)?;
            let mut endpoint = Endpoint::new(introduction.clone(), regression, acknowledged);
            endpoint.load(&mut durable)?;
            Ok(endpoint)
        };
        self.endpoint = self.store.write(job).await?;
        self.persisted = self.endpoint.acknowledged();
        Ok(())
    }

    /// Tells the endpoint what the handles said meanwhile.
    fn follow(&mut self) {
        if let Some(introduction) = self.shared.take_introduction() {
            self.endpoint.introduce(introduction);
        }
        if self.shared.grew.swap(false, Ordering::AcqRel) {
            self.endpoint.log_grew();
        }
        let connection = *self.connection.borrow_and_update();
        let retry = self.retry_at.is_some_and(|at| at <= Instant::now());
        if !connection.up {
            self.unlink();
            self.retry_at = None;
        } else if connection.number != self.followed.number || retry {
            self.endpoint.connected(self.origin.elapsed(), self.ids.random());
            self.linked = true;
            self.retry_at = None;
        }
        self.followed = connection;
    }

    fn unlink(&mut self) {
        self.endpoint.disconnected();
        self.linked = false;
    }

    /// Everything that has arrived, within the limits of one job.
    fn take_batch(&mut self, first: Option<Vec<u8>>) -> Vec<Message> {
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

    /// Counts a payload that is no message. One line each ten seconds: whoever can publish
    /// here must not fill the disk with logs.
    fn complain(&mut self, bytes: usize, error: &str) {
        let malformed = self.shared.malformed.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.fail(format!("a message of {bytes} bytes was ignored: {error}"));
        let now = Instant::now();
        if self.complained_at.is_none_or(|at| now >= at + COMPLAIN_AFTER) {
            self.complained_at = Some(now);
            tracing::warn!(peer = %self.peer, bytes, error, malformed, "ignored a malformed message");
        }
    }

    /// One transaction for all of a batch.
    async fn handle(&mut self, batch: Vec<Message>) -> Result<(), ConversationError> {
        let (domain, peer) = (Arc::clone(&self.domain), Arc::clone(&self.peer));
        let (now, seed, elapsed) = (self.clock.now(), self.ids.random(), self.origin.elapsed());
        let (origin, persisted) = (self.endpoint.clone(), self.persisted);
        let job = move |tx: &mut phonefleet_store::Tx<'_, N>| {
            // The job may run again: each run begins with the endpoint as it was.
            let mut endpoint = origin.clone();
            let mut notices = Vec::new();
            let mut durable =
                PeerTx { tx, domain: &*domain, peer: &peer, now, seed, tally: Tally::default() };
            for message in &batch {
                notices.extend(endpoint.handle(elapsed, message, &mut durable)?);
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
                self.shared.fail(format!("the peer is refused: {why}"));
            }
            self.domain.notice(&self.peer, notice);
        }
    }

    /// Sends all that may be sent.
    async fn drain(&mut self) -> Result<(), ConversationError> {
        while self.linked {
            let (mut endpoint, peer) = (self.endpoint.clone(), Arc::clone(&self.peer));
            let elapsed = self.origin.elapsed();
            let job = move |connection: &rusqlite::Connection| {
                let mut log = LogReader { connection, table: D::LOG, log: &peer };
                let mut payloads = Vec::new();
                while payloads.len() < READ_FRAMES {
                    let Some(message) = endpoint.poll(elapsed, &mut log)? else { break };
                    payloads.push(message.encode().map_err(unwritable)?);
                }
                Ok((endpoint, payloads))
            };
            let payloads = match self.store.read(job).await {
                Ok((endpoint, payloads)) => {
                    self.endpoint = endpoint;
                    payloads
                }
                Err(error) => return self.stumble_reading(error).await,
            };
            let last = payloads.len() < READ_FRAMES;
            for payload in payloads {
                if !self.publish(payload).await {
                    return Ok(());
                }
            }
            if last {
                break;
            }
        }
        Ok(())
    }

    /// Hands one message to the transport. `false`: stop, the connection is another one,
    /// or none, or nobody holds a handle; what was not sent is sent again.
    async fn publish(&mut self, payload: Vec<u8>) -> bool {
        let topic = self.options.send_topic.clone();
        let message = Outgoing { topic, payload, delivery: Delivery::AtLeastOnce };
        tokio::select! {
            biased;
            _ = self.connection.changed() => false,
            sent = self.transport.publish(message) => {
                if sent.is_err() {
                    // Mostly ahead of the news that it is gone. Should that never come, the
                    // connection is tried as a new one.
                    self.unlink();
                    self.retry_at = Some(Instant::now() + RETRY_AFTER);
                }
                sent.is_ok()
            }
        }
    }

    async fn persist_when_due(&mut self) -> Result<(), ConversationError> {
        if self.persist_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let (peer, acknowledged) = (Arc::clone(&self.peer), self.endpoint.acknowledged());
        let job =
            move |tx: &mut phonefleet_store::Tx<'_, N>| D::LOG.set_acknowledged(tx, &peer, acknowledged);
        match self.store.write(job).await {
            Ok(()) => (self.persisted, self.persist_at) = (acknowledged, None),
            Err(failure) => self.stumble(failure).await?,
        }
        Ok(())
    }

    /// After a failed write: nothing of it stands, so the endpoint is still right. Waits a
    /// little, or ends when the store has.
    async fn stumble(&mut self, failure: Failure) -> Result<(), ConversationError> {
        let peer = || self.peer.to_string();
        match failure {
            WriteError::Closed => Err(ConversationError::Closed { peer: peer() }),
            WriteError::Unknown(why) => Err(ConversationError::Unknown { peer: peer(), why }),
            passing => {
                self.pause(&passing.to_string()).await;
                Ok(())
            }
        }
    }

    async fn stumble_reading(&mut self, error: ReadError) -> Result<(), ConversationError> {
        self.pause(&error.to_string()).await;
        if matches!(error, ReadError::Closed) {
            // Closed, or the job panicked: the writer knows which.
            let probe = self.store.write(|_: &mut phonefleet_store::Tx<'_, N>| Ok(())).await;
            if let Err(failure) = probe {
                return self.stumble(failure).await;
            }
        }
        Ok(())
    }

    /// Waits before the database is asked again; less when nobody holds a handle any more.
    async fn pause(&mut self, why: &str) {
        tracing::warn!(
            peer = %self.peer,
            why,
            wait_ms = self.back_off.as_millis() as u64,
            "the database failed; the peer's messages are dropped until it works again"
        );
        self.shared.fail(why.to_owned());
        let wait = self.back_off;
        self.back_off = (wait * 2).min(BACK_OFF_MOST);
        // The next round looks at what changed; see `wait`.
        let ended = async { while self.connection.changed().await.is_ok() {} };
        let _ = timeout(wait, ended).await;
    }

    fn show(&self) {
        self.shared.open.store(self.linked && self.endpoint.is_open(), Ordering::Relaxed);
        self.shared.acknowledged.store(self.endpoint.acknowledged(), Ordering::Relaxed);
    }

    async fn wait(&mut self) -> Woken {
        // A change may have been seen by a wait inside of this round.
        if *self.connection.borrow() != self.followed {
            return Woken::Something;
        }
        // A deadline that was not met, as after a failed read, does not spin.
        let soonest = Instant::now() + Duration::from_millis(1);
        let endpoint = self.endpoint.deadline().map(|at| (self.origin + at).max(soonest));
        let deadline = [endpoint, self.persist_at, self.retry_at].into_iter().flatten().min();
        let timer = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.connection.changed() => match changed {
                Ok(()) => Woken::Something,
                Err(_) => Woken::Ended,
            },
            message = self.queue.recv() => message.map_or(Woken::Ended, Woken::Message),
            () = self.shared.wake.notified() => Woken::Something,
            () = timer => Woken::Something,
        }
    }
}

fn unwritable(error: phonefleet_protocol::stream::message::MessageError) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}
