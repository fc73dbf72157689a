//! Rows of both databases, with the JSON in their columns: what a release wrote, the next one
//! reads, also behind its migrations.

use crate::sample::{
    AT, QUESTION, desired, desired_recording, device, facts, outcomes, reason, recording, recording_facts,
    report, spec,
};
use phonefleet_agent::store as agent;
use phonefleet_controller::store as controller;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::{Phase, Ports};
use phonefleet_protocol::host::Heartbeat;
use phonefleet_protocol::recording::{EndCause, RecordingPhase};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::Mode;
use phonefleet_store::rusqlite::{self, Connection};
use phonefleet_tests::golden;
use std::fmt::Debug;
use std::sync::Arc;

/// Holds the one row of a table against its golden form, then puts each form in its place and
/// reads it. Today's must read as `expected`; what an older one did not have, it need not.
fn check_row<T: PartialEq + Debug>(
    connection: &Connection,
    file: &str,
    table: &str,
    expected: &T,
    read: impl Fn() -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<()> {
    golden::check(file, &golden::pretty(&golden::row(connection, table, "1")?));
    for (number, (form, text)) in golden::every_form(file).into_iter().enumerate() {
        golden::put_row(connection, table, &text)?;
        let read = read()?.unwrap_or_else(|| panic!("{form} is not found any more"));
        assert!(number > 0 || read == *expected, "{form}: {read:?} is not {expected:?}");
    }
    Ok(())
}

fn agent_device(outcome: Outcome) -> agent::device::DeviceRow {
    agent::device::DeviceRow {
        applied_boot_count: 2,
        applied_data_epoch: 3,
        phase: Phase::Error,
        reason: Some(reason()),
        container_id: Some("0123456789abcdef".to_owned()),
        built: Some("fedcba".to_owned()),
        booted: true,
        starts: 5,
        deaths: vec![AT, Timestamp(AT.0 + 1)],
        answer: Some(outcome),
        ..agent::device::DeviceRow::new(desired(true))
    }
}

fn agent_recording() -> agent::recording::RecordingRow {
    agent::recording::RecordingRow {
        phase: RecordingPhase::Corrupt,
        data_epoch: 4,
        launched_at: Some(AT),
        boot_mark: Some(77),
        process: Some(agent::recording::PhoneProcess { pid: 42, start_time: 4242 }),
        signal: Some((agent::recording::StopSignal::HangUp, AT)),
        end_cause: Some(EndCause::TimeLimit),
        ending_since: Some(AT),
        ended_at: Some(AT),
        duration_ms: Some(5000),
        bytes: Some(4096),
        sha256: Some("ab".repeat(32)),
        reason: Some(reason()),
        finished_at: Some(AT),
        ..agent::recording::RecordingRow::new(desired_recording(true), "/data/local/tmp/x".to_owned())
    }
}

#[tokio::test]
async fn rows_of_agents_are_read_by_every_later_release() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let store = agent::open(&path, Mode::Inline { gate: None }).unwrap().store;
    let job = |tx: &mut agent::Tx<'_>| {
        for (name, outcome) in outcomes() {
            let row = agent_device(outcome);
            agent::device::put(tx, &row)?;
            let file = format!("agent/device-{name}.json");
            check_row(tx, &file, "device", &row, || agent::device::get(tx, device()))?;
        }
        let row = agent_recording();
        agent::recording::put(tx, &row)?;
        check_row(tx, "agent/recording.json", "recording", &row, || agent::recording::get(tx, recording()))?;
        Ok::<_, rusqlite::Error>(())
    };
    store.write(job).await.unwrap();
}

fn host_row() -> controller::host::HostRow {
    controller::host::HostRow {
        host_id: "host-1".parse().unwrap(),
        machine_id: "machine-1".to_owned(),
        software: "phonefleet-agent/0.1.0".to_owned(),
        report: report(),
        heartbeat: None,
        online: true,
        last_seen_at: AT,
        cordoned: false,
        conflict_with: None,
        conflict_until: Timestamp(0),
        forgotten_at: None,
        registered_at: AT,
    }
}

fn device_row(outcome: Outcome) -> controller::device::DeviceRow {
    controller::device::DeviceRow {
        device_id: device(),
        name: "phone-1".to_owned(),
        user_id: "alice".parse().unwrap(),
        host_id: "host-1".parse().unwrap(),
        status: controller::device::Status::Error,
        spec: spec(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        generation: 7,
        attempt: 2,
        question: Some(QUESTION),
        wish: Wish::Running,
        boot_count: 3,
        data_epoch: 4,
        command_seq: Some(9),
        command_dirty: true,
        answered: (7, 2),
        answer: Some(outcome),
        phase: Some(Phase::Error),
        ports: Some(Ports { adb: 20_001, webrtc: 21_001 }),
        container_id: Some("0123456789abcdef".to_owned()),
        reason: Some(reason()),
        starts: 5,
        saga_id: Some("saga_1767225600000_0123456789abcdef".parse().unwrap()),
        created_at: AT,
        updated_at: AT,
        deleted_at: None,
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        at: AT,
        machine_id: "machine-1".parse().unwrap(),
        instance: "0123".to_owned(),
        cpu_percent: 12.5,
        memory_used_mb: 1000,
        disk_free_mb: 2000,
        phones_running: 3,
        outbox_pending: 4,
        orphan_recorders: 0,
        recordings: Vec::new(),
    }
}

#[tokio::test]
async fn rows_of_controllers_are_read_by_every_later_release() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("controller.db");
    let store = controller::open(&path, Mode::Inline { gate: None }, Arc::new(|_| {})).unwrap();
    let job = |tx: &mut controller::Tx<'_>| {
        let host = controller::host::HostRow { heartbeat: Some(heartbeat()), ..host_row() };
        controller::host::upsert(tx, &host)?;
        controller::host::heard(tx, &host.host_id, &heartbeat(), AT)?;
        let read = || controller::host::find(tx, &host.host_id);
        check_row(tx, "controller/host.json", "host", &host, read)?;
        for (name, outcome) in outcomes() {
            let row = device_row(outcome);
            if controller::device::find(tx, device())?.is_none() {
                controller::device::insert(tx, &row)?;
            }
            controller::device::update(tx, &row, AT)?;
            let file = format!("controller/device-{name}.json");
            check_row(tx, &file, "device", &row, || controller::device::find(tx, device()))?;
        }
        controller::host::put_stray(tx, &host.host_id, &facts(true), AT)?;
        let read = || Ok(controller::host::strays(tx, &host.host_id)?.into_iter().next());
        check_row(tx, "controller/stray_device.json", "stray_device", &facts(true), read)?;
        let row = controller::recording::RecordingRow {
            recording_id: recording(),
            device_id: device(),
            host_id: host.host_id.clone(),
            user_id: "alice".parse().unwrap(),
            status: controller::recording::Status::Corrupt,
            spec: Some(desired_recording(true).spec),
            adopted: false,
            wish: desired_recording(true).wish,
            not_after: AT,
            command_seq: Some(10),
            command_dirty: true,
            phase: Some(RecordingPhase::Corrupt),
            started_at: recording_facts(true).started_at,
            ended_at: recording_facts(true).ended_at,
            end_cause: recording_facts(true).end_cause,
            duration_ms: Some(4999),
            bytes: Some(123_456),
            sha256: recording_facts(true).sha256,
            reason: Some(reason()),
            quota_bytes: 123_456,
            created_at: AT,
            updated_at: AT,
            over_at: Some(AT),
        };
        assert!(controller::recording::insert(tx, &row, None)?);
        controller::recording::update(tx, &row, AT)?;
        let read = || controller::recording::find(tx, recording());
        check_row(tx, "controller/recording.json", "recording", &row, read)?;
        Ok::<_, rusqlite::Error>(())
    };
    store.write(job).await.unwrap();
}

/// A migration that was released is never edited: databases have it already.
#[test]
fn migrations_are_what_they_were() {
    let list = |migrations: &[phonefleet_store::Migration]| {
        migrations.iter().fold(String::new(), |list, migration| {
            // Two numbers of the text, so that no edit leaves both alone by chance.
            let sum = migration.sql.bytes().fold(0_u64, |sum, byte| {
                sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(byte) + 1)
            });
            format!("{list}{} {} {} {sum:016x}\n", migration.number, migration.name, migration.sql.len())
        })
    };
    for (component, migrations) in
        [("agent", agent::SCHEMA.migrations), ("controller", controller::SCHEMA.migrations)]
    {
        let (file, today) = (format!("migrations/{component}.txt"), list(migrations));
        if let Some(golden) = golden::current(&file) {
            assert!(
                today.starts_with(&golden),
                "a migration of the {component} was edited; add a new one instead\n{golden}\nis now\n{today}"
            );
        }
        golden::check(&file, &today);
    }
}
