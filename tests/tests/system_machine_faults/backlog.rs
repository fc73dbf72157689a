//! Two thousand commands wait for a host that is away. All of them arrive when it is back, once
//! and in their order, although its agent and the broker are killed meanwhile.

use crate::MINUTE;
use phonefleet_store::rusqlite::Connection;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, World, WorldOptions, until};
use serde_json::json;
use std::time::Instant;

/// Orders that wait; as many as commands.
const ORDERS: usize = 2000;
/// Of them, so many are not taken back before the host is there again.
const KEPT: usize = 3;
/// KiB that a daemon may need beyond what it had, unoptimised: each device has a task of its own.
const MEMORY: u64 = 128 << 10;

/// Most memory that a process ever had, KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn two_thousand_commands_for_a_host_that_was_away_arrive_once_and_in_order() {
    let options = WorldOptions { max_devices: ORDERS as u64 + 10, ..WorldOptions::default() };
    let Some(mut world) = World::without_hosts(&options) else { return };
    let ports = ORDERS as u16 + 10;
    world.add_host(&HostOptions { first_port: 22_000, ports, ..HostOptions::default() });
    let beside = world.phone("beside");
    world.at_rest();
    let witness = world.witness(&beside);
    let (memory_controller, memory_agent) = (peak(world.controller.pid()), peak(world.agent().pid()));

    // It hears nothing any more, and is still counted on.
    world.agent().freeze(true);
    let began = Instant::now();
    let mut orders: Vec<(String, String)> = Vec::new();
    for hundred in 0..ORDERS / 100 {
        let bodies: Vec<_> = (0..100)
            .map(|number| World::order_body(&format!("phone-{}", hundred * 100 + number), &[]))
            .collect();
        let results = world.api.post("/devices/batch", Some(&json!({ "devices": bodies }))).data(202);
        for result in results["results"].as_object().expect("results").values() {
            assert_eq!(result["success"], true, "{result}");
            orders.push((text(&result["data"]["sagaId"]), text(&result["data"]["id"])));
        }
    }
    let accepted = began.elapsed();
    until("every order is a command", MINUTE, || {
        let commands: i64 = world.controller_row("SELECT count(*) FROM device WHERE command_seq IS NOT NULL");
        if commands == ORDERS as i64 { Ok(()) } else { Err(format!("{commands}")) }
    });
    world.agent().kill();
    // Users change their minds: each of these becomes a second command, behind the first.
    let (kept, deleted) = orders.split_at(KEPT);
    std::thread::scope(|scope| {
        for part in deleted.chunks(deleted.len().div_ceil(8)) {
            let world = &world;
            scope.spawn(move || part.iter().for_each(|(_, device)| drop(world.verb(device, "delete"))));
        }
    });
    let waiting: i64 = world.controller_row("SELECT count(*) FROM device WHERE command_seq IS NOT NULL");
    assert_eq!(waiting, ORDERS as i64, "one command a device");

    // The host writes down what arrives.
    let database = world.host().state.join("agent.db");
    let connection = Connection::open(&database).expect("the agent's database");
    connection
        .execute_batch(
            "CREATE TABLE arrival(number INTEGER PRIMARY KEY, what TEXT NOT NULL);
             CREATE TRIGGER arrives AFTER INSERT ON device BEGIN
                 INSERT INTO arrival(what) VALUES (new.device_id || ' ' || new.generation || ' ' || new.attempt);
             END;
             CREATE TRIGGER changes AFTER UPDATE ON device
             WHEN new.generation <> old.generation OR new.attempt <> old.attempt BEGIN
                 INSERT INTO arrival(what) VALUES (new.device_id || ' ' || new.generation || ' ' || new.attempt);
             END;",
        )
        .expect("triggers");
    drop(connection);
    let before: i64 = world.host().row("SELECT through FROM inbox_cursor");
    let began = Instant::now();
    world.hosts[0].agent.start_again();
    until("commands arrive", MINUTE, || {
        let now: i64 = world.host().row("SELECT through FROM inbox_cursor");
        if now > before { Ok(()) } else { Err(format!("{now}")) }
    });
    world.hosts[0].agent.kill();
    world.broker.kill();
    world.broker.start_again();
    world.hosts[0].agent.start_again();

    for (saga, _) in kept {
        world.completed(saga);
    }
    until("every deletion has ended well", 5 * MINUTE, || {
        let open: i64 = world.controller_row("SELECT count(*) FROM saga_state WHERE ended_at IS NULL");
        if open == 0 { Ok(()) } else { Err(format!("{open} sagas are open")) }
    });
    let took = began.elapsed();
    let ends = world.controller_column(
        "SELECT type || ' ' || status || ' ' || count(*) FROM saga_state GROUP BY type, status ORDER BY type, status",
    );
    let taken_back = deleted.len();
    let expected = [
        format!("DEVICE_CREATION COMPENSATED {taken_back}"),
        format!("DEVICE_CREATION COMPLETED {}", KEPT + 1),
        format!("DEVICE_DELETION COMPLETED {taken_back}"),
    ];
    assert_eq!(ends, expected);
    world.at_rest();

    let sent = world.controller_column(&format!(
        "SELECT json_extract(payload, '$.data.deviceId') || ' ' || json_extract(payload, '$.data.generation') || ' '
             || json_extract(payload, '$.data.attempt')
         FROM command_outbox WHERE seq > {before} ORDER BY seq"
    ));
    let arrived = world.host().column("SELECT what FROM arrival ORDER BY number");
    assert!(sent.len() >= 2 * ORDERS - KEPT, "{}", sent.len());
    let differs = sent.iter().zip(&arrived).find(|(sent, arrived)| sent != arrived);
    assert_eq!((differs, arrived.len()), (None, sent.len()));
    assert_eq!(world.witness(&beside), witness);
    let more = |before: u64, pid: u32| peak(pid).saturating_sub(before);
    let controller = more(memory_controller, world.controller.pid());
    let agent = more(memory_agent, world.hosts[0].agent.pid());
    println!(
        "{ORDERS} orders accepted in {accepted:?}; {} commands carried out in {took:?}; memory: controller \
         {controller} KiB more, agent {agent} KiB more",
        sent.len()
    );
    assert!(controller < MEMORY && agent < MEMORY, "controller {controller} KiB, agent {agent} KiB");

    for device in world.devices() {
        world.do_verb(&text(&device["id"]), "delete");
    }
    world.clean();
}
