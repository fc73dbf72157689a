//! An agent's database that is damaged while the agent is down, or that is gone: set aside,
//! and made good for from the engine's labels and the controller's rows. No phone is touched.

use phonefleet_controller::order::Verb;
use phonefleet_controller::store::device::Status;
use phonefleet_controller::store::saga::SagaStatus;
use phonefleet_store::damage::all_set_aside;
use phonefleet_tests::fleet::{Fleet, spec};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// What may befall the files of a database.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The first bytes are those of something else.
    Header,
    /// Pages in its middle are empty.
    Pages,
    /// It ends too early.
    Cut,
    /// It is not there any more.
    Gone,
}

impl Damage {
    fn befall(self, database: &Path) {
        // What is still in its log is part of it: the damage is of the whole database.
        let _ = fs::remove_file(database.with_extension("db-shm"));
        let _ = fs::remove_file(database.with_extension("db-wal"));
        let bytes = fs::read(database).expect("a database");
        match self {
            Self::Header => fs::write(database, [&[0x5a; 512][..], &bytes[512.min(bytes.len())..]].concat()),
            Self::Pages => {
                let mut bytes = bytes;
                let end = bytes.len();
                bytes[4096.min(end)..].fill(0x5a);
                fs::write(database, bytes)
            }
            Self::Cut => fs::write(database, &bytes[..bytes.len() / 2]),
            Self::Gone => fs::remove_file(database),
        }
        .expect("it can be damaged");
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_database_is_set_aside_and_no_phone_is_touched() {
    for damage in [Damage::Header, Damage::Pages, Damage::Cut, Damage::Gone] {
        let fleet = Fleet::start(1).await;
        let host = &fleet.hosts[0];
        let mut phones = Vec::new();
        for name in ["one", "two"] {
            let order = fleet.create(name, spec(&[])).await;
            assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
            phones.push(order.device.device_id);
        }
        let containers = |fleet: &Fleet| {
            let phones = fleet.hosts[0].machine.phones();
            phones.into_iter().map(|phone| phone.container.id).collect::<Vec<_>>()
        };
        let (before, ports) = (containers(&fleet), fleet.device(phones[0]).await.ports);
        host.agent.stop();
        sleep(Duration::from_secs(2)).await;
        damage.befall(&host.agent.database);
        host.agent.release();

        let epochs = "SELECT count(*) FROM inbox_retired";
        fleet
            .until("the controller meets the new log", || async { fleet.controller.count(epochs) == 1 })
            .await;
        for phone in &phones {
            fleet
                .until("the phones are known again", || async {
                    fleet.device(*phone).await.status == Status::Running
                })
                .await;
            assert_eq!(host.machine.starts(*phone), 1, "{damage:?}");
        }
        assert_eq!(containers(&fleet), before, "{damage:?}");
        assert_eq!(fleet.device(phones[0]).await.ports, ports, "{damage:?}");
        let aside = all_set_aside(&host.agent.database).len();
        assert_eq!(aside, usize::from(!matches!(damage, Damage::Gone)), "{damage:?}");

        for phone in phones {
            fleet
                .until("it is at rest", || async {
                    fleet.hosts[0].agent.count("SELECT count(*) FROM device WHERE parked = 1") == 0
                })
                .await;
            let deletion = fleet.verb(phone, Verb::Delete).await;
            assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed, "{damage:?}");
        }
        fleet.until_clean().await;
    }
}

/// The controller asks for phones again before the engine tells that they are there still: they
/// keep their containers, and those their ports.
#[tokio::test(start_paused = true)]
async fn a_database_that_is_lost_while_the_engine_is_away_costs_no_phone_its_port() {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let mut phones = Vec::new();
    for name in ["one", "two", "three"] {
        let order = fleet.create(name, spec(&[])).await;
        assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
        phones.push(order.device.device_id);
    }
    // The first port is free again: whoever leases just any takes it.
    let deletion = fleet.verb(phones.remove(0), Verb::Delete).await;
    assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    let mut ports = Vec::new();
    for phone in &phones {
        ports.push(fleet.device(*phone).await.ports);
    }
    let before = host.machine.bound_ports();
    host.agent.stop();
    sleep(Duration::from_secs(2)).await;
    Damage::Gone.befall(&host.agent.database);
    host.machine.set_engine_down(true);
    host.agent.release();
    let asked = "SELECT count(*) FROM device WHERE parked = 0";
    fleet
        .until("it is asked for the phones", || async {
            host.agent.database.exists() && host.agent.count(asked) == 2
        })
        .await;
    host.machine.set_engine_down(false);
    for (phone, ports) in phones.iter().zip(ports) {
        fleet
            .until("the phone is known again", || async {
                fleet.device(*phone).await.status == Status::Running
                    && host.agent.count("SELECT count(*) FROM device WHERE phase = 'running'") == 2
            })
            .await;
        assert_eq!(host.machine.starts(*phone), 1);
        assert_eq!(fleet.device(*phone).await.ports, ports);
    }
    assert_eq!(host.machine.bound_ports(), before);
    for phone in phones {
        let deletion = fleet.verb(phone, Verb::Delete).await;
        assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    }
    fleet.until_clean().await;
}

/// A reset had not removed the data before it yet, and nobody remembers that it was one.
#[tokio::test(start_paused = true)]
async fn data_of_before_a_reset_is_removed_though_the_database_was_lost() {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let order = fleet.create("one", spec(&[])).await;
    assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
    let phone = order.device.device_id;
    let reset = fleet.verb(phone, Verb::Reset).await;
    assert_eq!(fleet.ended(&reset.saga_id).await.status, SagaStatus::Completed);
    let starts = host.machine.starts(phone);
    host.agent.stop();
    sleep(Duration::from_secs(2)).await;
    host.machine.put_data_back(phone, 0);
    Damage::Gone.befall(&host.agent.database);
    host.agent.release();
    fleet.until("the old data is gone", || async { host.machine.data() == [(phone, 1)] }).await;
    assert_eq!(host.machine.starts(phone), starts, "the phone runs on");
    let deletion = fleet.verb(phone, Verb::Delete).await;
    assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
    fleet.until_clean().await;
}
