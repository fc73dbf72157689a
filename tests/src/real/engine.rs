//! A container engine of the environment: what is in it, and what befalls it.

use super::http::{self, Reply};
use super::program::run;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An engine with its own folder.
#[derive(Clone, Debug)]
pub struct Engine {
    folder: PathBuf,
    socket: PathBuf,
}

/// One container of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The label `phonefleet.device`.
    pub device: String,
    /// `created`, `running`, `paused`, `exited`, …
    pub state: String,
    /// Its first process; 0 when it does not run.
    pub pid: u64,
    /// Its newest start.
    pub started_at: String,
}

impl Engine {
    /// The environment's engine.
    pub fn of_environment() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("PHONEFLEET_TEST_ENGINE")?);
        let engine = Self { socket: folder.join("docker.sock"), folder };
        // An earlier test may have failed while it was away, or frozen.
        engine.thaw();
        if engine.call("GET", "/_ping", None).is_err() {
            engine.restart();
        }
        Some(engine)
    }

    /// A further engine with the phonesim image, named as nothing else in this run.
    /// `options` are those of `engine start`.
    pub fn start(name: &str, options: &[&str]) -> Self {
        let environment = std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT").expect("the environment");
        let folder = &Path::new(&environment).join(name);
        let script = script();
        let mut command: Vec<_> = [script.as_os_str(), "start".as_ref(), folder.as_os_str()].to_vec();
        command.extend(options.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
        run(command).expect("the engine starts");
        let engine = Self { socket: folder.join("docker.sock"), folder: folder.to_owned() };
        let rootfs = std::env::var("PHONEFLEET_TEST_ROOTFS").expect("set by tests/environment/run");
        let import = Path::new(env!("CARGO_MANIFEST_DIR")).join("../phonesim/image/build");
        let socket = format!("DOCKER_HOST={}", engine.url());
        run(["env", &socket, &import.to_string_lossy(), "--import", &rootfs]).expect("the image is loaded");
        engine
    }

    /// For `docker_host`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn script(&self, verb: &str, options: &[&str]) {
        let script = script();
        let mut command: Vec<_> = [script.as_os_str(), verb.as_ref(), self.folder.as_os_str()].to_vec();
        command.extend(options.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
        run(command).unwrap_or_else(|error| panic!("engine {verb}: {error}"));
    }

    /// `kill -9`, of its containerd too if asked for. Containers live on.
    pub fn kill(&self, containerd: bool) {
        self.may_hold_ports();
        self.script("kill", if containerd { &["--containerd"] } else { &[] });
    }

    /// Notes that it was ended in the middle of its work: it may hold on to ports of then.
    pub fn may_hold_ports(&self) {
        std::fs::write(self.folder.join("was-killed"), "").expect("a mark in the engine's folder");
    }

    /// Whether it ever was killed, or ended in the middle of its work.
    pub fn was_killed(&self) -> bool {
        self.folder.join("was-killed").exists()
    }

    /// Starts it again, on the same state.
    pub fn restart(&self) {
        self.script("restart", &[]);
    }

    /// Ends its daemon politely. With live restore, containers live on.
    pub fn down(&self) {
        self.script("down", &[]);
    }

    /// Stops its daemon in mid-work, or only its containerd: it takes calls and answers none.
    pub fn freeze(&self, containerd: bool) {
        self.script("freeze", if containerd { &["--containerd"] } else { &[] });
    }

    /// Lets both go on.
    pub fn thaw(&self) {
        self.script("thaw", &[]);
    }

    /// The process of its daemon, or of its containerd.
    pub fn process(&self, containerd: bool) -> u32 {
        let file = if containerd { "exec/containerd/containerd.pid" } else { "dockerd.pid" };
        let text = std::fs::read_to_string(self.folder.join(file)).expect("the engine runs");
        text.trim().parse().expect("a process number")
    }

    /// Ends it and its containers.
    pub fn stop(&self) {
        self.script("stop", &[]);
    }

    /// One call of its API.
    ///
    /// # Errors
    /// It is away.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Reply> {
        http::over_socket(&self.socket, method, path, body)
    }

    /// A call that must succeed.
    pub fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let reply = self.call(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(reply.status < 400, "{method} {path}: {} {}", reply.status, reply.text());
        reply
    }

    /// Every container of a host, by its label. Waits while the engine is away.
    pub fn containers(&self, host: &str) -> Vec<Container> {
        super::until("the engine lists containers", Duration::from_secs(60), || {
            self.try_containers(host).map_err(|error| error.to_string())
        })
    }

    /// The same, as long as the engine answers.
    ///
    /// # Errors
    /// It is away.
    pub fn try_containers(&self, host: &str) -> std::io::Result<Vec<Container>> {
        let list = self.call("GET", &list_path(host), None)?;
        let mut containers = Vec::new();
        for summary in list.json().as_array().cloned().unwrap_or_default() {
            let id = summary["Id"].as_str().unwrap_or_default();
            let found = self.call("GET", &format!("/containers/{id}/json"), None)?;
            if found.status != 404 {
                containers.push(container(&found.json()));
            }
        }
        Ok(containers)
    }

    /// The states of a host's containers, cheaply.
    ///
    /// # Errors
    /// It is away.
    pub fn states(&self, host: &str) -> std::io::Result<Vec<(String, String)>> {
        let list = self.call("GET", &list_path(host), None)?.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = list.as_array().cloned().unwrap_or_default();
        Ok(rows.iter().map(|row| (text(&row["Labels"]["phonefleet.device"]), text(&row["State"]))).collect())
    }

    /// What a container printed, lossily.
    pub fn logs(&self, id: &str) -> String {
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail=30");
        self.call("GET", &path, None).map(|reply| reply.text()).unwrap_or_default()
    }
}

fn list_path(host: &str) -> String {
    let label = format!("%22phonefleet.host%3D{host}%22");
    format!("/containers/json?all=1&filters=%7B%22label%22%3A%5B{label}%5D%7D")
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("environment/engine")
}

fn container(json: &Value) -> Container {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Container {
        id: text(&json["Id"]),
        name: text(&json["Name"]).trim_start_matches('/').to_owned(),
        device: text(&json["Config"]["Labels"]["phonefleet.device"]),
        state: text(&json["State"]["Status"]),
        pid: json["State"]["Pid"].as_u64().unwrap_or(0),
        started_at: text(&json["State"]["StartedAt"]),
    }
}
