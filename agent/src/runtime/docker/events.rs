//! The engine's event stream, reduced to "look at this device".

use super::{EVENTS_PROBE, PING};
use crate::runtime::{EngineEvent, LABEL_DEVICE, LABEL_HOST};
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::time::Timestamp;
use std::collections::HashMap;
use tokio::sync::mpsc;

/// What changes whether a container runs. All else (each health probe makes three
/// events) is left at the engine.
const KINDS: &[&str] = &["create", "start", "die", "oom", "pause", "unpause", "destroy"];

/// Events that may wait before the watcher is told to look at everything instead.
const WAITING: usize = 256;

/// Follows the events until the engine goes away or hangs, or the watcher does.
pub(super) fn watch(client: bollard::Docker, host: &HostId, since: Timestamp) -> mpsc::Receiver<EngineEvent> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let filters = HashMap::from([
        ("type".to_owned(), vec!["container".to_owned()]),
        ("label".to_owned(), vec![format!("{LABEL_HOST}={host}")]),
        ("event".to_owned(), KINDS.iter().map(|kind| (*kind).to_owned()).collect()),
    ]);
    let options = EventsOptions { since: Some(engine_time(since)), until: None, filters: Some(filters) };
    tokio::spawn(async move {
        let mut stream = Box::pin(client.events(Some(options)));
        let mut probe = tokio::time::interval(EVENTS_PROBE);
        probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        probe.tick().await;
        let why = loop {
            tokio::select! {
                () = sender.closed() => return,
                event = stream.next() => match event {
                    Some(Ok(event)) => if let Some(event) = reduce(&event)
                        && sender.try_send(event).is_err()
                        // Full. This waits, and what the engine drops meanwhile happened
                        // before the watcher takes the word to look at everything.
                        && sender.send(EngineEvent::Resync).await.is_err()
                    {
                        return;
                    },
                    Some(Err(error)) => break error.to_string(),
                    None => break "the engine closed it".to_owned(),
                },
                // A hung engine keeps the stream open for ever.
                _ = probe.tick() => match tokio::time::timeout(PING, client.ping()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => break error.to_string(),
                    Err(_) => break format!("the engine did not answer a ping within {} s", PING.as_secs()),
                },
            }
        };
        tracing::info!(%why, "the engine's event stream ended");
    });
    receiver
}

/// Seconds with a fraction, as the engine wants it.
fn engine_time(at: Timestamp) -> String {
    let millis = at.0.max(0);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

fn reduce(event: &EventMessage) -> Option<EngineEvent> {
    let action = event.action.as_deref()?;
    if !KINDS.contains(&action) {
        return None;
    }
    let device = event.actor.as_ref()?.attributes.as_ref()?.get(LABEL_DEVICE)?.parse().ok()?;
    Some(EngineEvent::Container(device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::EventActor;

    #[test]
    fn noise_and_strangers_are_left_out() {
        let event = |action: &str, device: &str| EventMessage {
            action: Some(action.to_owned()),
            actor: Some(EventActor {
                id: None,
                attributes: Some(HashMap::from([(LABEL_DEVICE.to_owned(), device.to_owned())])),
            }),
            ..EventMessage::default()
        };
        let id = "018f3b2a-0000-7000-8000-000000000001";
        assert_eq!(reduce(&event("die", id)), Some(EngineEvent::Container(id.parse().unwrap())));
        assert_eq!(reduce(&event("exec_create: /bin/true", id)), None);
        assert_eq!(reduce(&event("die", "not an id")), None);
        assert_eq!(reduce(&EventMessage::default()), None);
    }

    #[test]
    fn the_engine_is_told_time_in_seconds() {
        assert_eq!(engine_time(Timestamp(1_700_000_000_005)), "1700000000.005");
        assert_eq!(engine_time(Timestamp(-1)), "0.000");
    }
}
