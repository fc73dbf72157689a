//! Well-formed messages of somebody who may not say so.

use crate::stranger::{all_is_well, counted, number, publish, rows, say, topic, unchanged};
use phonefleet_protocol::event::Event;
use phonefleet_protocol::facts::{DeviceFacts, Phase};
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::item::Item;
use phonefleet_protocol::stream::message::{Introduction, Versions};
use phonefleet_protocol::stream::{Chain, Epoch, Frame, Hello, LogHead, Message};
use phonefleet_protocol::time::Timestamp;
use phonefleet_tests::real::{World, until};
use serde_json::value::RawValue;
use std::time::Duration;

const REFUSED: &str = "phonefleet_controller_hellos_refused";
const IGNORED: &str = "phonefleet_controller_messages_ignored";

fn hello(session: u64, host: &str) -> Hello {
    Hello {
        session,
        answers: None,
        settled: false,
        introduction: Introduction {
            protocol: Versions { lowest: 1, highest: 1 },
            capabilities: Vec::new(),
            software: "stranger/1".to_owned(),
            host_id: host.parse().expect("a host id"),
            machine_id: Some("machine-of-a-stranger".parse().expect("a machine id")),
            fleet_id: None,
            report: Some(HostReport::default()),
        },
        log: LogHead::empty(Epoch(session)),
        cursor: None,
    }
}

fn message(hello: &Hello) -> Message {
    Message::Hello(Box::new(hello.clone()))
}

/// The first frame of a log, with items as texts.
fn frame(epoch: u64, items: &[String]) -> Message {
    let items = items.iter().map(|text| RawValue::from_string(text.clone()).expect("JSON")).collect();
    let epoch = Epoch(epoch);
    let chain = Chain::genesis(epoch);
    Message::Frame(Frame { epoch, first: 1, chain, items, ack: None, resend: false, refused: None })
}

#[test]
fn liars_are_refused_and_cut_nobody_off() {
    let Some(world) = World::start() else { return };
    let phone = world.phone("quiet");
    world.at_rest();
    let witness = world.witness(&phone);
    let before = rows(&world);
    let host = world.host().id.clone();
    let up = topic(&host, "up");

    // Strangers on the topic of a living host, and on topics of their own.
    let refused = number(&world, REFUSED);
    let mut session = 100;
    for topic_of in [host.as_str(), "stranger"] {
        let mut lies = Vec::new();
        let mut lie = |change: &dyn Fn(&mut Hello)| {
            session += 1;
            let mut hello = hello(session, topic_of);
            change(&mut hello);
            lies.push(hello);
        };
        lie(&|hello| hello.introduction.host_id = "somebody-else".parse().expect("a host id"));
        lie(&|hello| hello.introduction.fleet_id = Some("fleet-of-others".parse().expect("a fleet id")));
        lie(&|hello| hello.introduction.protocol = Versions { lowest: 2, highest: 9 });
        lie(&|hello| hello.introduction.protocol = Versions { lowest: 9, highest: 1 });
        lie(&|hello| hello.introduction.machine_id = None);
        lie(&|hello| hello.introduction.report = None);
        for lie in &lies {
            say(&world, &topic(topic_of, "up"), &message(lie));
        }
    }
    counted(&world, REFUSED, refused + 12);
    // A frame of a stranger, and hellos that are too large to be kept.
    let ignored = number(&world, IGNORED);
    say(
        &world,
        &topic("stranger", "up"),
        &frame(5, &["{\"kind\":\"inventory.end\",\"data\":{}}".to_owned()]),
    );
    let mut large = hello(200, "stranger");
    large.introduction.software = "x".repeat(100_000);
    say(&world, &topic("stranger", "up"), &message(&large));
    large.introduction.host_id = host.parse().expect("a host id");
    say(&world, &up, &message(&large));
    // A heartbeat of another machine, and one of nobody.
    let beat = r#"{"at":"2026-01-01T00:00:00Z","machineId":"machine-of-a-stranger","instance":"x","cpuPercent":1.0,
        "memoryUsedMB":1,"diskFreeMB":1,"phonesRunning":99,"outboxPending":0}"#;
    publish(&world, &topic(&host, "telemetry"), beat.as_bytes(), false);
    publish(&world, &topic("stranger", "telemetry"), beat.as_bytes(), false);
    counted(&world, IGNORED, ignored + 5);
    let view = world.api.get(&format!("/hosts/{host}"));
    assert_ne!(view["lastHeartbeat"]["phonesRunning"], 99, "{view}");

    // A controller of another fleet speaks to the agent, and one that names another host.
    let mut other = hello(300, &host);
    other.introduction.machine_id = None;
    other.introduction.report = None;
    other.introduction.fleet_id = Some("fleet-of-others".parse().expect("a fleet id"));
    say(&world, &topic(&host, "down"), &message(&other));
    other.session = 301;
    other.introduction.host_id = "somebody-else".parse().expect("a host id");
    say(&world, &topic(&host, "down"), &message(&other));
    until("the agent tells of the stranger", Duration::from_secs(20), || {
        let log = world.host().agent.output();
        if log.contains("belongs to fleet") || log.contains("fleet-of-others") { Ok(()) } else { Err(log) }
    });
    assert_eq!(number(&world, "phonefleet_agent_link_open"), 1, "the agent was cut off from its controller");
    assert_eq!(world.api.call("GET", "/hosts/stranger", None).status, 404);
    unchanged(&world, &before);
    // At once: a liar must not cost half a minute of silence.
    all_is_well(&world, "after-lies");
    world.at_rest();
    assert_eq!(world.witness(&phone), witness, "the quiet phone was touched");

    from_the_future(&world);
    about_others(&world, &phone.id);
    assert_eq!(world.witness(&phone), witness, "the quiet phone was touched");
    all_is_well(&world, "at-the-end");
}

/// A hello that knows more than this controller, and something that it can: welcome.
fn from_the_future(world: &World) {
    let mut future = hello(400, "future");
    future.introduction.protocol = Versions { lowest: 1, highest: 40 };
    future.introduction.capabilities = vec!["teleport".to_owned(), "\u{1f4f1}".to_owned()];
    let text = String::from_utf8(message(&future).encode().expect("a message")).expect("JSON");
    let text = text.replacen("\"hello\":{", "\"hello\":{\"mood\":{\"is\":[\"good\"]},", 1);
    publish(world, &topic("future", "up"), text.as_bytes(), false);
    world.until_online("future");
    // Nobody is behind it: no phones there.
    world.api.post("/hosts/future/cordon", None).data(200);
}

/// A host that is welcome tells of what is none of its business.
fn about_others(world: &World, phone: &str) {
    let device = world.device(phone);
    let facts = DeviceFacts {
        device_id: phone.parse().expect("an id"),
        generation: 1,
        attempt: 1,
        question: None,
        phase: Phase::Absent,
        ports: None,
        container_id: None,
        reason: None,
        starts: 0,
        boot_count: 0,
        data_epoch: 0,
    };
    let event = |facts: DeviceFacts| Event::Changed { facts, at: Timestamp(0) }.encode().expect("an item");
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let items = [
        event(facts.clone()).get().to_owned(),
        event(DeviceFacts { generation: u64::MAX, ..facts }).get().to_owned(),
        "17".to_owned(),
        "{}".to_owned(),
        "{\"kind\":\"device.changed\"}".to_owned(),
        "{\"kind\":\"device.changed\",\"data\":{\"facts\":1}}".to_owned(),
        "{\"kind\":\"device.changed\",\"kind\":\"device.answer\",\"data\":{}}".to_owned(),
        format!("{{\"kind\":\"device.changed\",\"data\":{deep}}}"),
        deep.clone(),
    ];
    let unknown = format!("{{\"kind\":\"moon.landed\",\"data\":{deep}}}");
    say(world, &topic("future", "up"), &frame(400, &[&items[..], &[unknown]].concat()));
    counted(world, "phonefleet_controller_dead_letters", items.len() as u64);
    counted(world, "phonefleet_controller_unknown_items", 1);
    let reasons = world.controller_column("SELECT reason FROM inbox_dead_letter ORDER BY seq");
    assert_eq!(reasons.len(), items.len(), "{reasons:?}");
    assert!(reasons[0].contains("belongs to host"), "{reasons:?}");
    assert!(reasons.iter().all(|reason| !reason.is_empty()), "{reasons:?}");
    assert_eq!(world.device(phone), device, "another host changed it");
    // And it can go on: the cursor has moved past all of them.
    let through: i64 = world.controller_row("SELECT through FROM inbox_cursor WHERE peer = 'future'");
    assert_eq!(through, items.len() as i64 + 1);
}
