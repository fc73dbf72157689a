//! How soon an end is known: from what ends a recording until the controller has the checked
//! video in its list.

use crate::scene::*;
use nix::sys::signal::Signal;
use phonefleet_tests::real::World;
use phonefleet_tests::real::program::signal;

/// What is promised, in milliseconds.
const PROMISED: u64 = 1000;
/// So often at most: a machine that is busy with something else is no reason to fail.
const TRIES: usize = 4;

#[test]
fn every_end_is_noticed_within_a_second() {
    if let Some(world) = world() {
        within_a_second(&world);
    }
}

pub fn within_a_second(world: &World) {
    for (way, cause) in [
        ("its time is over", "TIME_LIMIT"),
        ("its recorder dies", "PROCESS_ENDED"),
        ("its phone is stopped", "STOPPED"),
        ("its phone dies", "DEVICE_DIED"),
    ] {
        let mut delays = Vec::new();
        while delays.len() < TRIES && delays.iter().all(|delay| *delay > PROMISED) {
            let phone =
                world.phone(&format!("phone-{}-{}", cause.to_lowercase().replace('_', "-"), delays.len()));
            let recording = record(world, &phone, if cause == "TIME_LIMIT" { 3 } else { 170 });
            recorded(world, &phone, &recording, 5_000);
            let struck = now();
            let mut stopping = None;
            match cause {
                "TIME_LIMIT" => {}
                "PROCESS_ENDED" => {
                    for pid in recorders(&recording) {
                        signal(pid, Signal::SIGKILL);
                    }
                }
                "STOPPED" => stopping = Some(world.verb(&phone.id, "stop")),
                _ => kill_phone(world, &phone),
            }
            let view = over(world, &recording, SOON);
            if cause == "STOPPED" {
                assert_whole(world, &phone, &view);
            } else {
                assert_eq!(view["endCause"], cause, "{way}: {view}");
            }
            // The file says when it was finished.
            let ended = if cause == "TIME_LIMIT" { milliseconds(&view, "endedAt") } else { struck };
            delays.push(milliseconds(&view, "updatedAt").saturating_sub(ended));
            if let Some(saga) = stopping {
                world.completed(&saga);
            }
            world.do_verb(&phone.id, "delete");
        }
        println!("{way}: noticed after {delays:?} ms");
        assert!(delays.iter().any(|delay| *delay <= PROMISED), "{way}: noticed after {delays:?} ms");
    }
    world.clean();
}
