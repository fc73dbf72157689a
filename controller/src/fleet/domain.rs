//! The controller's side of every conversation.

use super::{admission, apply, desire};
use crate::saga::Engine;
use crate::store::{Notice, Result, Tx};
use phonefleet_link::domain::LogItem;
use phonefleet_link::{Applied, Domain};
use phonefleet_protocol::event::Event;
use phonefleet_protocol::id::{FleetId, HostId};
use phonefleet_protocol::item::{Decoded, Item, ItemError};
use phonefleet_protocol::stream::{Admission, Epoch, Hello, Notice as StreamNotice};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::stream_log::{COMMAND_OUTBOX, StreamLog};
use serde_json::value::RawValue;
use std::time::Duration;

/// What the controller does with hosts' items.
pub struct FleetDomain {
    /// The saga engine, which events wake.
    pub engine: Engine,
    /// This fleet.
    pub fleet: FleetId,
    /// How long a host counts as alive after its last word.
    pub presence: Duration,
}

fn host_of(peer: &str) -> Result<HostId> {
    peer.parse().map_err(crate::store::unreadable)
}

impl Domain<Notice> for FleetDomain {
    const LOG: StreamLog = COMMAND_OUTBOX;

    fn apply(&self, tx: &mut Tx<'_>, peer: &str, item: &RawValue, now: Timestamp) -> Result<Applied> {
        match Event::decode(item) {
            Ok(Decoded::Known(event)) => apply::event(&self.engine, tx, &host_of(peer)?, event, now),
            Ok(Decoded::Unknown { kind }) => Ok(Applied::Unknown { kind }),
            Err(error) => {
                let kind = match &error {
                    ItemError::Malformed { kind, .. } => kind.clone(),
                    ItemError::TooLarge { .. } => String::new(),
                };
                Ok(Applied::Refused { kind, reason: error.to_string() })
            }
        }
    }

    fn applied(&self, tx: &mut Tx<'_>, peer: &str, epoch: Epoch, number: u64) {
        if let Ok(host) = host_of(peer) {
            tx.announce(Notice::EventApplied { host, epoch, number });
        }
    }

    fn snapshot(&self, tx: &mut Tx<'_>, peer: &str, now: Timestamp) -> Result<Vec<LogItem>> {
        desire::snapshot(tx, &host_of(peer)?, now)
    }

    fn admit(&self, tx: &mut Tx<'_>, peer: &str, hello: &Hello, now: Timestamp) -> Result<Admission> {
        admission::admit(tx, &self.fleet, &host_of(peer)?, hello, self.presence, now)
    }

    fn acknowledged(&self, tx: &mut Tx<'_>, peer: &str, through: u64, now: Timestamp) -> Result<()> {
        desire::acknowledged(tx, &host_of(peer)?, through, now)
    }

    fn notice(&self, peer: &str, notice: &StreamNotice) {
        match notice {
            StreamNotice::Connected(hello) => {
                tracing::info!(host = peer, software = hello.introduction.software, "host connected");
            }
            StreamNotice::Refused(why) => tracing::error!(host = peer, why, "host refused"),
            StreamNotice::Forked { cause, left } => {
                tracing::warn!(host = peer, ?cause, %left, "commands begin a new epoch with a snapshot");
            }
            StreamNotice::PeerForked { epoch } => {
                tracing::warn!(host = peer, %epoch, "the host's events begin a new epoch");
            }
            StreamNotice::Acknowledged(_) => {}
        }
    }
}
