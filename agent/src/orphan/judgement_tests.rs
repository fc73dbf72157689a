//! What is judged to be an orphan, and what may be done about it.

use super::*;
use crate::runtime::{ContainerState, LABEL_DEVICE};
use crate::store::port_lease::PortKind;
use phonefleet_protocol::desired::DesiredDevice;
use phonefleet_protocol::event::Outcome;
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::time::Timestamp;

fn device(last: u8) -> DeviceId {
    format!("018f3b2a-0000-7000-8000-0000000000{last:02x}").parse().unwrap()
}

fn row(last: u8, wish: Wish, phase: Phase) -> (DeviceId, DeviceRow) {
    let mut row = DeviceRow::new(DesiredDevice {
        device_id: device(last),
        generation: 1,
        attempt: 1,
        question: None,
        wish,
        spec: None,
        boot_count: 0,
        data_epoch: 0,
    });
    row.phase = phase;
    row.answer = Some(Outcome::Reached);
    (device(last), row)
}

fn container(name: String, labelled: Option<DeviceId>) -> Container {
    let mut labels = BTreeMap::from([(LABEL_HOST.to_owned(), "h1".to_owned())]);
    if let Some(device) = labelled {
        labels.insert(LABEL_DEVICE.to_owned(), device.to_string());
    }
    Container { id: format!("id of {name}"), name, labels, state: ContainerState::Running }
}

fn nothing() -> Sighting {
    Sighting {
        rows: BTreeMap::new(),
        leases: vec![],
        containers: vec![],
        published: vec![],
        with_data: vec![],
        parked_before: BTreeSet::new(),
    }
}

fn judged(seen: &Sighting) -> Vec<(Kind, String, Remedy)> {
    let pool = PortSettings { adb: 20_000..=20_099, webrtc: 21_000..=21_099, ephemeral: None };
    let judged = judge(&"h1".parse().unwrap(), &pool, seen);
    judged
        .into_iter()
        .map(|(orphan, remedy)| {
            assert_eq!(orphan.removing, remedy != Remedy::Keep);
            (orphan.kind, orphan.what, remedy)
        })
        .collect()
}

#[test]
fn a_host_in_order_has_none() {
    let mut seen = nothing();
    seen.rows.extend([row(1, Wish::Running, Phase::Running), row(2, Wish::Absent, Phase::Absent)]);
    seen.containers.push(container(container_name(device(1)), Some(device(1))));
    seen.with_data.push(device(1));
    seen.leases.push(PortLease { port: 20_000, kind: PortKind::Adb, holder: Holder::Leased(device(1)) });
    seen.leases.push(PortLease {
        port: 20_001,
        kind: PortKind::Adb,
        holder: Holder::Quarantined(Timestamp(0)),
    });
    let labels = seen.containers[0].labels.clone();
    seen.published.push(PublishedPort { port: 20_000, container: "phonefleet-1".into(), labels });
    // Outside of the pool anybody may publish what they like.
    seen.published.push(PublishedPort { port: 80, container: "web".into(), labels: BTreeMap::new() });
    assert_eq!(judged(&seen), []);
}

#[test]
fn what_no_row_knows_is_kept() {
    let mut seen = nothing();
    seen.containers.push(container(container_name(device(1)), Some(device(1))));
    seen.containers.push(container("nameless".into(), None));
    seen.with_data.push(device(2));
    seen.leases.push(PortLease { port: 20_001, kind: PortKind::Adb, holder: Holder::Leased(device(1)) });
    let expected = [
        (Kind::Container, "nameless".to_owned(), Remedy::Keep),
        (Kind::Container, container_name(device(1)), Remedy::Keep),
        (Kind::Port, "20001".to_owned(), Remedy::Keep),
        (Kind::Data, device(2).to_string(), Remedy::Keep),
    ];
    assert_eq!(judged(&seen), expected);
}

#[test]
fn what_rows_prove_to_be_gone_is_removed() {
    let mut seen = nothing();
    seen.rows.extend([row(1, Wish::Absent, Phase::Absent)]);
    seen.containers.push(container("copy".into(), Some(device(1))));
    seen.with_data.push(device(1));
    seen.leases.push(PortLease { port: 20_001, kind: PortKind::Adb, holder: Holder::Leased(device(1)) });
    seen.leases.push(PortLease { port: 20_002, kind: PortKind::Adb, holder: Holder::Leased(device(9)) });
    let expected = [
        (Kind::Container, "copy".to_owned(), Remedy::RemoveContainer("id of copy".to_owned())),
        (Kind::Port, "20001".to_owned(), Remedy::FinishRemoval(device(1))),
        (Kind::Port, "20002".to_owned(), Remedy::ReleasePort(20_002)),
        (Kind::Data, device(1).to_string(), Remedy::FinishRemoval(device(1))),
    ];
    assert_eq!(judged(&seen), expected);
}

#[test]
fn a_removal_under_way_and_one_that_nobody_was_told_of_are_left_to_their_task() {
    for change in [
        |row: &mut DeviceRow| row.phase = Phase::Stopping,
        |row: &mut DeviceRow| row.answer = None,
        |row: &mut DeviceRow| row.desired.wish = Wish::Running,
    ] {
        let mut seen = nothing();
        let (id, mut row) = row(1, Wish::Absent, Phase::Absent);
        change(&mut row);
        seen.rows.insert(id, row);
        seen.with_data.push(id);
        seen.containers.push(container(container_name(id), Some(id)));
        assert_eq!(judged(&seen), []);
        seen.containers.push(container("copy".into(), Some(id)));
        assert_eq!(judged(&seen), [(Kind::Container, "copy".to_owned(), Remedy::Keep)]);
    }
}

#[test]
fn ports_of_the_pool_that_others_publish_are_told_and_parked_devices_listed() {
    let mut seen = nothing();
    let (id, mut parked) = row(3, Wish::Absent, Phase::Absent);
    parked.parked = true;
    parked.reason = Some(Reason::new("PARKED", "the host has data of it"));
    seen.rows.insert(id, parked);
    seen.with_data.push(id);
    let other = BTreeMap::from([(LABEL_HOST.to_owned(), "h2".to_owned())]);
    seen.published.push(PublishedPort { port: 21_050, container: "theirs".into(), labels: other });
    seen.published.push(PublishedPort { port: 20_007, container: "web".into(), labels: BTreeMap::new() });
    let expected = [
        (Kind::Port, "20007".to_owned(), Remedy::Keep),
        (Kind::Port, "21050".to_owned(), Remedy::Keep),
        (Kind::Parked, id.to_string(), Remedy::Keep),
    ];
    assert_eq!(judged(&seen), expected);
}

/// Somebody has removed by hand what the row stands for. One that was parked during the look may
/// have a container that the look came too early for.
#[test]
fn a_parked_device_of_which_nothing_is_left_is_forgotten() {
    let mut seen = nothing();
    for last in 1..=4 {
        let (id, mut parked) = row(last, Wish::Stopped, Phase::Stopped);
        parked.parked = true;
        seen.rows.insert(id, parked);
    }
    seen.parked_before.extend([device(1), device(2), device(3)]);
    seen.containers.push(container(container_name(device(2)), Some(device(2))));
    seen.with_data.push(device(3));
    let expected = [
        (Kind::Parked, device(1).to_string(), Remedy::Forget(device(1))),
        (Kind::Parked, device(2).to_string(), Remedy::Keep),
        (Kind::Parked, device(3).to_string(), Remedy::Keep),
        (Kind::Parked, device(4).to_string(), Remedy::Keep),
    ];
    assert_eq!(judged(&seen), expected);
}

#[test]
fn what_is_being_removed_is_neither_an_orphan_nor_gone() {
    let mut seen = nothing();
    seen.rows.extend([row(1, Wish::Absent, Phase::Stopping), row(2, Wish::Running, Phase::Running)]);
    seen.with_data.extend([device(1), device(2)]);
    assert_eq!(judged(&seen), []);
    let data = |last: u8| (Kind::Data, device(last).to_string(), Some(device(last)));
    assert_eq!(there(&seen), BTreeMap::from([(data(1), true), (data(2), false)]));
    seen.with_data.clear();
    assert_eq!(there(&seen), BTreeMap::new());
}
