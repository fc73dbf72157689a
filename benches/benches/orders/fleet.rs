//! A controller with its API, its hosts, and devices that are there before.

use super::host;
use anyhow::{Context, Result, ensure};
use phonefleet_benches::conversation::MACHINE;
use phonefleet_controller::api::{self, Api, server};
use phonefleet_controller::controller::{Controller, Parts, Settings, Signals};
use phonefleet_controller::metrics::Metrics;
use phonefleet_controller::quota::Policy;
use phonefleet_controller::store::device::{self as devices, DeviceRow, Status};
use phonefleet_controller::store::host::{self as hosts, HostRow};
use phonefleet_controller::store::{self, Store};
use phonefleet_link::MemoryBroker;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::facts::{Phase, Ports};
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::id::{DeviceId, HostId, SystemIds, uuid_v7};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use phonefleet_protocol::topic::Channel;
use phonefleet_store::{Mode, rusqlite};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Hosts of the fleet.
const HOSTS: u64 = 50;
/// Users whose devices they are.
pub const USERS: u64 = 100;
/// What was ordered must run by then.
const DEADLINE: Duration = Duration::from_secs(300);

/// What is there before the first order.
#[derive(Clone, Copy)]
pub struct Before {
    /// Devices that run.
    pub devices: u64,
    /// Devices that are gone, of which only the rows are left.
    pub history: u64,
}

/// Bytes of an average completed creation.
pub struct Size {
    /// Its row, and its entries in indexes.
    pub row: f64,
    /// The lines of its story.
    pub story: f64,
    /// Both, in whole pages.
    pub on_disk: f64,
}

/// It runs until it is dropped.
pub struct Fleet {
    /// Where its API listens.
    pub address: SocketAddr,
    store: Store,
    _tasks: JoinSet<()>,
}

fn host_id(number: u64) -> Result<HostId> {
    Ok(format!("host-{number}").parse()?)
}

fn host_row(host_id: HostId, now: Timestamp) -> HostRow {
    HostRow {
        host_id,
        machine_id: MACHINE.to_owned(),
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

fn device_row(number: u64, host_id: HostId, now: Timestamp) -> Result<DeviceRow> {
    Ok(DeviceRow {
        device_id: DeviceId(uuid_v7(Timestamp(1_760_000_000_000), u128::from(number))),
        name: format!("phone-{number}"),
        user_id: format!("user-{}", number % USERS).parse()?,
        host_id,
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
        phase: Some(Phase::Running),
        ports: Some(Ports { adb: 20_000, webrtc: 21_000 }),
        container_id: Some("8f0d2a5c6b1e4937".repeat(4)),
        reason: None,
        starts: 1,
        saga_id: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    })
}

/// Hosts, and devices spread over them, each that runs with its quota.
async fn populate(store: &Store, Before { devices, history }: Before) -> Result<()> {
    let now = SystemClock.now();
    let machines =
        (0..HOSTS).map(|number| Ok(host_row(host_id(number)?, now))).collect::<Result<Vec<_>>>()?;
    let phones = (0..devices + history)
        .map(|number| device_row(number, host_id(number % HOSTS)?, now))
        .collect::<Result<Vec<_>>>()?;
    let policy = Policy { default_max_devices: devices };
    let refused = store
        .write(move |tx| {
            machines.iter().try_for_each(|machine| hosts::upsert(tx, machine))?;
            let mut refused = 0_u64;
            for (number, phone) in (0..).zip(&phones) {
                devices::insert(tx, phone)?;
                if number >= devices {
                    let (status, phase) = (Status::Deleted, Some(Phase::Absent));
                    let gone = DeviceRow { status, phase, deleted_at: Some(now), ..phone.clone() };
                    devices::update(tx, &gone, now)?;
                    continue;
                }
                let reserved =
                    policy.reserve_device(tx, phone.device_id, &phone.user_id, &phone.spec, now)?;
                refused += u64::from(reserved.is_err());
            }
            Ok::<_, rusqlite::Error>(refused)
        })
        .await?;
    ensure!(refused == 0, "{refused} devices have no quota");
    Ok(())
}

impl Fleet {
    /// Starts one in a directory, with what was there before.
    pub async fn start(directory: &Path, before: Before) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let observer = Arc::clone(&metrics);
        let signals = Signals::new(Arc::new(move |notice| observer.on_notice(notice)));
        let store = store::open(&directory.join("controller.db"), Mode::Threaded, signals.on_commit())?;
        populate(&store, before).await?;
        let broker = MemoryBroker::new();
        let up = Channel::Up.of_all();
        let (transport, incoming) = broker.connect("controller", &[&up], None);
        let settings = Settings {
            quota: Policy { default_max_devices: 1 << 40 },
            // The hosts send no heartbeats.
            presence: Duration::from_secs(3600),
            ..Settings::default()
        };
        let parts = Parts {
            store: store.clone(),
            signals,
            transport,
            incoming,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        };
        let controller = Controller::new(settings, parts);
        let router = api::router(Api::new(controller.handle(), metrics));
        let listener = server::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(server::serve(listener, router, std::future::pending()));
        tasks.spawn(async move {
            if let Err(error) = controller.run().await {
                eprintln!("the controller ended: {error}");
            }
        });
        let conversations = (0..HOSTS)
            .map(|number| host::start(directory, host_id(number)?, &mut tasks, &broker))
            .collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        while !conversations.iter().all(|conversation| conversation.status().open) {
            ensure!(began.elapsed() < DEADLINE, "the hosts cannot talk with the controller");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { address, store, _tasks: tasks })
    }

    /// Waits until what was ordered runs, and tells what its sagas take.
    pub async fn completed(&self, orders: u64) -> Result<Size> {
        let began = Instant::now();
        loop {
            let (all, completed): (i64, i64) = self
                .store
                .read(|connection| {
                    connection.query_row(
                        "SELECT count(*), count(*) FILTER (WHERE status = 'COMPLETED') FROM saga_state",
                        [],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                })
                .await?;
            ensure!(all as u64 == orders, "{orders} orders were accepted, and there are {all} sagas");
            if completed == all {
                break;
            }
            ensure!(began.elapsed() < DEADLINE, "{completed} of {orders} creations are completed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.store.read(move |connection| size(connection, orders)).await.context("sizes of tables")
    }
}

fn size(connection: &rusqlite::Connection, sagas: u64) -> rusqlite::Result<Size> {
    let sum = |column: &str, condition: &str| -> rusqlite::Result<f64> {
        let sql = format!(
            "SELECT total({column}) FROM dbstat WHERE name IN
                (SELECT name FROM sqlite_schema WHERE {condition})"
        );
        Ok(connection.query_row(&sql, [], |row| row.get::<_, f64>(0))? / sagas as f64)
    };
    Ok(Size {
        row: sum("payload", "tbl_name = 'saga_state'")?,
        story: sum("payload", "tbl_name = 'saga_event'")?,
        on_disk: sum("pgsize", "tbl_name IN ('saga_state', 'saga_event')")?,
    })
}
