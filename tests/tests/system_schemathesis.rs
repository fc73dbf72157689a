//! The daemon is held to its own description: Schemathesis makes calls, good and bad, out of
//! `/openapi.json` and looks at every answer. No 5xx, no status, content type or shape that is
//! not described, no bad body accepted, no good one refused, no hang.
//!
//! The calls follow from a seed. The host is a row without an agent behind it: orders are
//! accepted, and their sagas wait.

use phonefleet_controller::store::host::{self, HostRow};
use phonefleet_controller::store::{self, Tx};
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::stream::Epoch;
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::stream_log::COMMAND_OUTBOX;
use phonefleet_store::{Mode, rusqlite};
use phonefleet_tests::real::broker::free_port;
use phonefleet_tests::real::http::Api;
use phonefleet_tests::real::program::{Program, built};
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{until, within};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Must be that of `tests/environment/install`.
const VERSION: &str = "4.32.5";
/// Calls of each kind and operation that are made up; what the rules of the schema suggest
/// comes beside them. Some 20 s on an idle machine.
const EXAMPLES: &str = "25";
/// Much longer than it takes: a call that hangs ends itself after 10 s.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn every_answer_is_as_described() {
    if std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT").is_none() {
        println!("skipped: run it with tests/environment/run");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let api = Api { address: SocketAddr::from(([127, 0, 0, 1], free_port())) };
    let database = folder.join("controller.db");
    register_hosts(&database);
    let mut controller = controller(folder, &database, api);
    until("the controller lives", Duration::from_secs(30), || {
        match api.try_call("GET", "/healthz", None, None) {
            Ok(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    let (mut devices, mut sagas) = (Vec::new(), Vec::new());
    for number in 1..=4 {
        let body = json!({"name": format!("known-{number}"), "userId": "user-1", "providerType": "REDROID"});
        let data = api.post("/devices", Some(&body)).data(202);
        devices.push(text(&data["device"]["id"]));
        sagas.push(text(&data["sagaId"]));
    }
    let rules = folder.join("schemathesis.toml");
    std::fs::write(&rules, RULES.replace("@DEVICES@", &list(&devices)).replace("@SAGAS@", &list(&sagas)))
        .expect("schemathesis.toml");

    let tool = schemathesis();
    let report = folder.join("report.txt");
    let document = format!("http://{}/openapi.json", api.address);
    // It leaves notes where it stands.
    let command: [&Path; 20] = [
        "env".as_ref(),
        "-C".as_ref(),
        folder,
        &tool,
        "--no-color".as_ref(),
        "--config-file".as_ref(),
        &rules,
        "run".as_ref(),
        document.as_ref(),
        "--seed".as_ref(),
        "1".as_ref(),
        "--workers".as_ref(),
        "1".as_ref(),
        "--max-examples".as_ref(),
        EXAMPLES.as_ref(),
        "--generation-database".as_ref(),
        "none".as_ref(),
        "--request-timeout".as_ref(),
        "10".as_ref(),
        "--continue-on-failure".as_ref(),
    ];
    let mut run = Program::start("schemathesis", command, &report);
    let ended = within(PATIENCE, || match run.ended() {
        Some(status) => Ok(status),
        None => Err(run.last_lines(5)),
    });
    let said = run.output();
    let succeeded = ended.as_ref().is_ok_and(std::process::ExitStatus::success);
    assert!(succeeded, "{ended:?}\n{said}\n---- controller\n{}", controller.last_lines(40));
    let summary = said.find("= SUMMARY =").map_or(said.as_str(), |at| &said[at..]);
    println!("{summary}");

    // It was no empty show: each call was made, and most of them with success.
    assert!(controller.runs(), "{}", controller.last_lines(40));
    let log = controller.output();
    for fault in [" ERROR ", "panicked"] {
        assert!(!log.contains(fault), "{fault} in the controller's log:\n{}", controller.last_lines(200));
    }
    let metrics = api.call("GET", "/metrics", None).text();
    let succeeded = calls(&metrics, |status| (200..300).contains(&status));
    let made = calls(&metrics, |_| true);
    let described = api.call("GET", "/openapi.json", None).json();
    let mut described: BTreeSet<String> = described["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .expect("calls")
                .keys()
                .map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    assert_eq!(described.difference(&made).collect::<Vec<_>>(), Vec::<&String>::new(), "never called");
    // What cannot go well here: there is no broker, no phone ever answers, no saga stops.
    for call in ["GET /readyz", "POST /sagas/{id}/resume", "POST /sagas/{id}/abandon"] {
        described.remove(call);
    }
    for verb in ["start", "stop", "reboot", "reset"] {
        described.remove(&format!("POST /devices/{{id}}/{verb}"));
    }
    // Nothing runs, so nothing is recorded: `system_recordings` and the API's own tests do that.
    described.retain(|call| call == "GET /recordings" || !call.contains("/recordings"));
    assert_eq!(
        described.difference(&succeeded).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "never went well"
    );
}

/// What the description cannot tell in JSON Schema, and which ids there are.
const RULES: &str = r#"
# Ids that there are, beside those that are made up.
[dictionaries]
devices = { values = @DEVICES@ }
sagas = { values = @SAGAS@ }
hosts = { values = ["host-2", "host-3"] }

[[operations]]
include-path-regex = "^/devices/[{]id"
parameters = { "path.id" = { dictionary = "devices", probability = 0.7 } }
[[operations]]
include-path-regex = "^/sagas/[{]id"
parameters = { "path.id" = { dictionary = "sagas", probability = 0.7 } }
[[operations]]
include-path-regex = "^/hosts/[{]id"
parameters = { "path.id" = { dictionary = "hosts", probability = 0.7 } }

[checks]
# A deletion is accepted, and carried out behind the answer: the device is still there.
use_after_free = { enabled = false }
ensure_resource_availability = { enabled = false }
# The same Idempotency-Key with another body is 422, by design.
positive_data_acceptance = { expected-statuses = ["2xx", "403", "404", "409", "422", "503"] }

# Cursors are what an earlier page gave; the shape of a key is nobody's business.
[[operations]]
include-name = ["GET /devices", "GET /hosts", "GET /recordings", "GET /sagas", "GET /sagas/{id}/events"]
checks = { positive_data_acceptance = { expected-statuses = ["2xx", "400", "404"] } }

# Lengths in bytes, allow-lists of images, arguments of /init, and whole numbers written as 1.0.
[[operations]]
include-name = ["PUT /quotas/{userId}"]
checks = { positive_data_acceptance = { expected-statuses = ["2xx", "400", "422"] } }
[[operations]]
include-name = "POST /devices/{id}/recordings"
checks = { positive_data_acceptance = { expected-statuses = ["2xx", "400", "403", "404", "409", "422", "503"] } }
[[operations]]
include-name = "POST /devices"
[operations.checks]
positive_data_acceptance = { expected-statuses = ["2xx", "400", "403", "409", "422", "503"] }
# No room is 503, by design.
not_a_server_error = { expected-statuses = ["2xx", "4xx", "503"] }

# One bad order of a batch does not stop the others: its refusal is in the answer.
[[operations]]
include-name = "POST /devices/batch"
[operations.checks]
positive_data_acceptance = { expected-statuses = ["2xx", "400", "422"] }
negative_data_rejection = { enabled = false }

# There is no broker.
[[operations]]
include-name = "GET /readyz"
checks = { not_a_server_error = { expected-statuses = ["2xx", "4xx", "503"] } }
"#;

fn list(ids: &[String]) -> String {
    format!("{ids:?}")
}

/// The calls, as `METHOD /route`, that were answered with such a status.
fn calls(metrics: &str, wanted: impl Fn(u16) -> bool) -> BTreeSet<String> {
    let label = |line: &str, name: &str| {
        let rest = line.split_once(&format!("{name}=\""))?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    metrics
        .lines()
        .filter(|line| line.starts_with("phonefleet_controller_http_requests_total{"))
        .filter(|line| label(line, "status").and_then(|status| status.parse().ok()).is_some_and(&wanted))
        .filter_map(|line| Some(format!("{} {}", label(line, "method")?, label(line, "route")?)))
        .collect()
}

/// `st`, as `tests/environment/install` has put it.
fn schemathesis() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let cache = std::env::var_os("PHONEFLEET_CACHE").map_or_else(|| repository.join(".cache"), PathBuf::from);
    let tool = cache.join(format!("schemathesis-{VERSION}")).join("bin/st");
    assert!(tool.exists(), "{} is missing: run tests/environment/install", tool.display());
    tool
}

fn controller(folder: &Path, database: &Path, api: Api) -> Program {
    let text = format!(
        "listen = \"{}\"\ndatabase = \"{}\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n",
        api.address,
        database.display(),
        free_port(),
    );
    let file = folder.join("controller.toml");
    std::fs::write(&file, text).expect("controller.toml");
    let command = [built("phonefleet-controller").into_os_string(), "--config".into(), file.into()];
    Program::start("controller", command, &folder.join("controller.log"))
}

/// Three hosts: one that takes orders, and two for the verbs on hosts.
fn register_hosts(database: &Path) {
    let store = store::open(database, Mode::Threaded, Arc::new(|_| {})).expect("a database");
    let job = |tx: &mut Tx<'_>| {
        // Silence would make a host unreachable: these were heard in the year 2100.
        let heard = Timestamp(4_102_444_800_000);
        for name in ["host-1", "host-2", "host-3"] {
            let row = HostRow {
                host_id: name.parse().expect("a host id"),
                machine_id: format!("machine-of-{name}"),
                software: "phonefleet-agent/test".into(),
                report: HostReport {
                    image: "phone:1".into(),
                    machine_cpu_cores: 256,
                    address: "127.0.0.1".into(),
                    ..HostReport::default()
                },
                heartbeat: None,
                online: true,
                last_seen_at: heard,
                cordoned: false,
                conflict_with: None,
                conflict_until: Timestamp(0),
                forgotten_at: None,
                registered_at: Timestamp(1),
            };
            host::upsert(tx, &row)?;
            COMMAND_OUTBOX.open(tx, name, Epoch(1), Timestamp(1))?;
        }
        // Whoever introduces itself is online; one that is not can be forgotten.
        tx.execute("UPDATE host SET online = 0 WHERE host_id = 'host-2'", [])?;
        Ok::<_, rusqlite::Error>(())
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(store.write(job)).expect("three hosts");
}
