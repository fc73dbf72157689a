//! The agent's database is removed, or overwritten, while the agent runs. It ends, as it cannot
//! write where anybody would find it; whoever starts it again has the phones back from their
//! labels and the controller's rows, and the loss is counted. A database that a newer program
//! has written is left alone.

use crate::{MINUTE, number};
use phonefleet_store::rusqlite::Connection;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, World, WorldOptions, until};
use std::io::{Seek, Write};
use std::time::Duration;

/// Waits until the agent has ended by itself, and what it said.
fn agent_ends(world: &mut World) -> String {
    let agent = world.agent();
    until("the agent ends by itself", MINUTE, || match agent.ended() {
        Some(status) if !status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    agent.kill(); // only its remains
    agent.output()
}

fn knows_its_phones(world: &World) {
    until("the host knows its phones again", MINUTE, || {
        let rows: Vec<_> = world.devices().iter().map(|device| text(&device["status"])).collect();
        let known: i64 =
            world.host().row("SELECT count(*) FROM device WHERE phase = 'running' AND parked = 0");
        if rows == ["RUNNING", "RUNNING"] && known == 2 { Ok(()) } else { Err(format!("{rows:?}, {known}")) }
    });
}

#[test]
fn a_database_that_is_removed_or_overwritten_under_its_agent_is_made_good_for() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    world.add_host(&HostOptions { first_port: 26_400, ..HostOptions::default() });
    let phones = [world.phone("phone-1"), world.phone("phone-2")];
    world.at_rest();
    let witnesses = phones.each_ref().map(|phone| world.witness(phone));
    let state = world.host().state.clone();
    assert_eq!(number(&world, "phonefleet_controller_logs_begun_anew"), 0);

    for entry in std::fs::read_dir(&state).expect("the agent's state").flatten() {
        if entry.file_name().to_string_lossy().starts_with("agent.db") {
            std::fs::remove_file(entry.path()).expect("a database file");
        }
    }
    let told = agent_ends(&mut world);
    assert!(told.contains("removed or replaced"), "{told}");
    world.agent().start_again();
    knows_its_phones(&world);
    world.at_rest();
    assert_eq!(phones.each_ref().map(|phone| world.witness(phone)), witnesses);
    assert_eq!(number(&world, "phonefleet_controller_logs_begun_anew"), 1);
    assert_eq!(number(&world, "phonefleet_agent_databases_set_aside"), 0, "nothing was left of it");

    // An agent that ends in order leaves no log behind: everything is in the file itself.
    assert!(world.agent().end(MINUTE).success());
    world.agent().start_again();
    let host = world.host().id.clone();
    world.until_online(&host);
    world.at_rest();
    let mut file = std::fs::File::options().write(true).open(state.join("agent.db")).expect("the database");
    let length = file.metadata().expect("its length").len();
    file.rewind().and_then(|()| file.write_all(&vec![0x5a; length as usize])).expect("overwritten");
    let orders = world.order(&World::order_body("during-the-damage", &[]));
    agent_ends(&mut world);
    world.agent().start_again();
    world.completed(&orders.0);
    world.do_verb(&orders.1, "delete");
    knows_its_phones(&world);
    world.at_rest();
    assert_eq!(phones.each_ref().map(|phone| world.witness(phone)), witnesses);
    assert_eq!(number(&world, "phonefleet_agent_databases_set_aside"), 1);
    assert_eq!(number(&world, "phonefleet_controller_logs_begun_anew"), 2);
    assert!(state.join("agent.db.damaged-000001").exists(), "it is kept for whoever wants to look");

    for phone in &phones {
        world.do_verb(&phone.id, "delete");
    }
    world.clean();
}

#[test]
fn a_database_of_a_newer_program_is_refused_and_left_as_it_is() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    world.add_host(&HostOptions { first_port: 26_500, ..HostOptions::default() });
    let phone = world.phone("phone");
    world.at_rest();
    let witness = world.witness(&phone);
    let agent_database = world.host().state.join("agent.db");
    let controller_database = world.folder.join("controller.db");
    let quickly = Duration::from_secs(15);
    assert!(world.agent().end(quickly).success() && world.controller.end(quickly).success());
    let schema = |path: &std::path::Path, version: Option<u32>| -> u32 {
        let connection = Connection::open(path).expect("a database");
        let now = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("its schema");
        if let Some(version) = version {
            connection.pragma_update(None, "user_version", version).expect("another schema");
        }
        now
    };
    let known = [&agent_database, &controller_database].map(|path| schema(path, Some(1000)));
    world.agent().start_again();
    world.controller.start_again();
    let told = agent_ends(&mut world);
    assert!(told.contains("newer version (schema 1000, this program knows"), "{told}");
    assert!(told.contains("run that version again, or restore a backup"), "{told}");
    until("the controller ends by itself", quickly, || match world.controller.ended() {
        Some(status) if !status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    world.controller.kill(); // only its remains
    assert!(world.controller.output().contains("newer version (schema 1000"));

    // The newer program comes back, and finds everything as it was.
    for (path, known) in [&agent_database, &controller_database].into_iter().zip(known) {
        assert_eq!(schema(path, Some(known)), 1000);
    }
    world.controller.start_again();
    world.agent().start_again();
    let host = world.host().id.clone();
    world.until_ready();
    world.until_online(&host);
    world.at_rest();
    assert_eq!(world.witness(&phone), witness);
    assert_eq!(number(&world, "phonefleet_controller_logs_begun_anew"), 0);
    world.do_verb(&phone.id, "delete");
    world.clean();
}
