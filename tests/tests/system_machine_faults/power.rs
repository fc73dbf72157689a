//! Power is cut, at random moments with orders under way: what was written and not synced is
//! gone. Whatever was acknowledged to a user, or told to the other daemon, is still there.

use crate::{MINUTE, number};
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, World, WorldOptions, until};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Power cuts of each of the two machines.
const CUTS: u64 = 2;

/// Waits until no thread of a stopped process is in the kernel any more.
fn halted(pid: u32) {
    until("every thread is stopped", MINUTE, || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        for thread in threads.flatten() {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
            if state != Some(Some('T')) && !stat.is_empty() {
                return Err(stat);
            }
        }
        Ok(())
    });
}

/// Two files, of which one is synced: what tells whether the test loses anything at all.
fn leave_canaries(folder: &Path) {
    let mut synced = fs::File::create(folder.join("synced")).expect("a file");
    synced.write_all(b"x").and_then(|()| synced.sync_all()).expect("synced");
    fs::write(folder.join("unsynced"), "x").expect("a file");
}

fn only_the_synced_is_left(folder: &Path) {
    let length = |name: &str| fs::metadata(folder.join(name)).map_or(0, |known| known.len());
    assert_eq!((length("synced"), length("unsynced")), (1, 0), "what was not synced is there");
}

#[test]
fn what_was_acknowledged_outlives_power_cuts() {
    let Some(mut world) =
        World::without_hosts(&WorldOptions { lossy_disks: true, ..WorldOptions::default() })
    else {
        return;
    };
    world.add_host(&HostOptions { first_port: 29_000, ..HostOptions::default() });
    let host = world.host().id.clone();
    let mut seed = u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15;
    println!("seed {seed}");
    let mut accepted = 0;
    for cut in 0..2 * CUTS {
        // SplitMix64's multiplier is enough to spread the moments.
        seed = seed.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(23).wrapping_add(1);
        let moment = Duration::from_millis(100 + seed % 1500);
        let acknowledged: Mutex<Vec<(String, String)>> = Mutex::default();
        let enough = AtomicBool::new(false);
        let of_controller = cut % 2 == 0;
        let (controller, agent) = (world.controller.pid(), world.agent().pid());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..40 {
                    if enough.load(Ordering::SeqCst) {
                        return;
                    }
                    let body = World::order_body(&format!("phone-{cut}-{number}"), &[]);
                    // One that is cut off before its answer was promised nothing.
                    let Ok(reply) = world.api.try_call("POST", "/devices", None, Some(&body)) else { return };
                    let data = reply.data(202);
                    let order = (text(&data["sagaId"]), text(&data["device"]["id"]));
                    acknowledged.lock().expect("no panic").push(order);
                    // A few phones at a time: the engine is not what is looked at.
                    std::thread::sleep(Duration::from_millis(150));
                }
            });
            let began = Instant::now();
            until("the moment", MINUTE, || {
                let some = !acknowledged.lock().expect("no panic").is_empty();
                if began.elapsed() >= moment && some { Ok(()) } else { Err(String::new()) }
            });
            enough.store(true, Ordering::SeqCst);
            let victim = if of_controller { &world.controller } else { &world.hosts[0].agent };
            victim.freeze(true);
            halted(if of_controller { controller } else { agent });
            if of_controller {
                // Whoever waits for an answer is cut off, too.
                phonefleet_tests::real::program::signal(controller, nix::sys::signal::Signal::SIGKILL);
            }
        });
        if of_controller {
            let folder = world.lossy_disk.as_ref().expect("a disk").folder.clone();
            leave_canaries(&folder);
            world.lossy_disk.as_mut().expect("a disk").cut();
            world.controller.kill();
            world.lossy_disk.as_ref().expect("a disk").restore();
            only_the_synced_is_left(&folder);
            world.controller.start_again();
            world.until_ready();
        } else {
            let victim = &mut world.hosts[0];
            leave_canaries(&victim.state);
            victim.lossy_disk.as_mut().expect("a disk").cut();
            victim.agent.kill();
            // Phones die with their machine.
            for (device, state) in victim.states().expect("the engine") {
                if state == "running" {
                    let path = format!("/containers/phonefleet-{device}/kill");
                    victim.engine.must("POST", &path, None);
                }
            }
            victim.lossy_disk.as_ref().expect("a disk").restore();
            only_the_synced_is_left(&victim.state);
            victim.agent.start_again();
        }
        world.until_online(&host);
        let acknowledged = acknowledged.into_inner().expect("no panic");
        accepted += acknowledged.len();
        for (saga, _) in &acknowledged {
            world.completed(saga);
        }
        world.at_rest();
        assert_eq!(number(&world, "phonefleet_controller_logs_begun_anew"), 0, "something told was lost");
        assert_eq!(number(&world, "phonefleet_agent_databases_set_aside"), 0);
        for device in world.devices() {
            world.do_verb(&text(&device["id"]), "delete");
        }
    }
    world.clean();
    println!("{accepted} orders were accepted, {} power cuts", 2 * CUTS);
}
