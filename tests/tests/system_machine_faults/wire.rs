//! What is between the daemons works badly: the broker hangs, or the line to it delivers a byte
//! a second. Orders wait, phones are looked after, and then everything arrives.

use crate::{MINUTE, part_is};
use phonefleet_tests::real::broker::free_port;
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, until};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A line to the broker that can be made slow. Ends with the test's process.
struct Line {
    address: SocketAddr,
    slow: Arc<AtomicBool>,
}

impl Line {
    fn to(broker: SocketAddr) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listener = TcpListener::bind(address).expect("a free port");
        let slow = Arc::new(AtomicBool::new(false));
        let pace = Arc::clone(&slow);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(broker) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let pace = Arc::clone(&pace);
                    std::thread::spawn(move || carry(from, to, &pace));
                }
            }
        });
        Self { address, slow }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, slow: &AtomicBool) {
    let mut bytes = [0; 4096];
    loop {
        let most = if slow.load(Ordering::Relaxed) { 1 } else { bytes.len() };
        match from.read(&mut bytes[..most]) {
            Ok(count) if count > 0 && to.write_all(&bytes[..count]).is_ok() => {}
            _ => break,
        }
        if slow.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// A phone dies and is started again by its host, whoever hears of it.
fn dies_and_comes_back(world: &World, phone: &Phone, starts: u64) {
    let host = world.host_of(phone);
    host.engine.must("POST", &format!("/containers/phonefleet-{}/kill", phone.id), None);
    until("the phone that died runs again", MINUTE, || {
        let sql = format!("SELECT phase || ' ' || starts FROM device WHERE device_id = '{}'", phone.id);
        let row: String = host.row(&sql);
        if row == format!("running {starts}") { Ok(()) } else { Err(row) }
    });
}

fn controller_knows(world: &World, phone: &Phone, starts: u64) {
    until("the controller knows", MINUTE, || {
        let device = world.device(&phone.id);
        let known = device["starts"] == json!(starts) && device["status"] == "RUNNING";
        if known { Ok(()) } else { Err(device.to_string()) }
    });
}

#[test]
fn a_broker_that_hangs_or_a_line_of_a_byte_a_second_only_delays() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    let broker = world.broker.url().trim_start_matches("mqtt://").parse().expect("an address");
    let line = Line::to(broker);
    world.add_host(&HostOptions {
        first_port: 26_600,
        broker: Some(format!("mqtt://{}", line.address)),
        ..HostOptions::default()
    });
    let (quiet, dying) = (world.phone("quiet"), world.phone("dying"));
    world.at_rest();
    let witness = world.witness(&quiet);

    // Taken and not answered.
    world.broker.program().freeze(true);
    let waiting = world.order(&World::order_body("during-the-silence", &[]));
    dies_and_comes_back(&world, &dying, 2);
    let why = part_is(&world, "broker", false);
    println!("of a broker that hangs: {why}");
    let saga = world.saga(&waiting.0);
    assert!(saga["endedAt"].is_null(), "{saga}");
    world.broker.program().freeze(false);
    world.completed(&waiting.0);
    controller_knows(&world, &dying, 2);
    part_is(&world, "broker", true);
    world.at_rest();

    line.slow.store(true, Ordering::Relaxed);
    let waiting = world.order(&World::order_body("on-a-slow-line", &[]));
    dies_and_comes_back(&world, &dying, 3);
    let why = part_is(&world, "broker", false);
    println!("of a line that is slow: {why}");
    let saga = world.saga(&waiting.0);
    assert!(saga["endedAt"].is_null(), "{saga}");
    line.slow.store(false, Ordering::Relaxed);
    world.completed(&waiting.0);
    controller_knows(&world, &dying, 3);
    world.at_rest();
    assert_eq!(world.witness(&quiet), witness, "the quiet phone was touched");
    for device in world.devices() {
        world.do_verb(device["id"].as_str().expect("an id"), "delete");
    }
    world.clean();
}
