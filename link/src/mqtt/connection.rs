//! One connection, from the first packet to the last.

use super::address::Address;
use super::{MqttError, MqttOptions, quality, tls};
use crate::transport::{Delivery, Incoming};
use phonefleet_protocol::limits::PACKET_BYTES;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill, Packet, Publish, SubAck, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// Requests between publishers and the event loop. Small: what is in it when a connection
/// ends was sent in vain.
const REQUESTS: usize = 32;
/// Publishes without PUBACK. rumqttc reserves a slot for each; unset, that is 14 MB.
const IN_FLIGHT: u16 = 100;
/// TCP, TLS, CONNACK and all SUBACKs together.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// TCP and CONNACK, in seconds.
const CONNECT_SECONDS: u64 = 5;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection that is being made, or stands.
pub(super) struct Connection {
    client: AsyncClient,
    events: EventLoop,
    filters: Vec<(String, Delivery)>,
    incoming: mpsc::Sender<Incoming>,
    current: watch::Sender<Option<AsyncClient>>,
    keep_alive: Duration,
    /// When it is given up, unless all subscriptions are confirmed before.
    deadline: Option<Instant>,
}

/// Why a connection is over.
enum End {
    Failed(String),
    /// The receiver of [`Incoming`] was dropped.
    Unheard,
}

impl Connection {
    pub fn new(
        options: &MqttOptions,
        address: &Address,
        incoming: mpsc::Sender<Incoming>,
        current: watch::Sender<Option<AsyncClient>>,
    ) -> Result<Self, MqttError> {
        let mut settings = rumqttc::v5::MqttOptions::new(&options.client_id, &address.host, address.port);
        settings
            .set_keep_alive(options.keep_alive)
            .set_clean_start(true)
            .set_connection_timeout(CONNECT_SECONDS)
            .set_outgoing_inflight_upper_limit(IN_FLIGHT)
            .set_max_packet_size(Some(PACKET_BYTES as u32));
        if let (Some(username), Some(password)) = (&options.username, &options.password) {
            settings.set_credentials(username, password);
        }
        if let Some(will) = &options.last_will {
            let retain = will.delivery == Delivery::Retained;
            let quality = quality(will.delivery);
            settings.set_last_will(LastWill::new(&will.topic, will.payload.clone(), quality, retain, None));
        }
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        settings.set_network_options(network);
        if address.tls {
            settings.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls::configuration(options)?)));
        }
        let (client, events) = AsyncClient::new(settings, REQUESTS);
        Ok(Self {
            client,
            events,
            filters: options.subscriptions.clone(),
            incoming,
            current,
            keep_alive: options.keep_alive,
            deadline: None,
        })
    }

    /// Runs to the end of the connection and says why it ended; `None` after a goodbye.
    pub async fn run(mut self) -> Option<String> {
        self.deadline = Some(Instant::now() + HANDSHAKE);
        loop {
            // Not polled while the daemon does not read: see the module above.
            let end = match self.next().await {
                Ok(event) => self.handle(event).await.err(),
                Err(end) => Some(end),
            };
            match end {
                None => {}
                Some(End::Failed(why)) => return Some(why),
                Some(End::Unheard) => {
                    self.say_goodbye().await;
                    return None;
                }
            }
        }
    }

    /// The next event. The event loop brings one at each ping at the latest; if it does
    /// not, it hangs in a write to a broker that does not read.
    async fn next(&mut self) -> Result<Event, End> {
        let (until, why) = match self.deadline {
            Some(handshake) => (handshake, "the broker did not answer within 10 s"),
            None => (Instant::now() + self.keep_alive * 2, "the broker does not read what it is sent"),
        };
        let incoming = &self.incoming;
        tokio::select! {
            biased;
            () = incoming.closed() => Err(End::Unheard),
            event = timeout_at(until, self.events.poll()) => match event {
                Ok(Ok(event)) => Ok(event),
                Ok(Err(error)) => Err(End::Failed(in_words(&error))),
                Err(_) => Err(End::Failed(why.to_owned())),
            },
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Incoming(Packet::ConnAck(_)) if self.filters.is_empty() => self.stands().await,
            Event::Incoming(Packet::ConnAck(_)) => {
                let filters =
                    self.filters.iter().map(|(filter, delivery)| Filter::new(filter, quality(*delivery)));
                // The queue is empty: nobody else has this client yet. Waiting here, in the task
                // that polls, would be for ever.
                self.client
                    .try_subscribe_many(filters)
                    .map_err(|_| End::Failed("the subscriptions are no valid filters".to_owned()))
            }
            Event::Incoming(Packet::SubAck(answer)) if self.deadline.is_some() => {
                self.all_granted(&answer)?;
                self.stands().await
            }
            Event::Incoming(Packet::Publish(message)) => self.pass_on(message).await,
            _ => Ok(()),
        }
    }

    fn all_granted(&self, answer: &SubAck) -> Result<(), End> {
        for ((filter, _), reason) in self.filters.iter().zip(&answer.return_codes) {
            if !matches!(reason, SubscribeReasonCode::Success(_)) {
                return Err(End::Failed(format!(
                    "the broker refuses to subscribe to {filter:?} ({reason:?}); check its access rules"
                )));
            }
        }
        if answer.return_codes.len() == self.filters.len() {
            Ok(())
        } else {
            Err(End::Failed("the broker answered another number of subscriptions".to_owned()))
        }
    }

    async fn stands(&mut self) -> Result<(), End> {
        self.deadline = None;
        // First the client: whoever hears that it stands may publish at once.
        self.current.send_replace(Some(self.client.clone()));
        self.tell(Incoming::Connected).await
    }

    async fn pass_on(&mut self, message: Publish) -> Result<(), End> {
        // A topic that is no text can be none of ours.
        let Ok(topic) = String::from_utf8(message.topic.to_vec()) else { return Ok(()) };
        let (payload, retained) = (message.payload.to_vec(), message.retain);
        self.tell(Incoming::Message { topic, payload, retained }).await
    }

    async fn tell(&mut self, news: Incoming) -> Result<(), End> {
        self.incoming.send(news).await.map_err(|_| End::Unheard)
    }

    /// Behind everything that was handed over before, in the same queue.
    async fn say_goodbye(mut self) {
        self.current.send_replace(None);
        if self.deadline.is_some() {
            return;
        }
        let client = self.client.clone();
        let goodbye = async {
            let mut queued = client.try_disconnect().is_ok();
            // Until the broker hangs up: a socket closed with unread messages in it is reset,
            // and a reset throws away what the broker has not read yet, the goodbye too.
            while self.events.poll().await.is_ok() {
                queued = queued || client.try_disconnect().is_ok();
            }
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }
}

fn in_words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::Timeout(_) => format!("the broker did not answer within {CONNECT_SECONDS} s"),
        other => other.to_string(),
    }
}
