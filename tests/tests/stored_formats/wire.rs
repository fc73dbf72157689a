//! What travels: whatever an agent or controller of another release says is understood, and
//! what is said today is what it expects.

use crate::sample::{
    AT, desired, desired_recording, device, facts, outcomes, recording, recording_facts, report,
};
use phonefleet_protocol::command::Command;
use phonefleet_protocol::event::Event;
use phonefleet_protocol::host::{Heartbeat, Presence};
use phonefleet_protocol::item::{Decoded, Item};
use phonefleet_protocol::recording::RecordingProgress;
use phonefleet_protocol::stream::message::{Frame, Introduction, Message, PROTOCOL};
use phonefleet_protocol::stream::{Chain, Epoch, Hello, LogHead, Position};
use phonefleet_tests::golden;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};

fn commands() -> Vec<(&'static str, Command)> {
    vec![
        ("device.desire", Command::Desire(desired(true))),
        ("device.desire-absent", Command::Desire(desired(false))),
        ("recording.desire", Command::Record(desired_recording(true))),
        ("recording.desire-stopped", Command::Record(desired_recording(false))),
        ("snapshot.begin", Command::SnapshotBegin {}),
        ("snapshot.devices", Command::SnapshotDevices { devices: vec![desired(true), desired(false)] }),
        (
            "snapshot.recordings",
            Command::SnapshotRecordings {
                recordings: vec![desired_recording(true), desired_recording(false)],
            },
        ),
        ("snapshot.end", Command::SnapshotEnd {}),
    ]
}

fn events() -> Vec<(String, Event)> {
    let mut events: Vec<(String, Event)> = outcomes()
        .into_iter()
        .map(|(name, outcome)| {
            let facts = facts(name == "failed");
            let answer = Event::Answer { generation: 7, attempt: 2, outcome, facts, at: AT };
            (format!("device.answer-{name}"), answer)
        })
        .collect();
    let rest = [
        ("device.changed", Event::Changed { facts: facts(true), at: AT }),
        ("recording.changed", Event::RecordingChanged { facts: recording_facts(true), at: AT }),
        ("recording.changed-starting", Event::RecordingChanged { facts: recording_facts(false), at: AT }),
        ("inventory.begin", Event::InventoryBegin {}),
        ("inventory.devices", Event::InventoryDevices { devices: vec![facts(true), facts(false)] }),
        (
            "inventory.recordings",
            Event::InventoryRecordings { recordings: vec![recording_facts(true), recording_facts(false)] },
        ),
        ("inventory.end", Event::InventoryEnd {}),
    ];
    events.extend(rest.map(|(name, event)| (name.to_owned(), event)));
    events
}

/// Each item in its golden form, and each older form read by today's code.
fn check_items<T: Item + PartialEq + Debug>(folder: &str, samples: &[(String, T)]) {
    let mut kinds = BTreeSet::new();
    for (name, sample) in samples {
        let file = format!("{folder}/{name}.json");
        let written = sample.encode().unwrap();
        golden::check(&file, &format!("{written}\n"));
        let read = |text: &str| {
            let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
            T::decode(&raw).unwrap_or_else(|error| panic!("{text}: {error}"))
        };
        match read(written.get()) {
            Decoded::Known(again) => assert_eq!(again, *sample),
            Decoded::Unknown { kind } => panic!("{kind} is not known"),
        }
        for (form, text) in golden::every_form(&file) {
            assert!(matches!(read(&text), Decoded::Known(_)), "{form} is not understood any more");
        }
        kinds.extend(T::KINDS.iter().find(|kind| name.starts_with(**kind)));
    }
    assert_eq!(kinds, T::KINDS.iter().collect(), "a sample of each kind, please");
}

#[test]
fn commands_are_what_agents_of_every_release_take() {
    let samples: Vec<_> = commands().into_iter().map(|(name, command)| (name.to_owned(), command)).collect();
    check_items("command", &samples);
}

#[test]
fn events_are_what_controllers_of_every_release_take() {
    check_items("event", &events());
}

fn introduction(agent: bool) -> Introduction {
    Introduction {
        protocol: PROTOCOL,
        capabilities: if agent { vec!["example".to_owned()] } else { Vec::new() },
        software: "phonefleet/0.1.0".to_owned(),
        host_id: "host-1".parse().unwrap(),
        machine_id: agent.then(|| "machine-1".parse().unwrap()),
        fleet_id: agent.then(|| "fleet-1".parse().unwrap()),
        report: agent.then(report),
    }
}

fn hello(agent: bool) -> Hello {
    let cursor = Position { epoch: Epoch(0xabc), through: 12, chain: Chain(0x1234) };
    Hello {
        session: 0xf00d,
        answers: agent.then_some(Epoch(0xbeef)),
        settled: agent,
        introduction: introduction(agent),
        log: LogHead { epoch: Epoch(0x77), oldest: 3, last: 9, chain: Chain(0x99) },
        cursor: agent.then_some(cursor),
    }
}

fn frame(full: bool) -> Frame {
    let epoch = Epoch(0xffff_ffff_ffff_fff0);
    let items = vec![Command::SnapshotBegin {}.encode().unwrap(), Command::SnapshotEnd {}.encode().unwrap()];
    Frame {
        epoch,
        first: 41,
        chain: Chain::genesis(epoch),
        items: if full { items } else { Vec::new() },
        ack: full.then_some(Position { epoch: Epoch(1), through: 2, chain: Chain(3) }),
        resend: full,
        refused: full.then_some(Epoch(5)),
    }
}

#[test]
fn messages_are_what_the_other_end_of_every_release_reads() {
    let samples = [
        ("hello-agent", Message::Hello(Box::new(hello(true)))),
        ("hello-controller", Message::Hello(Box::new(hello(false)))),
        ("frame", Message::Frame(frame(true))),
        ("frame-empty", Message::Frame(frame(false))),
    ];
    for (name, sample) in samples {
        let file = format!("message/{name}.json");
        let written = String::from_utf8(sample.encode().unwrap()).unwrap();
        golden::check(&file, &format!("{written}\n"));
        let again = Message::decode(written.as_bytes()).unwrap().encode().unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), written);
        for (form, text) in golden::every_form(&file) {
            assert!(Message::decode(text.as_bytes()).is_ok(), "{form} is not understood any more");
        }
    }
}

fn check_plain<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str, sample: &T) {
    let written = serde_json::to_string(sample).unwrap();
    golden::check(file, &format!("{written}\n"));
    assert_eq!(serde_json::from_str::<T>(&written).unwrap(), *sample);
    for (form, text) in golden::every_form(file) {
        assert!(serde_json::from_str::<T>(&text).is_ok(), "{form} is not understood any more");
    }
}

#[test]
fn heartbeats_and_presence_are_what_they_were() {
    let heartbeat = Heartbeat {
        at: AT,
        machine_id: "machine-1".parse().unwrap(),
        instance: "0123".to_owned(),
        cpu_percent: 12.5,
        memory_used_mb: 1000,
        disk_free_mb: 2000,
        phones_running: 3,
        outbox_pending: 4,
        orphan_recorders: 5,
        recordings: vec![RecordingProgress { recording_id: recording(), bytes: 99 }],
    };
    check_plain("heartbeat/full.json", &heartbeat);
    check_plain("heartbeat/least.json", &Heartbeat { recordings: Vec::new(), ..heartbeat });
    check_plain("presence/online.json", &Presence { online: true, instance: "0123".to_owned() });
    assert_eq!(device().to_string(), "018f3b2a-0000-7000-8000-000000000001");
}

/// The hash that both ends compute over what they have: another one is a fork of every log.
#[test]
fn the_chain_over_items_is_what_it_was() {
    let mut chain = Chain::genesis(Epoch(7));
    let mut text = format!("{chain}\n");
    for item in [r#"{"kind":"snapshot.begin","data":{}}"#, r#"{"kind":"snapshot.end","data":{}}"#] {
        chain = chain.then(item);
        let _ = writeln!(text, "{chain} behind {item}");
    }
    golden::check("chain.txt", &text);
    assert_eq!(golden::every_form("chain.txt").len(), 1, "no release would agree with another");
}
