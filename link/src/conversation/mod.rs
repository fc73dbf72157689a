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
//! 10 s: on its own it would cost one more fsync for each event at low load, and
//! it is only a head start, because the peer's hello tells the truth.

mod durable;
mod failure;
mod handle;
mod reapply;
mod receiving;
mod sending;

use crate::domain::Domain;
use crate::transport::Transport;
pub use durable::begin_log;
use durable::{PeerTx, Tally};
pub use failure::ConversationError;
use failure::{BACK_OFF_FIRST, Failure};
pub use handle::{ConversationHandle, ConversationStatus};
use handle::{QUEUE_MESSAGES, Shared};
use phonefleet_protocol::id::IdSource;
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::stream::message::Introduction;
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::stream::{Endpoint, Epoch};
use phonefleet_protocol::time::Clock;
use phonefleet_store::{Store, Tx};
pub use reapply::reapply_known;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

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
    refused_at: Option<Instant>,
}

/// What ended a wait.
enum Woken {
    Message(Vec<u8>),
    Something,
    /// Nobody holds a handle any more.
    Ended,
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
            refused_at: None,
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
        let job = move |tx: &mut Tx<'_, N>| {
            begin_log(tx, &*domain, &peer, Epoch(seed), now)?;
            if planted(Mutant::LoseCursor) {
                tx.execute("DELETE FROM inbox_cursor", [])?;
            }
            let mut durable = PeerTx {
                tx,
                domain: &*domain,
                peer: &peer,
                now,
                seed,
                tally: Tally::default(),
                guarded: true,
                spoilt: false,
            };
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
