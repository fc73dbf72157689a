//! Somebody else at the broker; and everything in the databases that he must not change.

use phonefleet_protocol::stream::Message;
use phonefleet_tests::real::program::run;
use phonefleet_tests::real::{Phone, World, until};
use std::collections::BTreeMap;
use std::time::Duration;

/// Publishes one message, in MQTT 5.
pub fn publish(world: &World, topic: &str, payload: &[u8], retained: bool) {
    let file = world.folder.join("payload");
    std::fs::write(&file, payload).expect("a payload");
    let mut further = vec!["-f".to_owned(), file.display().to_string()];
    if retained {
        further.push("-r".to_owned());
    }
    mosquitto_pub(world, topic, &further);
}

/// Publishes the same line so many times, as fast as the broker takes it.
pub fn flood(world: &World, topic: &str, line: &str, times: usize) {
    let file = world.folder.join("flood");
    std::fs::write(&file, format!("{line}\n").repeat(times)).expect("many lines");
    let command = format!(
        "mosquitto_pub -V mqttv5 -h 127.0.0.1 -p {} -q 0 -t '{topic}' -l <'{}'",
        port(world),
        file.display()
    );
    run(["sh", "-c", &command]).expect("a flood");
}

pub fn say(world: &World, topic: &str, message: &Message) {
    publish(world, topic, &message.encode().expect("a message"), false);
}

fn mosquitto_pub(world: &World, topic: &str, further: &[String]) {
    let port = port(world);
    let words = ["mosquitto_pub", "-V", "mqttv5", "-h", "127.0.0.1", "-q", "1", "-p", &port, "-t", topic];
    run(words.into_iter().map(str::to_owned).chain(further.iter().cloned())).expect("mosquitto_pub");
}

fn port(world: &World) -> String {
    world.broker.url().rsplit(':').next().expect("a port").to_owned()
}

/// The topic of a host.
pub fn topic(host: &str, channel: &str) -> String {
    format!("phonefleet/v1/hosts/{host}/{channel}")
}

/// Every row of both databases that somebody decided: without heartbeats, and without the
/// acknowledged number, which is a note only.
pub fn rows(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut rows = of("controller", |sql| world.controller_column(sql));
    rows.extend(of("agent", |sql| world.host().column(sql)));
    rows
}

fn of(daemon: &str, column: impl Fn(&str) -> Vec<String>) -> BTreeMap<String, Vec<String>> {
    let volatile = ["heartbeat", "last_seen_at", "online", "acknowledged"];
    let tables = column("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
    let read = |table: &str| {
        let columns: Vec<String> = column(&format!("SELECT name FROM pragma_table_info('{table}')"))
            .into_iter()
            .filter(|name| !volatile.contains(&name.as_str()))
            .map(|name| format!("quote({name})"))
            .collect();
        column(&format!("SELECT {} FROM {table} ORDER BY 1", columns.join(" || ' ' || ")))
    };
    tables.iter().map(|table| (format!("{daemon} {table}"), read(table))).collect()
}

/// Asserts that nothing changed since `before`.
#[track_caller]
pub fn unchanged(world: &World, before: &BTreeMap<String, Vec<String>>) {
    let after = rows(world);
    for (table, rows) in before {
        assert_eq!(Some(rows), after.get(table), "{table} has changed");
    }
}

/// One number of a daemon: of the agent when its name begins so, else of the controller.
pub fn number(world: &World, name: &str) -> u64 {
    let api = if name.starts_with("phonefleet_agent") { world.host().local_api } else { world.api };
    let text = api.call("GET", "/metrics", None).text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
    line.parse::<f64>().unwrap_or_else(|error| panic!("{name}: {error}: {line}")) as u64
}

/// Waits until a number is so large.
pub fn counted(world: &World, name: &str, least: u64) {
    until(&format!("{name} is {least} or more"), Duration::from_secs(30), || match number(world, name) {
        found if found >= least => Ok(()),
        found => Err(found.to_string()),
    });
}

/// A real order still goes all the way, and its phone goes again.
#[track_caller]
pub fn all_is_well(world: &World, name: &str) {
    let phone: Phone = world.phone(name);
    assert_eq!(world.getprop(&phone, "sys.boot_completed"), "1");
    world.do_verb(&phone.id, "delete");
}
