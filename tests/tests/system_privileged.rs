//! A phone with all privileges, as Redroid needs it, on an engine that grants them.

use phonefleet_tests::real::engine::Engine;
use phonefleet_tests::real::network::Network;
use phonefleet_tests::real::world::far_host;
use phonefleet_tests::real::{HostOptions, World, WorldOptions};

#[test]
fn a_privileged_phone_runs_and_goes() {
    let options =
        WorldOptions { broker_addresses: vec![Network::HERE.to_owned()], ..WorldOptions::default() };
    if std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT").is_none() {
        println!("skipped: run it with tests/environment/run");
        return;
    }
    // Two engines need two networks, or they fight over one bridge.
    let network = Network::make("privileged");
    let Some(mut world) = World::without_hosts(&options) else { return };
    let engine = Engine::start("privileged", &["--netns", network.name(), "--privileged-capable"]);
    world.add_host(&HostOptions { privilege: "privileged", ..far_host(&network, engine.clone()) });

    let phone = world.phone("phone-1");
    let container = engine.containers(&phone.host).remove(0);
    let inspected = engine.must("GET", &format!("/containers/{}/json", container.id), None).json();
    assert_eq!(inspected["HostConfig"]["Privileged"], true);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid)).expect("its process");
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("CapEff");
    let capabilities = u64::from_str_radix(capabilities.trim(), 16).expect("hexadecimal");
    assert_ne!(capabilities & (1 << 21), 0, "CAP_SYS_ADMIN of {capabilities:x}");
    world.at_rest();
    world.do_verb(&phone.id, "delete");
    world.clean();
    drop(world);
    engine.stop();
}
