//! Phones with the privileges that Redroid needs, on an engine that grants them.

use phonefleet_tests::real::engine::Engine;
use phonefleet_tests::real::network::Network;
use phonefleet_tests::real::world::far_host;
use phonefleet_tests::real::{HostOptions, World, WorldOptions};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// One second network at a time: each has the same addresses.
static NETWORK: Mutex<()> = Mutex::new(());

/// Runs one phone with these privileges and removes it. Returns what the engine says of its
/// container, and the process's effective capabilities.
fn run_one(privilege: &'static str) -> Option<(Value, u64)> {
    let options =
        WorldOptions { broker_addresses: vec![Network::HERE.to_owned()], ..WorldOptions::default() };
    if std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT").is_none() {
        println!("skipped: run it with tests/environment/run");
        return None;
    }
    let _turn = NETWORK.lock().unwrap_or_else(PoisonError::into_inner);
    // Two engines need two networks, or they fight over one bridge.
    let network = Network::make(privilege);
    let mut world = World::without_hosts(&options)?;
    let engine = Engine::start(privilege, &["--netns", network.name(), "--privileged-capable"]);
    world.add_host(&HostOptions { privilege, ..far_host(&network, engine.clone()) });

    let phone = world.phone("phone-1");
    let container = engine.containers(&phone.host).remove(0);
    let inspected = engine.must("GET", &format!("/containers/{}/json", container.id), None).json();
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid)).expect("its process");
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("CapEff");
    let capabilities = u64::from_str_radix(capabilities.trim(), 16).expect("hexadecimal");
    world.at_rest();
    world.do_verb(&phone.id, "delete");
    world.clean();
    drop(world);
    engine.stop();
    Some((inspected, capabilities))
}

/// CAP_SYS_ADMIN and CAP_SYS_BOOT of `linux/capability.h`.
const SYS_ADMIN: u64 = 1 << 21;
const SYS_BOOT: u64 = 1 << 22;

#[test]
fn a_privileged_phone_runs_and_goes() {
    let Some((container, capabilities)) = run_one("privileged") else { return };
    assert_eq!(container["HostConfig"]["Privileged"], true);
    assert_ne!(capabilities & SYS_ADMIN, 0, "{capabilities:x}");
}

/// Without the right to reboot, Android's init hears SIGTERM.
#[test]
fn a_phone_with_reduced_privileges_runs_and_goes() {
    let Some((container, capabilities)) = run_one("reduced") else { return };
    assert_eq!(container["HostConfig"]["Privileged"], false);
    assert_ne!(capabilities & SYS_ADMIN, 0, "{capabilities:x}");
    assert_eq!(capabilities & SYS_BOOT, 0, "{capabilities:x}");
}
