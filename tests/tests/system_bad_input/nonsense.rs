//! What is no message at all.

use crate::stranger::{all_is_well, counted, flood, number, publish, rows, topic, unchanged};
use phonefleet_protocol::limits::PACKET_BYTES;
use phonefleet_tests::real::World;

const IGNORED: &str = "phonefleet_controller_messages_ignored";
const IGNORED_BY_AGENT: &str = "phonefleet_agent_messages_ignored";

/// Everything that fits into a packet.
fn nonsense() -> Vec<Vec<u8>> {
    let deep = |open: &str, close: &str| [open.repeat(10_000), "1".to_owned(), close.repeat(10_000)].concat();
    let frame = |items: &str| format!(r#"{{"frame":{{"epoch":"1","first":1,"chain":"0","items":{items}}}}}"#);
    let long = "x".repeat(40_000);
    let texts = [
        "null".to_owned(),
        "5".to_owned(),
        "\"hello\"".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "{} {}".to_owned(),
        "{\"hello\":".to_owned(),
        "{\"hello\":null}".to_owned(),
        "{\"hello\":[1,2,3]}".to_owned(),
        "{\"farewell\":{}}".to_owned(),
        "{\"online\":\"maybe\",\"instance\":7}".to_owned(),
        deep("[", "]"),
        deep("{\"hello\":", "}"),
        frame(&deep("[", "]"))[..9_000].to_owned(),
        frame("{}"),
        frame("[1,2"),
        frame("[1],\"epoch\":\"2\""),
        frame("[1],\"resend\":\"yes\""),
        frame("[1],\"ack\":{\"epoch\":\"1\",\"through\":-1,\"chain\":\"0\"}"),
        frame(&format!("[\"{long}\"]")),
        frame(&format!("[{}1]", "1,".repeat(300))),
        frame("[1]").replace("\"first\":1", "\"first\":0"),
        frame("[1]").replace("\"first\":1", "\"first\":18446744073709551615"),
        frame("[1]").replace("\"first\":1", "\"first\":99999999999999999999999999"),
        frame("[1]").replace("\"first\":1", "\"first\":1e999"),
        frame("[1]").replace("\"chain\":\"0\"", "\"chain\":\"00000000000000000\""),
        frame("[1]").replace("\"epoch\":\"1\"", "\"epoch\":\"../../etc/passwd\""),
        frame("[1]").replace("\"epoch\":\"1\"", "\"epoch\":1"),
        format!("{0},{1}", &frame("[1]")[..frame("[1]").len() - 1], &frame("[2]")[1..]),
        // As large as a packet of the daemons may be: topic and header are a part of it.
        "x".repeat(PACKET_BYTES - 200),
        " ".repeat(PACKET_BYTES - 200),
    ];
    let bytes: [&[u8]; 6] = [
        b"\0",
        b"\0\0\0\0",
        b"\xff\xfe\xfd",
        b"{\"hello\":\"\xc3\x28\"}",
        b"{\"he\0llo\":{}}",
        b"\x16\x03\x01",
    ];
    texts.into_iter().map(String::into_bytes).chain(bytes.map(<[u8]>::to_vec)).collect()
}

#[test]
fn nonsense_on_every_topic_is_counted_and_changes_nothing() {
    let Some(world) = World::start() else { return };
    let phone = world.phone("quiet");
    world.at_rest();
    let witness = world.witness(&phone);
    let before = rows(&world);
    let host = world.host().id.clone();
    let packets = nonsense();

    let (here, there) = (number(&world, IGNORED), number(&world, IGNORED_BY_AGENT));
    for packet in &packets {
        publish(&world, &topic(&host, "up"), packet, false);
        publish(&world, &topic(&host, "telemetry"), packet, false);
        publish(&world, &topic(&host, "presence"), packet, false);
        publish(&world, &topic(&host, "down"), packet, false);
        publish(&world, &topic("nobody", "up"), packet, false);
        publish(&world, &topic("No Such Host!", "up"), packet, false);
        publish(&world, &topic("nobody", "telemetry"), packet, false);
        publish(&world, &topic(&host, "sideways"), packet, false);
        publish(&world, &topic("nobody", "down"), packet, false);
        publish(&world, "phonefleet/v2/hosts", packet, false);
    }
    // Six of these topics reach the controller, one the agent. An empty message is nonsense, too.
    for channel in ["up", "telemetry", "presence", "down"] {
        publish(&world, &topic(&host, channel), b"", false);
    }
    let sent = packets.len() as u64;
    counted(&world, IGNORED, here + sent * 6 + 3);
    counted(&world, IGNORED_BY_AGENT, there + sent + 1);

    // More than a packet of the daemons holds: the broker keeps it from them, and the
    // connections stand.
    for size in [PACKET_BYTES + 1, 5 * PACKET_BYTES] {
        for channel in ["up", "telemetry", "presence", "down"] {
            publish(&world, &topic(&host, channel), &vec![b'x'; size], false);
        }
    }
    unchanged(&world, &before);
    assert_eq!(number(&world, "phonefleet_controller_link_up"), 1);
    all_is_well(&world, "after-nonsense");

    // Floods: what cannot be taken in is dropped, and counted as that.
    for channel in ["up", "telemetry", "presence", "down"] {
        flood(&world, &topic(&host, channel), "{\"hello\":{", 20_000);
    }
    flood(&world, &topic("nobody", "up"), "nonsense", 20_000);
    all_is_well(&world, "after-floods");
    world.at_rest();
    assert_eq!(world.witness(&phone), witness, "the quiet phone was touched");
    world.do_verb(&phone.id, "delete");
    world.clean();
    for program in [&world.controller, &world.host().agent] {
        let log = program.output();
        assert!(!log.contains("panicked"), "{}", program.last_lines(50));
        assert!(!log.contains("no connection to the broker"), "{}", program.last_lines(50));
        assert!(log.len() < 4_000_000, "{} bytes of log", log.len());
    }
}

/// What the broker keeps for whoever comes was there before the daemons: they must not
/// believe it, however well it is made.
#[test]
fn retained_nonsense_is_there_before_the_daemons() {
    let Some(mut world) = World::start() else { return };
    let phone = world.phone("quiet");
    world.at_rest();
    let witness = world.witness(&phone);
    let host = world.host().id.clone();
    world.controller.kill();
    world.agent().kill();
    // A hello that is good in every way, but of another machine and of another day.
    let hello = format!(
        r#"{{"hello":{{"session":"77","protocol":{{"lowest":1,"highest":1}},"hostId":"{host}",
            "machineId":"another-machine","report":{{}},"log":{{"epoch":"7","oldest":1,"last":0,"chain":"7"}}}}}}"#
    );
    for channel in ["up", "down", "telemetry"] {
        publish(&world, &topic(&host, channel), hello.as_bytes(), true);
        publish(&world, &topic("nobody", channel), hello.as_bytes(), true);
    }
    publish(&world, &topic(&host, "presence"), b"{\"online\":\xff", true);
    publish(&world, &topic("nobody", "presence"), &vec![b'['; PACKET_BYTES - 200], true);

    world.controller.start_again();
    world.until_ready();
    world.agent().start_again();
    world.until_online(&host);
    counted(&world, IGNORED, 4);
    counted(&world, IGNORED_BY_AGENT, 1);
    assert_eq!(world.api.call("GET", "/hosts/nobody", None).status, 404);
    all_is_well(&world, "after-retained");
    world.at_rest();
    assert_eq!(world.witness(&phone), witness, "the quiet phone was touched");
    let view = world.api.get(&format!("/hosts/{host}"));
    assert!(view["conflictWith"].is_null(), "{view}");
    world.do_verb(&phone.id, "delete");
    world.clean();
}
