//! A broker inside the process, for tests and simulations on virtual time.
//!
//! Everything runs in the calls of its clients and in tokio tasks, so that on a
//! current-thread runtime with paused time one run is as the other. It loses, repeats and
//! delays what [`MemoryBroker::set_fate`] says, keeps retained messages, publishes last
//! wills, and forgets all of it when told to. Clients reconnect by themselves, at once.

use crate::transport::{Delivery, Incoming, NotConnected, Outgoing, Transport};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// As in the real connection: the reader's queue.
const INCOMING: usize = 256;
/// Messages that wait for a reader before the broker drops more, as mosquitto does.
const QUEUED_MOST: usize = 1000;

/// What becomes of a message at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Arrives once.
    Deliver,
    /// Is lost.
    Drop,
    /// Arrives twice.
    Twice,
    /// Arrives so much later, behind what was sent after it.
    Delay(Duration),
}

type Fates = Box<dyn FnMut(&Outgoing) -> Fate + Send>;

/// The broker; a cheap handle.
#[derive(Clone, Default)]
pub struct MemoryBroker {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    clients: BTreeMap<String, Client>,
    retained: BTreeMap<String, Vec<u8>>,
    fate: Option<Fates>,
    clients_ever: u64,
    /// Raised when the broker forgets: delayed messages of before are gone.
    life: u64,
}

struct Client {
    /// Tells a client from an earlier one of the same name.
    number: u64,
    up: bool,
    filters: Vec<String>,
    last_will: Option<Outgoing>,
    inbox: mpsc::UnboundedSender<Incoming>,
    /// Messages in the inbox.
    queued: Arc<AtomicUsize>,
}

impl Client {
    fn tell(&self, news: Incoming) {
        // A reader that went away has no use for it.
        let _ = self.inbox.send(news);
    }

    fn deliver(&self, topic: &str, payload: &[u8], retained: bool) {
        if self.queued.load(Ordering::Relaxed) < QUEUED_MOST {
            self.queued.fetch_add(1, Ordering::Relaxed);
            self.tell(Incoming::Message { topic: topic.to_owned(), payload: payload.to_vec(), retained });
        }
    }

    fn greet(&mut self, retained: &BTreeMap<String, Vec<u8>>) {
        self.up = true;
        self.tell(Incoming::Connected);
        for (topic, payload) in retained.iter().filter(|(topic, _)| self.listens_to(topic)) {
            self.deliver(topic, payload, true);
        }
    }

    fn listens_to(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| matches(filter, topic))
    }
}

/// Whether a topic is one of a filter's: `+` stands for one level, a last `#` for the rest.
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (part, Some(level)) if part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

impl State {
    fn route(&mut self, message: &Outgoing) {
        if message.delivery == Delivery::Retained {
            if message.payload.is_empty() {
                self.retained.remove(&message.topic);
            } else {
                self.retained.insert(message.topic.clone(), message.payload.clone());
            }
        }
        for client in self.clients.values().filter(|client| client.up && client.listens_to(&message.topic)) {
            client.deliver(&message.topic, &message.payload, false);
        }
    }

    fn lose(&mut self, client_id: &str, why: &str) {
        let Some(client) = self.clients.get_mut(client_id).filter(|client| client.up) else { return };
        client.up = false;
        client.tell(Incoming::Disconnected { why: why.to_owned() });
        if let Some(will) = client.last_will.clone() {
            self.route(&will);
        }
    }
}

impl MemoryBroker {
    /// A broker that loses nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a client, within a tokio runtime. A filter may have `+` in place of a topic
    /// level. An earlier client of that name is thrown out. The client is gone, without a
    /// goodbye, when its receiver is dropped.
    pub fn connect(
        &self,
        client_id: &str,
        subscriptions: &[&str],
        last_will: Option<Outgoing>,
    ) -> (Arc<dyn Transport>, mpsc::Receiver<Incoming>) {
        let (inbox, queue) = mpsc::unbounded_channel();
        let (incoming, receiver) = mpsc::channel(INCOMING);
        let queued = Arc::new(AtomicUsize::new(0));
        let mut state = self.lock();
        state.lose(client_id, "another client has taken the name");
        state.clients_ever += 1;
        let number = state.clients_ever;
        let filters = subscriptions.iter().map(|filter| (*filter).to_owned()).collect();
        let mut client = Client { number, up: true, filters, last_will, inbox, queued: Arc::clone(&queued) };
        client.greet(&state.retained);
        state.clients.insert(client_id.to_owned(), client);
        drop(state);
        let (broker, client_id) = (self.clone(), client_id.to_owned());
        let transport = MemoryTransport { broker: broker.clone(), client_id: client_id.clone(), number };
        tokio::spawn(async move {
            pass_on(queue, incoming, queued).await;
            let mut state = broker.lock();
            if state.clients.get(&client_id).is_some_and(|client| client.number == number) {
                state.lose(&client_id, "the reader is gone");
                state.clients.remove(&client_id);
            }
        });
        (Arc::new(transport), receiver)
    }

    /// Cuts a client off: it is told, and its last will is published.
    pub fn cut(&self, client_id: &str) {
        self.lock().lose(client_id, "cut off");
    }

    /// Lets a client that was cut off connect again.
    pub fn heal(&self, client_id: &str) {
        let mut state = self.lock();
        let State { clients, retained, .. } = &mut *state;
        if let Some(client) = clients.get_mut(client_id).filter(|client| !client.up) {
            client.greet(retained);
        }
    }

    /// Decides the fate of every message from now on; last wills always arrive.
    pub fn set_fate(&self, fate: impl FnMut(&Outgoing) -> Fate + Send + 'static) {
        self.lock().fate = Some(Box::new(fate));
    }

    /// The broker is killed and starts again empty: retained and delayed messages are gone,
    /// and every client that is not cut off reconnects.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.retained.clear();
        let State { clients, retained, .. } = &mut *state;
        for client in clients.values_mut().filter(|client| client.up) {
            client.tell(Incoming::Disconnected { why: "the broker was killed".to_owned() });
            client.greet(retained);
        }
    }
}

/// From the broker's queue of a client, which must not block, to the client's own.
async fn pass_on(
    mut queue: mpsc::UnboundedReceiver<Incoming>,
    incoming: mpsc::Sender<Incoming>,
    queued: Arc<AtomicUsize>,
) {
    loop {
        let news = tokio::select! {
            biased;
            () = incoming.closed() => return,
            news = queue.recv() => news,
        };
        let Some(news) = news else { return };
        if matches!(news, Incoming::Message { .. }) {
            queued.fetch_sub(1, Ordering::Relaxed);
        }
        if incoming.send(news).await.is_err() {
            return;
        }
    }
}

struct MemoryTransport {
    broker: MemoryBroker,
    client_id: String,
    number: u64,
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn publish(&self, message: Outgoing) -> Result<(), NotConnected> {
        let mut state = self.broker.lock();
        let up = state
            .clients
            .get(&self.client_id)
            .is_some_and(|client| client.up && client.number == self.number);
        if !up {
            return Err(NotConnected);
        }
        match state.fate.as_mut().map_or(Fate::Deliver, |fate| fate(&message)) {
            Fate::Deliver => state.route(&message),
            Fate::Drop => {}
            Fate::Twice => {
                state.route(&message);
                state.route(&message);
            }
            Fate::Delay(wait) => {
                let (broker, life) = (self.broker.clone(), state.life);
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let mut state = broker.lock();
                    if state.life == life {
                        state.route(&message);
                    }
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, text: &str, delivery: Delivery) -> Outgoing {
        Outgoing { topic: topic.to_owned(), payload: text.as_bytes().to_vec(), delivery }
    }

    fn arrived(topic: &str, text: &str) -> Incoming {
        Incoming::Message { topic: topic.to_owned(), payload: text.as_bytes().to_vec(), retained: false }
    }

    #[test]
    fn filters_match_by_levels() {
        assert!(matches("a/+/c", "a/b/c") && matches("a/#", "a/b/c") && matches("a", "a"));
        assert!(!matches("a/+", "a") && !matches("a/+", "a/b/c") && !matches("a", "a/b"));
    }

    #[tokio::test(start_paused = true)]
    async fn wills_retained_messages_and_cuts() {
        let broker = MemoryBroker::new();
        let will = message("hosts/a/presence", "gone", Delivery::Retained);
        let (agent, mut agent_news) = broker.connect("a", &[], Some(will));
        let (_listener, mut news) = broker.connect("c", &["hosts/+/presence"], None);
        assert_eq!(news.recv().await, Some(Incoming::Connected));
        assert_eq!(agent_news.recv().await, Some(Incoming::Connected));
        agent.publish(message("hosts/a/presence", "here", Delivery::Retained)).await.unwrap();
        assert_eq!(news.recv().await, Some(arrived("hosts/a/presence", "here")));

        broker.cut("a");
        assert!(matches!(agent_news.recv().await, Some(Incoming::Disconnected { .. })));
        assert_eq!(agent.publish(message("x", "", Delivery::AtMostOnce)).await, Err(NotConnected));
        assert_eq!(news.recv().await, Some(arrived("hosts/a/presence", "gone")));
        broker.heal("a");
        assert_eq!(agent_news.recv().await, Some(Incoming::Connected));

        let (_late, mut late_news) = broker.connect("late", &["hosts/#"], None);
        assert_eq!(late_news.recv().await, Some(Incoming::Connected));
        assert!(matches!(late_news.recv().await, Some(Incoming::Message { retained: true, .. })));
        broker.forget();
        assert!(matches!(late_news.recv().await, Some(Incoming::Disconnected { .. })));
        assert_eq!(late_news.recv().await, Some(Incoming::Connected));
        drop(agent_news);
        assert_eq!(late_news.recv().await, Some(arrived("hosts/a/presence", "gone")));
        assert_eq!(agent.publish(message("x", "", Delivery::AtMostOnce)).await, Err(NotConnected));
    }

    #[tokio::test(start_paused = true)]
    async fn fates_are_met() {
        let broker = MemoryBroker::new();
        let (sender, _news) = broker.connect("a", &[], None);
        let (_listener, mut news) = broker.connect("b", &["t"], None);
        assert_eq!(news.recv().await, Some(Incoming::Connected));
        let mut fates = vec![Fate::Twice, Fate::Drop, Fate::Delay(Duration::from_secs(3)), Fate::Deliver];
        fates.reverse();
        broker.set_fate(move |_| fates.pop().unwrap_or(Fate::Deliver));
        for text in ["twice", "dropped", "late", "once"] {
            sender.publish(message("t", text, Delivery::AtLeastOnce)).await.unwrap();
        }
        for text in ["twice", "twice", "once", "late"] {
            assert_eq!(news.recv().await, Some(arrived("t", text)));
        }
    }
}
