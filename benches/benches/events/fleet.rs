//! The real controller's domain, with the devices that the events are about.

use super::{Arrivals, device, host, introduction};
use anyhow::Result;
use phonefleet_benches::ceiling::outbox::DEVICES;
use phonefleet_benches::conversation::converse;
use phonefleet_controller::fleet::domain::FleetDomain;
use phonefleet_controller::saga::{Engine, REGISTRY, RetryPolicy};
use phonefleet_controller::store::device::{self as devices, DeviceRow, Status};
use phonefleet_controller::store::host::{self as hosts, HostRow};
use phonefleet_controller::store::{self, Notice};
use phonefleet_link::domain::LogItem;
use phonefleet_link::{Applied, ConversationHandle, Domain, MemoryBroker};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::id::{FleetId, UserId};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::stream::{Admission, Hello, Notice as StreamNotice};
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use phonefleet_protocol::topic::Channel;
use phonefleet_store::stream_log::StreamLog;
use phonefleet_store::{Mode, rusqlite};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Counts what the domain applies, and has the commit tell: a notice with a number in it
/// carries it out of the writer.
struct Counted {
    domain: FleetDomain,
    applied: AtomicU64,
}

impl Domain<Notice> for Counted {
    const LOG: StreamLog = FleetDomain::LOG;

    fn apply(
        &self,
        tx: &mut store::Tx<'_>,
        peer: &str,
        item: &RawValue,
        now: Timestamp,
    ) -> rusqlite::Result<Applied> {
        let applied = self.domain.apply(tx, peer, item, now)?;
        let number = self.applied.fetch_add(1, Ordering::Relaxed) + 1;
        tx.announce(Notice::SagaDue(Timestamp(number as i64)));
        Ok(applied)
    }

    fn snapshot(&self, tx: &mut store::Tx<'_>, peer: &str, now: Timestamp) -> rusqlite::Result<Vec<LogItem>> {
        self.domain.snapshot(tx, peer, now)
    }

    fn admit(
        &self,
        tx: &mut store::Tx<'_>,
        peer: &str,
        hello: &Hello,
        now: Timestamp,
    ) -> rusqlite::Result<Admission> {
        self.domain.admit(tx, peer, hello, now)
    }

    fn acknowledged(
        &self,
        tx: &mut store::Tx<'_>,
        peer: &str,
        through: u64,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        self.domain.acknowledged(tx, peer, through, now)
    }

    fn notice(&self, peer: &str, notice: &StreamNotice) {
        self.domain.notice(peer, notice);
    }
}

fn host_row(now: Timestamp) -> HostRow {
    HostRow {
        host_id: host(),
        machine_id: "machine-17".to_owned(),
        software: String::new(),
        report: HostReport::default(),
        heartbeat: None,
        online: true,
        last_seen_at: now,
        cordoned: false,
        conflict_with: None,
        conflict_until: Timestamp(0),
        forgotten_at: None,
        registered_at: now,
    }
}

fn device_row(index: u64, user: &UserId, now: Timestamp) -> DeviceRow {
    DeviceRow {
        device_id: device(index),
        name: format!("phone-{index}"),
        user_id: user.clone(),
        host_id: host(),
        status: Status::Running,
        spec: DeviceSpec::default(),
        labels: BTreeMap::new(),
        generation: 3,
        attempt: 1,
        question: None,
        wish: Wish::Running,
        boot_count: 0,
        data_epoch: 0,
        command_seq: None,
        command_dirty: false,
        answered: (3, 1),
        answer: None,
        phase: None,
        ports: None,
        container_id: None,
        reason: None,
        starts: 0,
        saga_id: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}

/// Starts it; it runs until the tasks are dropped.
pub async fn start(
    path: &Path,
    tasks: &mut JoinSet<()>,
    broker: &MemoryBroker,
    arrivals: &Arc<Arrivals>,
) -> Result<ConversationHandle> {
    let arrivals = Arc::clone(arrivals);
    let on_commit = move |notices: Vec<Notice>| {
        if let Some(Notice::SagaDue(newest)) = notices.last() {
            arrivals.committed(newest.0 as u64);
        }
    };
    let store = store::open(path, Mode::Threaded, Arc::new(on_commit))?;
    let user: UserId = "user-1".parse()?;
    store
        .write(move |tx| {
            let now = SystemClock.now();
            hosts::upsert(tx, &host_row(now))?;
            (0..DEVICES).try_for_each(|index| devices::insert(tx, &device_row(index, &user, now)))
        })
        .await?;
    let engine = Engine { registry: REGISTRY, retry: RetryPolicy::default() };
    let fleet = FleetId::try_from("fleet-17".to_owned())?;
    let domain = FleetDomain { engine, fleet, presence: Duration::from_secs(30) };
    let domain = Counted { domain, applied: AtomicU64::new(0) };
    Ok(converse(tasks, broker, &store, domain, introduction(), (Channel::Up, Channel::Down)))
}
