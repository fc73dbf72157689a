//! `kill -9` to everybody while they record.

use crate::scene::*;
use nix::sys::signal::Signal;
use phonefleet_tests::real::program::signal;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{Phone, World, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Who is killed in mid-recording.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Agent,
    AdbServer,
    Recorder,
    Phone,
    AgentAndAdbServer,
    AgentAndRecorder,
}

fn strike(world: &mut World, phone: &Phone, recording: &str, victim: Victim) {
    let recorder = || {
        for pid in recorders(recording) {
            signal(pid, Signal::SIGKILL);
        }
    };
    match victim {
        Victim::Agent => {
            world.agent().kill();
            world.agent().start_again();
        }
        Victim::AdbServer => kill_adb_server(world),
        Victim::Recorder => recorder(),
        Victim::Phone => kill_phone(world, phone),
        Victim::AgentAndAdbServer => {
            world.agent().kill();
            kill_adb_server(world);
            world.agent().start_again();
        }
        Victim::AgentAndRecorder => {
            world.agent().kill();
            recorder();
            world.agent().start_again();
        }
    }
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

/// Everything of a finished round: whole, or torn for the reason that is told.
fn assert_true(world: &World, phone: &Phone, view: &Value, victims: &[Victim], stopped: bool, what: &str) {
    let died = victims.iter().any(|victim| matches!(victim, Victim::Phone));
    let killed = victims.iter().any(|victim| matches!(victim, Victim::Recorder | Victim::AgentAndRecorder));
    match view["status"].as_str() {
        Some("FINAL") => {
            let cause = text(&view["endCause"]);
            assert!(cause == "TIME_LIMIT" || stopped && cause == "STOPPED", "{what}: {view}");
            assert_whole(world, phone, view);
        }
        Some("CORRUPT") => {
            let cause = text(&view["endCause"]);
            let fits = match cause.as_str() {
                "DEVICE_DIED" => died,
                "PROCESS_ENDED" => killed,
                // Asked for before it was torn.
                "STOPPED" => stopped && killed,
                _ => false,
            };
            assert!(fits, "{what}: {view}");
            assert_torn(world, phone, view, &cause);
        }
        // Stopped before it had begun, or killed before there was a byte.
        Some("FAILED") => {
            let fits = match text(&view["reason"]["code"]).as_str() {
                "NEVER_STARTED" => stopped && view["endCause"] == "STOPPED",
                "DEVICE_DIED" | "DEVICE_NOT_RUNNING" => died,
                "NO_VIDEO" => killed,
                _ => false,
            };
            assert!(fits, "{what}: {view}");
        }
        _ => panic!("{what}: {view}"),
    }
}

#[test]
fn whoever_is_killed_every_recording_ends_whole_or_with_the_true_reason() {
    if let Some(world) = world() {
        in_many_rounds(world);
    }
}

pub fn in_many_rounds(mut world: World) {
    let rounds = from_environment("PHONEFLEET_RECORDING_ROUNDS").unwrap_or(8);
    let seed = from_environment("PHONEFLEET_RECORDING_SEED").unwrap_or_else(now);
    println!("PHONEFLEET_RECORDING_SEED={seed} PHONEFLEET_RECORDING_ROUNDS={rounds}");
    let mut dice = Dice(seed | 1);
    let mut phone = world.phone("phone-0");
    let mut ends = std::collections::BTreeMap::<String, u32>::new();
    for round in 1..=rounds {
        let limit = 3 + dice.below(4);
        let recording = record(&world, &phone, limit);
        let began = Instant::now();
        let mut victims = Vec::new();
        for _ in 0..=dice.below(2) {
            let pause = Duration::from_millis(dice.below(2500));
            std::thread::sleep(pause);
            let victim = match dice.below(10) {
                0..=2 => Victim::Agent,
                3 | 4 => Victim::AdbServer,
                5 => Victim::Recorder,
                6 => Victim::Phone,
                7 | 8 => Victim::AgentAndAdbServer,
                _ => Victim::AgentAndRecorder,
            };
            // The first death decides: a phone that is dead is no victim any more.
            let dead = matches!(victims.last(), Some(Victim::Phone));
            if dead && matches!(victim, Victim::Phone) {
                continue;
            }
            strike(&mut world, &phone, &recording, victim);
            victims.push(victim);
        }
        let stopped = dice.below(2) == 0;
        if stopped {
            stop(&world, &recording);
        }
        let what = format!("seed {seed}, round {round}, limit {limit} s, {victims:?}, stopped {stopped}");
        let view = over(&world, &recording, Duration::from_secs(90));
        assert_true(&world, &phone, &view, &victims, stopped, &what);
        assert!(recorders(&recording).is_empty(), "{what}");
        let end = format!("{} {}", text(&view["status"]), text(&view["endCause"]));
        println!("{what}: {end} after {:?}", began.elapsed());
        *ends.entry(end).or_default() += 1;
        if victims.iter().any(|victim| matches!(victim, Victim::Phone)) {
            // Five deaths in ten minutes are a crash loop: on with a fresh one.
            let saga = world.verb(&phone.id, "delete");
            world.completed(&saga);
            phone = world.phone(&format!("phone-{round}"));
        }
    }
    println!("{ends:?}");
    until("every folder is swept", Duration::from_secs(60), || {
        let folder = world.data(&phone).join("local/tmp/phonefleet");
        let left: Vec<_> =
            std::fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_default();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let orphans = world.api.get("/recordings?limit=1")["summary"]["orphans"].clone();
    assert_eq!(orphans, json!(0), "recorders without a row");
    world.do_verb(&phone.id, "delete");
    world.clean();
}
