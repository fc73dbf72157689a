//! Presence and heartbeats: hints for the controller, and lost without harm.

use crate::store::{Notice, device, outbox};
use phonefleet_link::conversation::ConversationHandle;
use phonefleet_link::transport::{Delivery, Outgoing, Transport};
use phonefleet_protocol::facts::Phase;
use phonefleet_protocol::host::{Heartbeat, Presence};
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::topic::Channel;
use phonefleet_store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a goodbye may hold up the end of the agent.
const GOODBYE: Duration = Duration::from_secs(1);

/// The presence message of one run of the agent; with `online: false` also its last will.
pub fn presence(host: &HostId, instance: &str, online: bool) -> Outgoing {
    let message = Presence { online, instance: instance.to_owned() };
    Outgoing {
        topic: Channel::Presence.of(host),
        payload: serde_json::to_vec(&message).unwrap_or_default(),
        delivery: Delivery::Retained,
    }
}

/// Speaks for one run of the agent.
pub(crate) struct Speaker {
    pub host: HostId,
    pub instance: String,
    pub transport: Arc<dyn Transport>,
    pub store: Store<Notice>,
    pub conversation: ConversationHandle,
    pub heartbeat: Arc<dyn Fn() -> Heartbeat + Send + Sync>,
}

impl Speaker {
    /// Says that the agent is there at every connection, and beats while there is one.
    pub async fn run(&self, mut connected: watch::Receiver<u64>) {
        let mut beats = interval_at(Instant::now(), HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                changed = connected.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if *connected.borrow_and_update() % 2 == 1 {
                        let _ = self.transport.publish(presence(&self.host, &self.instance, true)).await;
                        beats.reset_immediately();
                    }
                }
                _ = beats.tick() => {
                    if *connected.borrow() % 2 == 1 {
                        self.beat().await;
                    }
                }
            }
        }
    }

    async fn beat(&self) {
        let heard = self.conversation.status().acknowledged;
        let known = self
            .store
            .read(move |connection| {
                let running = device::count_in_phase(connection, Phase::Running)?;
                Ok((running, outbox::pending(connection, heard)?.0))
            })
            .await;
        let (phones_running, outbox_pending) = match known {
            Ok(known) => known,
            Err(error) => {
                // Numbers that are not known are not told as zeros.
                tracing::warn!(%error, "no heartbeat: the database cannot be read");
                return;
            }
        };
        let beat = Heartbeat { phones_running, outbox_pending, ..(self.heartbeat)() };
        let Ok(payload) = serde_json::to_vec(&beat) else { return };
        let topic = Channel::Telemetry.of(&self.host);
        // Without a connection there is nobody to tell; the next one follows in 10 s.
        let _ = self.transport.publish(Outgoing { topic, payload, delivery: Delivery::AtMostOnce }).await;
    }

    /// Says that the agent ends on purpose.
    pub async fn goodbye(&self) {
        let message = presence(&self.host, &self.instance, false);
        let _ = timeout(GOODBYE, self.transport.publish(message)).await;
    }
}
