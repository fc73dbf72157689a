//! Daemons are upgraded over databases of an earlier release, with phones that run and an order in
//! flight: they go on where the others were, and no phone is touched.

use phonefleet_agent::store::SCHEMA as AGENT;
use phonefleet_controller::order::Verb;
use phonefleet_controller::store::SCHEMA as CONTROLLER;
use phonefleet_controller::store::saga::SagaStatus;
use phonefleet_store::migration::Schema;
use phonefleet_store::rusqlite::Connection;
use phonefleet_store::{Mode, Options, Store};
use phonefleet_tests::fleet::{Daemon, Fleet, spec};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// The first schema of each daemon in which there are devices.
const FIRST: usize = 2;

/// Makes the database at `path` one that the release with so many migrations has left: its tables,
/// and in them what the present ones have, in the columns that there were.
fn made_by_release(path: &Path, schema: Schema, migrations: usize) {
    let folder = tempfile::tempdir_in(path.parent().expect("a folder")).expect("a folder");
    let earlier = folder.path().join("earlier.db");
    let options = Options {
        path: earlier.clone(),
        schema: Schema { migrations: &schema.migrations[..migrations], ..schema },
        mode: Mode::Inline { gate: None },
    };
    drop(Store::open(&options, |_: Vec<()>| {}).expect("a database of that release"));
    let connection = Connection::open(&earlier).expect("the database");
    connection.execute("ATTACH ?1 AS present", [path.to_str().expect("a path")]).expect("the present one");
    let list = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).expect(sql);
        let rows = statement.query_map([], |row| row.get(0)).expect(sql);
        rows.collect::<Result<_, _>>().expect(sql)
    };
    let tables = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
                  AND name <> 'schema_migration'";
    for table in list(tables) {
        let columns = list(&format!("SELECT name FROM pragma_table_info('{table}', 'main')")).join(", ");
        let copy = format!("INSERT INTO main.{table}({columns}) SELECT {columns} FROM present.{table}");
        connection.execute_batch(&format!("DELETE FROM main.{table}; {copy}")).expect(&copy);
    }
    connection.execute_batch("DETACH present").expect("detached");
    connection.close().expect("closed");
    for beside in ["db-wal", "db-shm"] {
        // Not there when all of it was carried over.
        let _ = fs::remove_file(path.with_extension(beside));
    }
    fs::rename(&earlier, path).expect("in its place");
}

/// The daemons of a fleet, and the schema that each is at in that release: the agent's alone, or
/// also the controller's. A controller alone is not put back under an agent of today, which has
/// heard of it what a controller of that time did not say.
fn daemons(fleet: &Fleet, release: usize, all: bool) -> Vec<(&Daemon, Schema, usize)> {
    let agent = (&fleet.hosts[0].agent, AGENT, release.min(AGENT.migrations.len()));
    let controller = (&fleet.controller, CONTROLLER, release);
    if all { vec![agent, controller] } else { vec![agent] }
}

async fn upgraded(release: usize, all: bool) {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let mut phones = Vec::new();
    for name in ["one", "two"] {
        let order = fleet.create(name, spec(&[])).await;
        assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
        phones.push(order.device.device_id);
    }
    let containers = || host.machine.phones().into_iter().map(|phone| phone.container.id);
    let before: Vec<_> = containers().collect();
    let in_flight = fleet.create("in-flight", spec(&["androidboot.phonesim_boot_ms=3000"])).await;
    fleet.until("it boots", || async { host.machine.starts(in_flight.device.device_id) == 1 }).await;
    let daemons = daemons(&fleet, release, all);
    for (daemon, ..) in &daemons {
        daemon.stop();
    }
    sleep(Duration::from_secs(1)).await;
    for (daemon, schema, migrations) in &daemons {
        made_by_release(&daemon.database, *schema, *migrations);
        assert_eq!(daemon.count("PRAGMA user_version"), *migrations as i64, "{release}");
        daemon.release();
    }

    let saga = fleet.ended(&in_flight.saga_id).await;
    assert_eq!(saga.status, SagaStatus::Completed, "{release}: {saga:?}");
    for (daemon, schema, _) in &daemons {
        assert_eq!(daemon.count("PRAGMA user_version"), schema.migrations.len() as i64, "{release}");
    }
    phones.push(in_flight.device.device_id);
    for phone in &phones {
        assert_eq!(host.machine.starts(*phone), 1, "{release}");
    }
    assert!(before.iter().all(|id| containers().any(|now| now == *id)), "{release}");
    for side in [&fleet.controller, &host.agent] {
        let begun_anew = side.count("SELECT count(*) FROM inbox_retired");
        assert_eq!(begun_anew, 0, "{release}: nothing of the logs was lost");
    }
    for phone in phones {
        let deletion = fleet.verb(phone, Verb::Delete).await;
        assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed, "{release}");
    }
    fleet.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_goes_on_with_the_database_of_every_earlier_release() {
    for release in FIRST..AGENT.migrations.len() {
        upgraded(release, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_goes_on_with_the_databases_of_every_earlier_release() {
    for release in FIRST..CONTROLLER.migrations.len() {
        upgraded(release, true).await;
    }
}
