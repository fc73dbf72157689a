//! A controller's API on a port of loopback, and the real program run against it.

use phonefleet_controller::api::{self, Api};
use phonefleet_controller::controller::{Controller, Parts, Settings, Signals};
use phonefleet_controller::metrics::Metrics;
use phonefleet_controller::store::host::{self, HostRow};
use phonefleet_controller::store::{self, Store, Tx};
use phonefleet_link::MemoryBroker;
use phonefleet_protocol::host::{Capacity, HostReport};
use phonefleet_protocol::id::SystemIds;
use phonefleet_protocol::stream::Epoch;
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use phonefleet_store::stream_log::COMMAND_OUTBOX;
use phonefleet_store::{Mode, rusqlite};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What a run of the program printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Its standard output, if it ended well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Its standard output as JSON, if it ended well.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Its standard error, if it ended with this code.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.err
    }
}

/// The program in an environment of its own.
pub struct Program {
    pub home: tempfile::TempDir,
    pub controller: String,
}

impl Program {
    pub fn new(controller: impl Into<String>) -> Self {
        Self { home: tempfile::tempdir().unwrap(), controller: controller.into() }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phonefleet"));
        command.args(arguments).current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        // Port 9 is discard: no agent answers there.
        command.env("PHONEFLEET_AGENT", "http://127.0.0.1:9").stdin(Stdio::null());
        if !self.controller.is_empty() {
            command.env("PHONEFLEET_CONTROLLER", &self.controller);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().unwrap())
    }

    /// Started, with its output in pipes.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// A controller that serves, without sagas running: what it holds changes by calls and SQL.
pub struct Served {
    pub program: Program,
    store: Store,
    runtime: Runtime,
    _controller: Controller,
    _directory: tempfile::TempDir,
}

impl Served {
    /// With one host, `host-1`.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let signals = Signals::new(Arc::new(|_| ()));
        let entered = runtime.enter();
        let path = directory.path().join("controller.db");
        let store = store::open(&path, Mode::Threaded, signals.on_commit()).unwrap();
        let (transport, incoming) = MemoryBroker::new().connect("controller", &[], None);
        let parts = Parts {
            store: store.clone(),
            signals,
            transport,
            incoming,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        };
        let controller = Controller::new(Settings::default(), parts);
        let router = api::router(Api::new(controller.handle(), metrics));
        let listen = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = runtime.block_on(listen).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        let program = Program::new(format!("http://{address}"));
        drop(entered);
        let served = Self { program, store, runtime, _controller: controller, _directory: directory };
        served.add_host("host-1");
        served
    }

    pub fn add_host(&self, name: &'static str) {
        self.write(move |tx| {
            let now = SystemClock.now();
            let row = HostRow {
                host_id: name.parse().unwrap(),
                machine_id: format!("machine-of-{name}"),
                software: "phonefleet-agent/test".into(),
                report: HostReport {
                    capacity: Capacity { max_devices: Some(3), ..Capacity::default() },
                    image: "phone:1".into(),
                    runtime: "simulated".into(),
                    machine_cpu_cores: 64,
                    address: "127.0.0.1".into(),
                    ..HostReport::default()
                },
                heartbeat: None,
                online: true,
                last_seen_at: now,
                cordoned: false,
                conflict_with: None,
                conflict_until: Timestamp(0),
                forgotten_at: None,
                registered_at: now,
            };
            host::upsert(tx, &row)?;
            COMMAND_OUTBOX.open(tx, name, Epoch(1), now).map(|_| ())
        });
    }

    pub fn write(&self, job: impl FnMut(&mut Tx<'_>) -> Result<(), rusqlite::Error> + Send + 'static) {
        self.runtime.block_on(self.store.write(job)).unwrap();
    }

    pub fn sql(&self, sql: impl Into<String>) {
        let sql = sql.into();
        self.write(move |tx| tx.execute_batch(&sql));
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.program.run(arguments)
    }

    /// Orders a device; its id and saga.
    pub fn order(&self, user: &str, name: &str) -> (String, String) {
        let data = self.run(&["device", "create", name, "--user", user, "-o", "json"]).json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&data["device"]["id"]), text(&data["sagaId"]))
    }

    /// Every saga has ended well, and every device runs.
    pub fn settle(&self) {
        self.sql(
            "UPDATE saga_state SET status = 'COMPLETED', ended_at = started_at + 1500, due_at = NULL,
                current_step = 'START_DEVICE', step_index = 4;
             UPDATE device SET status = 'RUNNING', phase = 'running', wish = 'running', container_id = 'c0ffee',
                adb_port = 20000 + (SELECT count(*) FROM device AS d WHERE d.device_id < device.device_id),
                webrtc_port = 21000 + (SELECT count(*) FROM device AS d WHERE d.device_id < device.device_id);",
        );
    }
}
