//! From the broker's messages to one conversation a host, and to the presence rows.
//!
//! ```text
//!   Incoming ─┬─ …/H/up ────────▶ conversation of H (made at the first valid hello)
//!             ├─ …/H/telemetry ─▶ newest heartbeat of each host ─▶ one write a second
//!             └─ …/H/presence ──▶ log line: a hint, nothing more
//! ```

use super::admission::{self, wake_waiting};
use super::domain::FleetDomain;
use crate::store::{Notice, Store, host};
use phonefleet_link::conversation::ConversationOptions;
use phonefleet_link::{Conversation, ConversationHandle, Incoming, Transport};
use phonefleet_protocol::host::{Heartbeat, Presence};
use phonefleet_protocol::id::{FleetId, HostId, IdSource};
use phonefleet_protocol::limits::ITEM_BYTES;
use phonefleet_protocol::stream::Message;
use phonefleet_protocol::stream::message::{Introduction, PROTOCOL};
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::time::Clock;
use phonefleet_protocol::topic::{self, Channel};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Hosts at most: a stranger on the broker must not fill the memory.
const MOST_HOSTS: usize = 20_000;
/// Strangers that are told one by one; the others are only counted.
const STRANGERS_TOLD: u64 = 1000;
/// Largest heartbeat: it is kept as it came.
const HEARTBEAT_BYTES: usize = ITEM_BYTES;
/// How often heartbeats are written.
const HEARTBEAT_FLUSH: Duration = Duration::from_secs(1);

/// The conversations by host, shared with whoever wakes them after a commit.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    conversations: Arc<Mutex<BTreeMap<HostId, ConversationHandle>>>,
    connected: Arc<AtomicBool>,
    ignored: Arc<AtomicU64>,
    unwelcome: Arc<AtomicU64>,
}

/// Messages that changed nothing, since the controller's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Strange topics, frames of unknown hosts, what cannot be read or believed.
    pub ignored: u64,
    /// More than a conversation could take in; honest ones are sent again.
    pub dropped: u64,
    /// Hellos of somebody who may not speak, or not now.
    pub unwelcome: u64,
}

impl Directory {
    /// The host's log has a new command.
    pub fn log_grew(&self, host: &HostId) {
        if let Some(handle) = self.find(host) {
            handle.log_grew();
        }
    }

    /// The conversation of a host.
    pub fn find(&self, host: &HostId) -> Option<ConversationHandle> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    /// Whether the broker connection stands.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// What came over the broker in vain.
    pub fn refusals(&self) -> Refusals {
        let ignored = self.ignored.load(Ordering::Relaxed);
        let unwelcome = self.unwelcome.load(Ordering::Relaxed);
        let none = Refusals { ignored, dropped: 0, unwelcome };
        self.all().iter().map(ConversationHandle::status).fold(none, |sum, status| Refusals {
            ignored: sum.ignored + status.malformed,
            dropped: sum.dropped + status.dropped,
            unwelcome: sum.unwelcome + status.unwelcome,
        })
    }

    fn ignore(&self) {
        self.ignored.fetch_add(1, Ordering::Relaxed);
    }

    fn all(&self) -> Vec<ConversationHandle> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Routes the messages of one broker connection.
pub struct Router {
    /// The database.
    pub store: Store,
    /// What conversations do.
    pub domain: Arc<FleetDomain>,
    /// The sending half.
    pub transport: Arc<dyn Transport>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub ids: Arc<dyn IdSource>,
    /// This fleet.
    pub fleet: FleetId,
    /// This program and its version.
    pub software: String,
    /// Where conversations are found.
    pub directory: Directory,
}

impl Router {
    /// Routes until the broker connection's task or the store has ended.
    pub async fn run(self, mut incoming: mpsc::Receiver<Incoming>) {
        let mut conversations = JoinSet::new();
        let mut heartbeats: BTreeMap<HostId, Heartbeat> = BTreeMap::new();
        if !self.open_known(&mut conversations).await {
            return;
        }
        let mut flush = tokio::time::interval(HEARTBEAT_FLUSH);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // What comes seldom goes first, so that the messages hold up nothing; always in one
            // order, so that a simulation goes one way.
            tokio::select! {
                biased;
                _ = flush.tick(), if !heartbeats.is_empty() => {
                    if !self.write_heartbeats(std::mem::take(&mut heartbeats)).await {
                        return;
                    }
                }
                Some(ended) = conversations.join_next() => match ended {
                    Ok(Err(error)) => {
                        tracing::error!(%error, "a conversation ended");
                        return;
                    }
                    Ok(Ok(())) => {}
                    Err(error) => tracing::error!(%error, "a conversation panicked"),
                },
                message = incoming.recv() => match message {
                    None => return,
                    Some(message) => self.route(message, &mut conversations, &mut heartbeats),
                },
            }
        }
    }

    /// Opens a conversation with every registered host, so that each gets a hello.
    async fn open_known(&self, conversations: &mut Conversations) -> bool {
        let mut after = String::new();
        loop {
            let from = after.clone();
            let page = match self.store.read(move |connection| host::page(connection, &from, 500)).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "hosts cannot be read");
                    return false;
                }
            };
            let Some(last) = page.last() else { return true };
            last.host_id.as_str().clone_into(&mut after);
            for row in &page {
                self.open(&row.host_id, conversations);
            }
        }
    }

    fn open(&self, host: &HostId, conversations: &mut Conversations) -> ConversationHandle {
        if let Some(handle) = self.directory.find(host).filter(|handle| !handle.has_ended()) {
            return handle;
        }
        let options = ConversationOptions {
            peer: host.as_str().to_owned(),
            send_topic: Channel::Down.of(host),
            introduction: Introduction {
                protocol: PROTOCOL,
                capabilities: Vec::new(),
                software: self.software.clone(),
                host_id: host.clone(),
                machine_id: None,
                fleet_id: Some(self.fleet.clone()),
                report: None,
            },
            // Wishes: of a restored host's past only the newest counts.
            regression: Regression::Snapshot,
        };
        let (conversation, handle) = Conversation::<Notice, FleetDomain>::new(
            options,
            self.store.clone(),
            Arc::clone(&self.domain),
            Arc::clone(&self.transport),
            Arc::clone(&self.clock),
            Arc::clone(&self.ids),
        );
        conversations.spawn(conversation.run());
        if self.directory.is_connected() {
            handle.connected();
        }
        let mut map = self.directory.conversations.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(host.clone(), handle.clone());
        handle
    }

    fn route(
        &self,
        message: Incoming,
        conversations: &mut Conversations,
        heartbeats: &mut BTreeMap<HostId, Heartbeat>,
    ) {
        match message {
            Incoming::Connected => {
                tracing::info!("connected to the broker");
                self.directory.connected.store(true, Ordering::Relaxed);
                self.directory.all().iter().for_each(ConversationHandle::connected);
            }
            Incoming::Disconnected { why } => {
                tracing::warn!(why, "disconnected from the broker");
                self.directory.connected.store(false, Ordering::Relaxed);
                self.directory.all().iter().for_each(ConversationHandle::disconnected);
            }
            Incoming::Message { topic, payload, retained } => match topic::parse(&topic) {
                // Presence alone is kept by the broker; what else it kept may be of any age.
                Some((host, channel)) if retained && channel != Channel::Presence => {
                    tracing::warn!(%host, topic, "ignored a retained message; clear it at the broker");
                    self.directory.ignore();
                }
                Some((host, Channel::Up)) => self.up(&host, payload, conversations),
                Some((host, Channel::Telemetry)) => match heartbeat(&payload) {
                    // Every registered host has a conversation.
                    Some(heartbeat) if self.directory.find(&host).is_some() => {
                        self.revive(&host, conversations);
                        heartbeats.insert(host, heartbeat);
                    }
                    _ => self.directory.ignore(),
                },
                Some((host, Channel::Presence)) => match serde_json::from_slice::<Presence>(&payload) {
                    Ok(presence) => tracing::debug!(%host, online = presence.online, "presence"),
                    Err(_) => self.directory.ignore(),
                },
                Some((_, Channel::Down)) | None => self.directory.ignore(),
            },
        }
    }

    /// A conversation that panicked is begun anew, from the database.
    fn revive(&self, host: &HostId, conversations: &mut Conversations) {
        if self.directory.find(host).is_some_and(|handle| handle.has_ended()) {
            self.open(host, conversations);
        }
    }

    fn up(&self, host: &HostId, payload: Vec<u8>, conversations: &mut Conversations) {
        self.revive(host, conversations);
        if let Some(handle) = self.directory.find(host) {
            handle.message(payload);
            return;
        }
        // A stranger gets a conversation, and rows, only by introducing itself as one of this fleet.
        let Ok(Message::Hello(hello)) = Message::decode(&payload) else { return self.directory.ignore() };
        let versions = hello.introduction.protocol;
        let refusal = match admission::credentials(&self.fleet, host, &hello) {
            Err(why) => Some(why),
            Ok(_) if PROTOCOL.common(versions).is_none() => Some(format!(
                "it speaks protocol {} to {}, this controller {} to {}; upgrade the older one",
                versions.lowest, versions.highest, PROTOCOL.lowest, PROTOCOL.highest
            )),
            Ok(_) if conversations.len() >= MOST_HOSTS => {
                Some(format!("there are {MOST_HOSTS} hosts already"))
            }
            Ok(_) => None,
        };
        match refusal {
            None => self.open(host, conversations).message(payload),
            Some(why) => {
                let before = self.directory.unwelcome.fetch_add(1, Ordering::Relaxed);
                // Whoever can publish must not fill the disk with logs.
                if before < STRANGERS_TOLD {
                    tracing::warn!(%host, why, "a stranger's hello was refused");
                }
            }
        }
    }

    /// Writes the newest heartbeats. `false`: the store is closed.
    async fn write_heartbeats(&self, heartbeats: BTreeMap<HostId, Heartbeat>) -> bool {
        let now = self.clock.now();
        let written = self
            .store
            .write(move |tx| {
                let mut strange = 0;
                for (host, heartbeat) in &heartbeats {
                    let returned = host::find(tx, host)?.is_some_and(|row| !row.online);
                    if !host::heard(tx, host, heartbeat, now)? {
                        // Of another machine, or of a host that was given up.
                        strange += 1;
                    } else if returned {
                        wake_waiting(tx, host, now)?;
                    }
                }
                Ok::<_, phonefleet_store::rusqlite::Error>(strange)
            })
            .await;
        match written {
            Err(phonefleet_store::WriteError::Closed | phonefleet_store::WriteError::Unknown(_)) => false,
            Err(error) => {
                tracing::warn!(%error, "heartbeats cannot be written; the next ones will be");
                true
            }
            Ok(strange) => {
                self.directory.ignored.fetch_add(strange, Ordering::Relaxed);
                true
            }
        }
    }
}

fn heartbeat(payload: &[u8]) -> Option<Heartbeat> {
    (payload.len() <= HEARTBEAT_BYTES).then(|| serde_json::from_slice(payload).ok()).flatten()
}

type Conversations = JoinSet<Result<(), phonefleet_link::conversation::ConversationError>>;
