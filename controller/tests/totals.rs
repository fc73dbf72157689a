//! The totals that orders are decided by are the sums of the rows, whatever became of those.

#![allow(clippy::unwrap_used, reason = "tests")]

use phonefleet_controller::order::{self, NewDevice, OrderError};
use phonefleet_controller::quota::{self, Policy};
use phonefleet_controller::store::host::{self, HostRow};
use phonefleet_controller::store::quota::{self as quotas, Kind, Limits};
use phonefleet_controller::store::{self, SCHEMA, Store, device, totals};
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::id::{SystemIds, UserId};
use phonefleet_protocol::spec::DeviceSpec;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::migration::Schema;
use phonefleet_store::{Mode, Options, rusqlite};
use std::path::Path;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_767_225_600_000);
const POLICY: Policy = Policy { default_max_devices: 100 };

fn open(path: &Path) -> Store {
    store::open(path, Mode::Inline { gate: None }, Arc::new(|_| {})).unwrap()
}

async fn write<T: Send + 'static>(
    store: &Store,
    mut job: impl FnMut(&mut store::Tx<'_>) -> T + Send + 'static,
) -> T {
    store.write(move |tx| Ok::<_, rusqlite::Error>(job(tx))).await.unwrap()
}

async fn wrong(store: &Store) -> Vec<String> {
    store.read(totals::wrong).await.unwrap()
}

fn host_row(name: &str) -> HostRow {
    HostRow {
        host_id: name.parse().unwrap(),
        machine_id: name.to_owned(),
        software: String::new(),
        report: HostReport::default(),
        heartbeat: None,
        online: true,
        last_seen_at: NOW,
        cordoned: false,
        conflict_with: None,
        conflict_until: Timestamp(0),
        forgotten_at: None,
        registered_at: NOW,
    }
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn device_of(name: &str, number: u32, cpu_cores: f64) -> NewDevice {
    NewDevice {
        name: format!("phone-{number}"),
        user_id: user(name),
        spec: DeviceSpec { cpu_cores, memory_mb: 100, storage_mb: Some(7), ..DeviceSpec::default() },
        host_id: None,
        labels: std::collections::BTreeMap::new(),
    }
}

fn order(tx: &mut store::Tx<'_>, order: &NewDevice) -> Result<order::Accepted, OrderError> {
    order::create(tx, POLICY, order, &SystemIds, NOW)
}

#[tokio::test]
async fn totals_follow_every_row() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("controller.db"));
    write(&store, |tx| {
        for name in ["host-1", "host-2", "host-3"] {
            host::upsert(tx, &host_row(name)).unwrap();
        }
    })
    .await;
    assert_eq!(wrong(&store).await, Vec::<String>::new());

    // Sizes that no sum of fractions keeps exactly.
    let ordered = write(&store, |tx| {
        (0..60)
            .map(|number| {
                let name = ["alice", "bob"][number as usize % 2];
                let cores = [0.1, 0.2, 0.7, 1.0 / 3.0][number as usize % 4];
                order(tx, &device_of(name, number, cores)).unwrap().device
            })
            .collect::<Vec<_>>()
    })
    .await;
    assert_eq!(wrong(&store).await, Vec::<String>::new());
    let load = store.read(|connection| host::load(connection, &"host-1".parse().unwrap())).await.unwrap();
    assert_eq!((load.devices, load.memory_mb), (20, 2000), "spread evenly");

    let living = ordered.clone();
    write(&store, move |tx| {
        for (number, row) in living.iter().enumerate() {
            if number % 3 == 0 {
                quota::release(tx, row.device_id, Some(Kind::Running)).unwrap();
            }
            if number % 2 == 0 {
                quota::release(tx, row.device_id, None).unwrap();
                let mut gone = row.clone();
                gone.deleted_at = Some(NOW);
                device::update(tx, &gone, NOW).unwrap();
                device::update(tx, &gone, NOW).unwrap();
            }
        }
    })
    .await;
    assert_eq!(wrong(&store).await, Vec::<String>::new());
    let usage = |name: &'static str| {
        let store = store.clone();
        async move { store.read(move |connection| quotas::usage(connection, &user(name))).await.unwrap() }
    };
    assert_eq!(usage("alice").await, quotas::Usage::default(), "all of alice's are gone, to the last bit");
    assert_eq!((usage("bob").await.devices, usage("bob").await.concurrent_devices), (30, 20));

    // What was counted is what is tested.
    write(&store, |tx| {
        let limits = Limits { total_cpu_cores: Some(0.3), ..Limits::default() };
        quotas::set_limits(tx, &user("alice"), &limits, NOW).unwrap();
        for number in 0..3 {
            order(tx, &device_of("alice", 100 + number, 0.1)).unwrap();
        }
    })
    .await;
    let refused = store.write(|tx| order(tx, &device_of("alice", 103, 0.1))).await.map(|_| ());
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("totalCpuCores of user alice is 0.3, 0.3 are taken"), "{why}");
    assert_eq!(wrong(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn totals_begin_with_what_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("controller.db");
    let schema = Schema { component: SCHEMA.component, migrations: &SCHEMA.migrations[..6] };
    let options = Options { path: path.clone(), schema, mode: Mode::Inline { gate: None } };
    {
        let before: Store = phonefleet_store::Store::open(&options, |_| {}).unwrap();
        let job = |tx: &mut store::Tx<'_>| {
            host::upsert(tx, &host_row("empty"))?;
            host::upsert(tx, &host_row("host-1"))?;
            tx.execute_batch(
                "INSERT INTO device(device_id, name, user_id, host_id, status, spec, labels, cpu_cores,
                    memory_mb, generation, attempt, wish, boot_count, data_epoch, command_dirty, created_at,
                    updated_at, deleted_at)
                 VALUES ('a', 'a', 'alice', 'host-1', 'RUNNING', '{}', '{}', 0.1, 100, 1, 1, 'running', 0, 0, 0,
                    0, 0, NULL),
                    ('b', 'b', 'alice', 'host-1', 'RUNNING', '{}', '{}', 0.2, 100, 1, 1, 'running', 0, 0, 0,
                    0, 0, NULL),
                    ('c', 'c', 'alice', 'host-1', 'DELETED', '{}', '{}', 4, 100, 1, 1, 'absent', 0, 0, 0,
                    0, 0, 1);
                 INSERT INTO quota_reservation(owner, kind, user_id, cpu_cores, memory_mb, storage_mb, state,
                    created_at)
                 VALUES ('a', 'device', 'alice', 0.1, 100, 5, 'USED', 0), ('a', 'running', 'alice', 0, 0, 0, 'USED', 0),
                    ('b', 'device', 'alice', 0.2, 100, 5, 'USED', 0);",
            )
        };
        before.write(job).await.unwrap();
    }
    let store = open(&path);
    assert_eq!(wrong(&store).await, Vec::<String>::new());
    let load = store.read(|connection| host::load(connection, &"host-1".parse().unwrap())).await.unwrap();
    assert_eq!((load.devices, load.cpu_cores, load.memory_mb), (2, 0.3, 200));
    let usage = store.read(|connection| quotas::usage(connection, &user("alice"))).await.unwrap();
    assert_eq!((usage.devices, usage.concurrent_devices, usage.storage_mb), (2, 1, 10));
    let first = write(&store, |tx| order(tx, &device_of("alice", 1, 1.0)).unwrap().device.host_id).await;
    assert_eq!(first.as_str(), "empty", "the emptiest host is chosen");
}
