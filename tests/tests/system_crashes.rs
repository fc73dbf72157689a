//! `kill -9` to agent, controller, broker and engine, at each step of a creation and of a
//! deletion, and at random with orders running. After each: sagas ended, everything fits
//! together ([`World::at_rest`]), and no running phone was restarted.
//!
//! `PHONEFLEET_CRASH_ROUNDS` (20) and `PHONEFLEET_CRASH_SEED` (the time) steer the random
//! part; the seed is printed.

use phonefleet_tests::real::audit::AdbMay;
use phonefleet_tests::real::phone::Witness;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, until, within};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Who is killed. All of them come back at once, as under systemd.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Agent,
    Controller,
    /// With everything that it knew.
    Broker,
    /// dockerd; containers live on.
    Engine,
    /// dockerd and its containerd.
    EngineAndContainerd,
}

/// A world with ports that no other test uses: an engine that is killed in mid-start may
/// hold on to a port for as long as it lives.
fn world() -> Option<World> {
    let mut world = World::without_hosts(&WorldOptions::default())?;
    world.add_host(&HostOptions { first_port: 24_000, ..HostOptions::default() });
    Some(world)
}

fn strike(world: &mut World, victim: Victim) {
    match victim {
        Victim::Agent => {
            world.agent().kill();
            world.agent().start_again();
        }
        Victim::Controller => {
            world.controller.kill();
            world.controller.start_again();
        }
        Victim::Broker => {
            world.broker.kill();
            world.broker.start_again();
        }
        Victim::Engine | Victim::EngineAndContainerd => {
            let engine = world.host().engine.clone();
            engine.kill(matches!(victim, Victim::EngineAndContainerd));
            engine.restart();
        }
    }
}

/// When it happens. A moment that is missed is taken as soon as that is known.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The creation has come to this step.
    Creating(&'static str),
    /// The new phone's container is there, in this state.
    Container(&'static str),
    /// The deletion has come to this step.
    Deleting(&'static str),
    /// The old phone's container is gone.
    Gone,
    /// So many milliseconds after the orders.
    After(u64),
}

const MOMENTS: &[Moment] = &[
    Moment::Creating("ALLOCATE_PORTS"),
    Moment::Creating("CREATE_PROVIDER_DEVICE"),
    Moment::Container("created"),
    Moment::Creating("START_DEVICE"),
    Moment::Container("running"),
    Moment::Deleting("REMOVE_DEVICE"),
    Moment::Gone,
    Moment::After(15),
    Moment::After(60),
    Moment::After(150),
    Moment::After(400),
    Moment::After(700),
    Moment::After(1000),
];

/// The orders of one round.
struct Orders {
    creation: String,
    created: String,
    deletion: String,
    deleted: String,
}

fn wait_for(world: &World, moment: Moment, orders: &Orders) {
    const CREATION: [&str; 5] = [
        "ALLOCATE_PORTS",
        "CREATE_PROVIDER_DEVICE",
        "CREATE_DATABASE_RECORD",
        "REPORT_QUOTA_USAGE",
        "START_DEVICE",
    ];
    const DELETION: [&str; 4] = ["CANCEL_ACTIVE_SAGA", "FINALIZE_RECORDINGS", "REMOVE_DEVICE", "RELEASE"];
    let reached = |saga: &str, steps: &[&str], step: &str| {
        let saga = world.saga(saga);
        let index = steps.iter().position(|known| *known == step).expect("a step");
        !saga["endedAt"].is_null() || saga["stepIndex"].as_u64() >= Some(index as u64)
    };
    let state_of = |device: &str| {
        let states = world.host().engine.states(&world.host().id).unwrap_or_default();
        states.into_iter().find(|(owner, _)| owner == device).map(|(_, state)| state)
    };
    let began = Instant::now();
    let patience = Duration::from_secs(20);
    loop {
        let now = match moment {
            Moment::Creating(step) => reached(&orders.creation, &CREATION, step),
            Moment::Deleting(step) => reached(&orders.deletion, &DELETION, step),
            Moment::Container(state) => {
                state_of(&orders.created).is_some_and(|now| now == state || now == "running")
            }
            Moment::Gone => state_of(&orders.deleted).is_none(),
            Moment::After(millis) => began.elapsed() >= Duration::from_millis(millis),
        };
        if now {
            return;
        }
        assert!(began.elapsed() < patience, "{moment:?} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every phone that runs, with the proof that it was not restarted.
fn witnesses<'a>(world: &World, phones: impl IntoIterator<Item = &'a Phone>) -> BTreeMap<String, Witness> {
    phones.into_iter().map(|phone| (phone.name.clone(), world.witness(phone))).collect()
}

fn at_each_step(victim: Victim) {
    let Some(mut world) = world() else { return };
    let beside = [world.phone("beside-1"), world.phone("beside-2")];
    let mut previous = world.phone("phone-0");
    let expected = witnesses(&world, &beside);
    world.at_rest();
    for (number, moment) in MOMENTS.iter().enumerate() {
        let name = format!("phone-{}", number + 1);
        if matches!(victim, Victim::Broker) {
            // Connections that break young are made again after a growing pause.
            std::thread::sleep(Duration::from_millis(2100));
        }
        let began = Instant::now();
        let (creation, created) = world.order(&World::order_body(&name, &[]));
        let deletion = world.verb(&previous.id, "delete");
        let orders = Orders { creation, created, deletion, deleted: previous.id.clone() };
        wait_for(&world, *moment, &orders);
        let struck = began.elapsed();
        strike(&mut world, victim);
        for saga in [&orders.creation, &orders.deletion] {
            let state = world.ended(saga, Duration::from_secs(120));
            assert_eq!(
                state["status"],
                "COMPLETED",
                "{victim:?} killed at {moment:?}, {struck:?} after the orders: {state}\n{}",
                world.story(saga)
            );
        }
        let ended = began.elapsed();
        world.nearly_at_rest();
        assert_eq!(witnesses(&world, &beside), expected, "{victim:?} killed at {moment:?}");
        previous = world.running_phone(&orders.created);
        assert_eq!(world.boots(&previous), "1", "{victim:?} killed at {moment:?}: one boot is enough");
        println!(
            "{victim:?} killed at {moment:?} ({struck:?}): ended {ended:?}, at rest {:?}",
            began.elapsed()
        );
    }
    world.at_rest();
    for phone in beside.iter().chain([&previous]) {
        world.do_verb(&phone.id, "delete");
    }
    world.clean();
}

#[test]
fn the_agent_is_killed_at_each_step() {
    at_each_step(Victim::Agent);
}

#[test]
fn the_controller_is_killed_at_each_step() {
    at_each_step(Victim::Controller);
}

#[test]
fn the_broker_is_killed_at_each_step() {
    at_each_step(Victim::Broker);
}

#[test]
fn the_engine_is_killed_at_each_step() {
    at_each_step(Victim::Engine);
}

/// An upgrade: both daemons end when they are asked to, and start again.
#[test]
fn daemons_that_are_asked_to_end_leave_phones_alone() {
    let Some(mut world) = world() else { return };
    let phones = [world.phone("phone-1"), world.phone("phone-2")];
    world.at_rest();
    let expected = witnesses(&world, &phones);
    // An order that has just been accepted goes on behind it.
    let (creation, created) = world.order(&World::order_body("phone-3", &[]));
    let agent = world.agent().end(Duration::from_secs(15));
    let controller = world.controller.end(Duration::from_secs(15));
    assert!(agent.success() && controller.success(), "agent {agent}, controller {controller}");
    world.agent().start_again();
    world.controller.start_again();
    world.completed(&creation);
    world.at_rest();
    assert_eq!(witnesses(&world, &phones), expected);
    world.do_verb(&created, "delete");

    // Its last will, and its goodbye, are hints only: a host that is silent is told so.
    world.agent().end(Duration::from_secs(15));
    let host = world.host().id.clone();
    until("the host is unreachable", Duration::from_secs(60), || {
        let host = world.api.get(&format!("/hosts/{host}"));
        if host["status"] == "UNREACHABLE" { Ok(()) } else { Err(host.to_string()) }
    });
    let waits = world.verb(&phones[0].id, "delete");
    until("the deletion says what it waits for", Duration::from_secs(20), || {
        let saga = world.saga(&waits);
        if saga["waitReason"] == "HOST_UNREACHABLE" { Ok(()) } else { Err(saga.to_string()) }
    });
    world.agent().start_again();
    world.completed(&waits);
    world.at_rest();
    assert_eq!(witnesses(&world, &phones[1..])["phone-2"], expected["phone-2"]);
    world.do_verb(&phones[1].id, "delete");
    world.clean();
}

/// The agent's database is gone: its phones are found, known again and not touched.
#[test]
fn an_agent_without_its_memory_finds_its_phones() {
    let Some(mut world) = world() else { return };
    let phones = [world.phone("phone-1"), world.phone("phone-2")];
    world.at_rest();
    let expected = witnesses(&world, &phones);
    world.agent().kill();
    let state = world.host().state.clone();
    for entry in std::fs::read_dir(&state).expect("the agent's state").flatten() {
        if entry.file_name().to_string_lossy().starts_with("agent.db") {
            std::fs::remove_file(entry.path()).expect("a database file");
        }
    }
    world.agent().start_again();
    until("the agent has a database again", Duration::from_secs(30), || {
        if state.join("agent.db").exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
    until("the host knows its phones again", Duration::from_secs(60), || {
        let rows: Vec<_> = world.devices().iter().map(|device| text(&device["status"])).collect();
        let known: i64 = world.host().row("SELECT count(*) FROM device WHERE phase = 'running'");
        if rows == ["RUNNING", "RUNNING"] && known == 2 {
            Ok(())
        } else {
            Err(format!("{rows:?}, {known} known"))
        }
    });
    world.at_rest();
    assert_eq!(witnesses(&world, &phones), expected);
    assert_eq!(world.getprop(&phones[0], "sys.boot_completed"), "1");
    for phone in &phones {
        world.do_verb(&phone.id, "delete");
    }
    world.clean();
}

/// Numbers that look random, the same for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn anybody_is_killed_at_random_with_orders_running() {
    let Some(mut world) = world() else { return };
    let rounds = from_environment("PHONEFLEET_CRASH_ROUNDS").unwrap_or(12);
    let seed = from_environment("PHONEFLEET_CRASH_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        now.as_millis() as u64
    });
    println!("PHONEFLEET_CRASH_SEED={seed} PHONEFLEET_CRASH_ROUNDS={rounds}");
    let mut dice = Dice(seed | 1);
    let mut ordered = 0;
    for round in 1..=rounds {
        let began = Instant::now();
        let before = world.devices();
        let mut untouched: Vec<Phone> = Vec::new();
        let mut sagas: Vec<(String, String)> = Vec::new();
        let mut orders = Vec::new();

        // Some verbs on what is there, and some new phones.
        for device in &before {
            let id = text(&device["id"]);
            let running = device["status"] == "RUNNING";
            let verb = match dice.below(if before.len() > 6 { 7 } else { 14 }) {
                0 | 1 => "delete",
                2 if running => "stop",
                2 | 3 if !running => "start",
                3 => "reboot",
                4 => "reset",
                _ if running => {
                    untouched.push(world.running_phone(&id));
                    continue;
                }
                _ => continue,
            };
            orders.push((verb, id, text(&device["name"])));
        }
        let expected = witnesses(&world, &untouched);
        for (verb, id, name) in &orders {
            sagas.push((world.verb(id, verb), format!("{verb} {name}")));
        }
        for _ in 0..=dice.below(3) {
            ordered += 1;
            let name = format!("phone-{ordered}");
            sagas.push((world.order(&World::order_body(&name, &[])).0, format!("create {name}")));
        }

        // One to three deaths.
        let mut deaths = Vec::new();
        for _ in 0..=dice.below(3) {
            let pause = Duration::from_millis(dice.below(900));
            std::thread::sleep(pause);
            let victim = match dice.below(9) {
                0..=2 => Victim::Agent,
                3 | 4 => Victim::Controller,
                5 | 6 => Victim::Broker,
                7 => Victim::Engine,
                _ => Victim::EngineAndContainerd,
            };
            strike(&mut world, victim);
            deaths.push((victim, pause));
        }
        let what = || format!("seed {seed}, round {round}, {deaths:?}, {sagas:?}");
        for (saga, order) in &sagas {
            let ended = within(Duration::from_secs(150), || {
                let state = world.saga(saga);
                if state["endedAt"].is_null() { Err(state) } else { Ok(state) }
                    .map_err(|state: Value| state.to_string())
            });
            let state = ended.unwrap_or_else(|state| {
                panic!("{order} does not end: {state}; {}\n{}", what(), world.story(saga))
            });
            assert_eq!(state["status"], "COMPLETED", "{order}: {state}; {}\n{}", what(), world.story(saga));
        }
        let misfits = within(Duration::from_secs(60), || {
            let faults = world.misfits(AdbMay::BeOffline);
            if faults.is_empty() { Ok(()) } else { Err(faults.join("\n  ")) }
        });
        if let Err(faults) = misfits {
            panic!("{}:\n  {faults}", what());
        }
        assert_eq!(witnesses(&world, &untouched), expected, "a running phone was restarted: {}", what());
        println!(
            "round {round}: {} orders, {deaths:?}, {} phones untouched, {:?}",
            sagas.len(),
            untouched.len(),
            began.elapsed()
        );
    }
    for device in world.devices() {
        world.do_verb(&text(&device["id"]), "delete");
    }
    world.clean();
}
