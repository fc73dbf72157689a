//! Orphans of each kind, planted in a real engine and on a real disk: each is found and told,
//! what rows prove to be gone is removed, and everything else is left as it was.

use phonefleet_store::rusqlite::Connection;
use phonefleet_tests::real::program::{built, run};
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, World, WorldOptions, until};
use serde_json::{Value, json};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const UNKNOWN: &str = "018f3b2a-0000-7000-8000-0000000000aa";
const WITH_DATA: &str = "018f3b2a-0000-7000-8000-0000000000bb";
const LEASING: &str = "018f3b2a-0000-7000-8000-0000000000cc";

fn orphans(world: &World) -> Value {
    world.host().local_api.call("GET", "/orphans", None).json()
}

/// Waits until orphans of these kinds, and no others, are found; as `kind what`.
fn found(world: &World, expected: &[(&str, &str)]) -> Value {
    let expected: Vec<_> = expected.iter().map(|(kind, what)| format!("{kind} {what}")).collect();
    until(&format!("orphans: {expected:?}"), MINUTE, || {
        let report = orphans(world);
        let all = report["orphans"].as_array().cloned().unwrap_or_default();
        let all: Vec<_> =
            all.iter().map(|one| format!("{} {}", text(&one["kind"]), text(&one["what"]))).collect();
        let complete = expected.iter().all(|one| all.contains(one)) && all.len() == expected.len();
        if complete { Ok(report) } else { Err(report.to_string()) }
    })
}

fn why(report: &Value, what: &str) -> String {
    let all = report["orphans"].as_array().cloned().unwrap_or_default();
    let one = all.iter().find(|one| one["what"] == what);
    text(&one.unwrap_or_else(|| panic!("{what} is not in {report}"))["why"])
}

/// A container that runs, with labels, and with a port of this machine if not 0.
fn plant(world: &World, name: &str, labels: &Value, port: u16) -> String {
    let mut body = json!({
        "Image": "phonefleet/phonesim:dev", "Labels": labels,
        "Entrypoint": ["/bin/busybox"], "Cmd": ["sleep", "1000000"],
    });
    if port != 0 {
        body["HostConfig"]["PortBindings"]["5555/tcp"] =
            json!([{ "HostIp": "127.0.0.1", "HostPort": port.to_string() }]);
    }
    let engine = &world.host().engine;
    let made = engine.must("POST", &format!("/containers/create?name={name}"), Some(&body)).json();
    engine.must("POST", &format!("/containers/{name}/start"), None);
    text(&made["Id"])
}

fn started_at(world: &World, id: &str) -> Option<String> {
    let reply = world.host().engine.call("GET", &format!("/containers/{id}/json"), None).expect("the engine");
    (reply.status == 200).then(|| text(&reply.json()["State"]["StartedAt"]))
}

/// The agent's own database, while the agent does not run.
fn database(world: &World) -> Connection {
    Connection::open(world.host().state.join("agent.db")).expect("the agent's database")
}

#[test]
fn orphans_of_every_kind_are_found_and_only_proven_ones_removed() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    world.add_host(&HostOptions { first_port: 26_000, ..HostOptions::default() });
    let phone = world.phone("phone-1");
    let witness = world.witness(&phone);
    found(&world, &[]);

    // Strangers, one with another host's label, one without any, on ports of this pool; and
    // containers with the own label that stand for nothing.
    let own = world.host().id.clone();
    let label = |host: &str, device: &str| json!({ "phonefleet.host": host, "phonefleet.device": device });
    let theirs = plant(&world, "theirs", &label("another-host", UNKNOWN), 26_050);
    let web = plant(&world, "web", &json!({}), 27_051);
    let elsewhere = plant(&world, "elsewhere", &json!({}), 8_080);
    let nameless = plant(&world, "nameless", &json!({ "phonefleet.host": own }), 0);
    let copy = plant(&world, "copy", &label(&own, &phone.id), 26_052);
    let report = found(
        &world,
        &[
            ("port", "26050"),
            ("port", "27051"),
            ("port", "26052"),
            ("container", "nameless"),
            ("container", "copy"),
        ],
    );
    assert!(why(&report, "26050").contains("theirs of another host"), "{report}");
    assert!(why(&report, "27051").contains("web of a stranger"), "{report}");
    assert!(why(&report, "26052").contains("copy of this host"), "{report}");
    assert!(why(&report, "copy").contains(&phone.id), "{report}");
    // Last, because it is parked at the next look at the engine, whenever that is.
    let unknown = plant(&world, &format!("phonefleet-{UNKNOWN}"), &label(&own, UNKNOWN), 0);
    let planted = [&theirs, &web, &elsewhere, &nameless, &copy, &unknown];
    let before = planted.map(|id| started_at(&world, id));

    // A restart of the agent looks at once, and parks what no row knows. Meanwhile: data of
    // nobody, a lease of nobody, and what a removal that was cut short would leave.
    let gone = world.phone("gone");
    world.do_verb(&gone.id, "delete");
    world.agent().kill();
    let phones = world.host().state.join("phones");
    for device in [WITH_DATA, &gone.id] {
        std::fs::create_dir_all(phones.join(device).join("data-0")).expect("data");
        std::fs::write(phones.join(device).join("device"), format!("{device}\n")).expect("a marker");
    }
    let connection = database(&world);
    connection
        .execute(
            "INSERT INTO port_lease(port, kind, device_id, generation, state)
             VALUES (26060, 'adb', ?1, 1, 'LEASED')",
            [LEASING],
        )
        .expect("a lease");
    // The row that proves it gone, forgotten by now or not yet; answered as the other one was.
    connection
        .execute(
            "INSERT OR REPLACE INTO device(device_id, generation, attempt, wish, boot_count, data_epoch,
                applied_boot_count, applied_data_epoch, found, parked, snapshot_seen, phase, booted, starts,
                deaths, answer, answer_number)
             SELECT ?1, 99, 1, 'absent', 0, 0, 0, 0, 0, 0, 0, 'absent', 0, 1, '[]', answer, NULL
             FROM device WHERE device_id = ?2",
            [&gone.id, &phone.id],
        )
        .expect("a row");
    drop(connection);
    let further = plant(&world, "further", &label(&own, &gone.id), 0);
    world.agent().start_again();
    until("what is proven to be gone is removed", MINUTE, || {
        let report = orphans(&world);
        let removed = report["removed"].clone();
        let all = removed["data"] == 1 && removed["port"] == 1 && removed["container"] == 1;
        if all { Ok(()) } else { Err(report.to_string()) }
    });
    assert_eq!(started_at(&world, &further), None);
    assert!(!phones.join(&gone.id).exists());
    let report = found(
        &world,
        &[
            ("port", "26050"),
            ("port", "27051"),
            ("port", "26052"),
            ("container", "nameless"),
            ("container", "copy"),
            ("parked", UNKNOWN),
            ("parked", WITH_DATA),
        ],
    );
    assert!(why(&report, UNKNOWN).contains("container"), "{report}");
    assert!(why(&report, WITH_DATA).contains("data"), "{report}");
    assert!(phones.join(WITH_DATA).join("data-0").exists(), "parked, not removed");
    let leases = world.host().column("SELECT device_id FROM port_lease WHERE port = 26060");
    assert_eq!(leases, Vec::<String>::new());

    // Told everywhere: log, metrics, status, and the command.
    let log = world.host().agent.output();
    for what in ["nameless", "26050", &gone.id, UNKNOWN] {
        let told = log.lines().any(|line| line.contains("an orphan") && line.contains(what));
        assert!(told, "no line tells of {what}");
    }
    let metrics = world.host().local_api.call("GET", "/metrics", None).text();
    for line in [
        "phonefleet_agent_orphans{kind=\"parked\"} 2",
        "phonefleet_agent_orphans{kind=\"port\"} 3",
        "phonefleet_agent_orphans{kind=\"recorder\"} 0",
        "phonefleet_agent_orphans_removed{kind=\"data\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let config = world.folder.join(format!("{own}.toml"));
    let command = |more: &[&str]| {
        let mut words =
            vec![built("phonefleet-agent").into_os_string(), "--config".into(), config.clone().into()];
        words.push("orphans".into());
        words.extend(more.iter().map(std::ffi::OsString::from));
        run(words).expect("phonefleet-agent orphans")
    };
    let plain = command(&[]);
    assert!(
        plain.contains("7 orphans") && plain.contains("parked    ") && plain.contains(UNKNOWN),
        "{plain}"
    );
    let report: Value = serde_json::from_str(&command(&["--json"])).expect("JSON");
    assert_eq!(report["orphans"].as_array().map(Vec::len), Some(7), "{report}");

    // Nobody was touched.
    assert_eq!(planted.map(|id| started_at(&world, id)), before);
    for id in planted {
        world.host().engine.must("DELETE", &format!("/containers/{id}?force=1"), None);
    }
    assert_eq!(world.witness(&phone), witness);
}
