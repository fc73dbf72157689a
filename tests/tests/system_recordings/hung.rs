//! Those that a recording depends on hang while it runs: it goes on, and ends well.

use crate::scene::*;
use nix::sys::signal::Signal;
use phonefleet_tests::real::{Phone, World};
use std::time::{Duration, Instant};

/// An adb server that hangs is replaced. When its recorder ended, the file says.
pub fn adb_server_is_replaced(world: &World, phone: &Phone) {
    let recording = record(world, phone, 6);
    recorded(world, phone, &recording, 5_000);
    signal_adb_server(world, Signal::SIGSTOP);
    let view = over(world, &recording, Duration::from_secs(60));
    assert_eq!(view["endCause"], "TIME_LIMIT", "{view}");
    assert_whole(world, phone, &view);
}

#[test]
fn a_recording_ends_well_though_adb_server_engine_or_phone_hang() {
    let Some(world) = world() else { return };
    let phone = world.phone("phone-1");

    adb_server_is_replaced(&world, &phone);

    // An engine that hangs is not needed to end it.
    let recording = record(&world, &phone, 170);
    recorded(&world, &phone, &recording, 5_000);
    let engine = &world.host().engine;
    engine.freeze(false);
    let asked = Instant::now();
    stop(&world, &recording);
    let view = over(&world, &recording, Duration::from_secs(60));
    engine.thaw();
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}: {view}", asked.elapsed());
    assert_eq!(view["endCause"], "STOPPED", "{view}");
    assert_whole(&world, &phone, &view);

    // A phone that is frozen ends its recording when it thaws.
    let recording = record(&world, &phone, 170);
    recorded(&world, &phone, &recording, 5_000);
    let container = format!("/containers/phonefleet-{}", phone.id);
    engine.must("POST", &format!("{container}/pause"), None);
    stop(&world, &recording);
    std::thread::sleep(Duration::from_secs(8));
    assert!(!is_over(&crate::scene::view(&world, &recording)), "it cannot have ended");
    engine.must("POST", &format!("{container}/unpause"), None);
    let view = over(&world, &recording, Duration::from_secs(60));
    assert_eq!((&view["status"], &view["endCause"]), (&"FINAL".into(), &"STOPPED".into()), "{view}");
    assert!(probe(&kept(&world, &phone, &recording)).is_ok(), "{view}");

    until_gone(&world, &phone);
    world.do_verb(&phone.id, "delete");
    world.clean();
}
