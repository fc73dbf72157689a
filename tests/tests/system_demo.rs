//! `phonefleet demo` as a program: it shows everything, with and without an engine and on a
//! machine with busy ports; and wherever it is interrupted, nothing of it is left. What one left
//! that was killed is taken down by the next.

use nix::sys::signal::Signal;
use phonefleet_tests::real::engine::Engine;
use phonefleet_tests::real::process_table::{listening_ports, processes};
use phonefleet_tests::real::program::{built, signal};
use phonefleet_tests::real::until;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Demos take the first free ports: one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Where a demo is shown, and what was there before.
struct Stage {
    folder: tempfile::TempDir,
    ports: BTreeSet<u16>,
    containers: BTreeSet<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    /// `None`, and a line that says so, outside the environment.
    fn new() -> Option<Self> {
        let Some(environment) = std::env::var_os("PHONEFLEET_TEST_ENVIRONMENT") else {
            println!("skipped: run it with tests/environment/run");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("d").tempdir_in(environment).expect("a folder");
        for name in ["tmp", "here"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Some(Self { folder, ports: listening_ports(), containers: containers(), _turn: turn })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A demo without a terminal, all of it below the stage's folder.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("phonefleet"));
        command
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", self.path("tmp"))
            .current_dir(self.path("here"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, arguments: &[&str]) -> Demo {
        Demo::of(self.command(arguments).spawn().expect("it starts"))
    }

    /// A demo that `outer` becomes, which names no engine.
    fn start_within(&self, outer: &[&str], arguments: &[&str]) -> Demo {
        let demo = self.command(arguments);
        let mut command = Command::new(outer[0]);
        command.args(&outer[1..]).arg(demo.get_program()).args(demo.get_args()).env_remove("DOCKER_HOST");
        command.env("TMPDIR", self.path("tmp")).current_dir(self.path("here"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Demo::of(command.spawn().expect("it starts"))
    }

    /// Nothing is there that was not there before.
    #[track_caller]
    fn is_clean(&self) {
        let tmp = self.path("tmp");
        let left: Vec<_> = std::fs::read_dir(&tmp).expect("a folder").flatten().collect();
        assert!(left.is_empty(), "files: {left:?}");
        let text = tmp.to_string_lossy().into_owned();
        let left: Vec<_> = processes().into_iter().filter(|one| one.mentions(&text)).collect();
        assert!(left.is_empty(), "processes: {left:?}");
        assert_eq!(containers(), self.containers, "containers");
        let left: Vec<u16> = listening_ports().difference(&self.ports).copied().collect();
        assert!(left.is_empty(), "ports: {left:?}");
        let own = std::process::id();
        let left: Vec<_> = processes().into_iter().filter(|one| one.parent == own).collect();
        assert!(left.is_empty(), "children: {left:?}");
    }
}

fn containers() -> BTreeSet<String> {
    let engine = Engine::of_environment().expect("an engine");
    let list = engine.must("GET", "/containers/json?all=1", None).json();
    let ids = list.as_array().expect("a list").iter();
    ids.map(|one| one["Id"].as_str().expect("an id").to_owned()).collect()
}

/// A demo that runs.
struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    told: String,
}

impl Demo {
    fn of(mut child: Child) -> Self {
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, out, told: String::new() }
    }

    /// Reads on until it has said this.
    #[track_caller]
    fn until_told(&mut self, part: &str) {
        let mut line = String::new();
        while self.out.read_line(&mut line).expect("text") > 0 {
            self.told.push_str(&line);
            if line.contains(part) {
                return;
            }
            line.clear();
        }
        let mut errors = String::new();
        let _ = self.child.stderr.take().expect("a pipe").read_to_string(&mut errors);
        panic!("{part:?} was not said in\n{}\n{errors}", self.told);
    }

    /// Its exit code, and all that it said.
    fn ended(mut self) -> (Option<i32>, String) {
        self.out.read_to_string(&mut self.told).expect("text");
        let mut errors = String::new();
        let _ = self.child.stderr.take().expect("a pipe").read_to_string(&mut errors);
        let status = self.child.wait().expect("it ends");
        (status.code(), format!("{}{errors}", self.told))
    }
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[track_caller]
fn shown(stage: &Stage, told: &str) {
    has(
        told,
        &[
            "phone-1     +0.0s  it begins with ALLOCATE_PORTS",
            ": the agent is dead",
            "after its return: process ",
            "its outbox: 0 events wait",
            "phonefleet device explain phone-1",
            "2 phones deleted through the API",
            "nothing is left",
        ],
    );
    let picture = std::fs::read(stage.path("here/demo-output/phone-1.png")).expect("a screenshot");
    assert!(picture.starts_with(b"\x89PNG"), "{} bytes", picture.len());
    let length = seconds(&stage.path("here/demo-output/phone-1.mp4"));
    assert!(length >= 4.0, "a video of {length} s");
}

/// Length of a video, as a stranger's program tells.
fn seconds(video: &Path) -> f64 {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"])
        .arg(video)
        .output()
        .expect("ffprobe runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn once_with_an_engine_that_is_named_and_ports_that_are_taken() {
    let Some(stage) = Stage::new() else { return };
    let taken = [30_002, 30_010].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a free port"));
    let (code, told) = stage.start(&["--once", "--phones", "1"]).ended();
    assert_eq!(code, Some(0), "{told}");
    has(&told, &["(DOCKER_HOST names it: unix://", "port 30002 is taken", "port 30010 is taken"]);
    shown(&stage, &told);
    drop(taken);
    stage.is_clean();
}

#[test]
fn once_without_an_engine() {
    let Some(stage) = Stage::new() else { return };
    // The engine of the environment is not where engines usually are, and its bridge keeps
    // the demo from starting one of its own.
    let child = stage.command(&["--once", "--phones", "1"]).env_remove("DOCKER_HOST").spawn();
    let (code, told) = Demo::of(child.expect("it starts")).ended();
    assert_eq!(code, Some(0), "{told}");
    has(
        &told,
        &["Engine: none, phones are processes of this machine", "because there is no /var/run/docker.sock"],
    );
    shown(&stage, &told);
    stage.is_clean();
}

/// Neither sees the other's daemons, let alone phones, when it chooses its ports.
#[test]
fn two_that_start_at_the_same_moment_do_not_meet() {
    let Some(stage) = Stage::new() else { return };
    let demos = [(); 2].map(|()| stage.start(&["--once", "--phones", "1"]));
    let ended = demos.map(|demo| std::thread::spawn(|| demo.ended()));
    // Both save their pictures in one place.
    let ended = ended.map(|demo| demo.join().expect("no panic"));
    let mut addresses = BTreeSet::new();
    for (code, told) in ended {
        assert_eq!(code, Some(0), "{told}");
        shown(&stage, &told);
        // Of every phone that runs, out of the tables.
        let words = told.lines().filter(|line| line.contains("RUNNING")).flat_map(str::split_whitespace);
        let own: BTreeSet<_> =
            words.filter(|word| word.starts_with("127.0.0.1:")).map(str::to_owned).collect();
        assert_eq!(own.len(), 2, "{told}");
        addresses.extend(own);
    }
    assert_eq!(addresses.len(), 4, "{addresses:?}");
    stage.is_clean();
}

/// As in a small container, where nothing has made that file.
#[test]
fn once_on_a_machine_that_has_no_id() {
    let Some(stage) = Stage::new() else { return };
    let hidden =
        "if [ -e /etc/machine-id ]; then mount --bind /dev/null /etc/machine-id; fi && exec \"$0\" \"$@\"";
    let outer = ["unshare", "--mount", "sh", "-c", hidden];
    let (code, told) = stage.start_within(&outer, &["--once", "--phones", "1"]).ended();
    assert_eq!(code, Some(0), "{told}");
    shown(&stage, &told);
    stage.is_clean();
}

#[test]
fn interrupted_anywhere_it_leaves_nothing() {
    let Some(stage) = Stage::new() else { return };
    let stages = [
        ("Folder: ", Signal::SIGINT),
        ("Phones: ", Signal::SIGTERM),
        ("phone is ordered", Signal::SIGINT),
        ("CREATE_PROVIDER_DEVICE (", Signal::SIGHUP),
        ("START_DEVICE (", Signal::SIGINT),
        ("is recorded", Signal::SIGTERM),
        (": the agent is dead", Signal::SIGINT),
        ("is there in its place", Signal::SIGINT),
    ];
    for (part, how) in stages {
        let mut demo = stage.start(&["--phones", "1"]);
        demo.until_told(part);
        signal(demo.child.id(), how);
        let (code, told) = demo.ended();
        assert_eq!(code, Some(1), "after {part:?}: {told}");
        has(&told, &["Everything is taken down", "nothing is left", "before everything was shown"]);
        stage.is_clean();
    }
}

#[test]
fn it_stays_and_starts_again_what_is_killed_until_it_is_told_to_end() {
    let Some(stage) = Stage::new() else { return };
    let mut demo = stage.start(&["--phones", "1"]);
    demo.until_told("Ctrl-C ends it");
    for program in ["phonefleet-controller", "phonefleet-agent", "mosquitto"] {
        let own = demo.child.id();
        let of_demo = processes().into_iter().find(|one| one.parent == own && one.is(program));
        signal(of_demo.unwrap_or_else(|| panic!("{program} is no child")).pid, Signal::SIGKILL);
        demo.until_told("is started again");
    }
    signal(demo.child.id(), Signal::SIGINT);
    let (code, told) = demo.ended();
    assert_eq!(code, Some(0), "{told}");
    has(&told, &["2 phones deleted through the API", "nothing is left"]);
    stage.is_clean();
}

/// Kills a demo that stays, and everything but what outlives it is gone. Returns what it told.
fn killed(stage: &Stage, mut demo: Demo) -> String {
    demo.until_told("Ctrl-C ends it");
    signal(demo.child.id(), Signal::SIGKILL);
    let (_, told) = demo.ended();
    let text = stage.path("tmp").to_string_lossy().into_owned();
    until("its daemons are gone", Duration::from_secs(10), || {
        let daemons = ["mosquitto", "phonefleet-agent", "phonefleet-controller", "dockerd"];
        let left: Vec<_> = processes()
            .into_iter()
            .filter(|one| one.mentions(&text) && daemons.iter().any(|name| one.is(name)))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    told
}

#[test]
fn what_a_killed_demo_leaves_in_an_engine_is_taken_down_by_the_next_one() {
    let Some(stage) = Stage::new() else { return };
    killed(&stage, stage.start(&["--phones", "1"]));
    assert_eq!(containers().difference(&stage.containers).count(), 2, "phones outlive their agent");
    // Somebody looks into the folder of the dead one, and is left alone; so is a living demo.
    let folder =
        std::fs::read_dir(stage.path("tmp")).expect("a folder").flatten().next().expect("its folder");
    let log = folder.path().join("agent.log");
    let mut reader = Command::new("tail").arg("-f").arg(&log).stdout(Stdio::null()).spawn().expect("tail");
    let mut living = stage.start(&["--phones", "1"]);
    living.until_told("A demo was killed and left");
    has(&living.told, &["processes: 1, containers: 2: it is taken down"]);
    living.until_told("Ctrl-C ends it");
    let (code, told) = stage.start(&["--once", "--phones", "1"]).ended();
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("was killed"), "{told}");
    signal(living.child.id(), Signal::SIGINT);
    let (code, told) = living.ended();
    assert_eq!(code, Some(0), "{told}");
    assert!(reader.try_wait().expect("a child").is_none(), "the reader was ended");
    reader.kill().expect("it runs");
    let _ = reader.wait();
    stage.is_clean();
}

#[test]
fn what_a_killed_demo_leaves_of_processes_is_taken_down_by_the_next_one() {
    let Some(stage) = Stage::new() else { return };
    let without = |arguments: &[&str]| {
        Demo::of(stage.command(arguments).env_remove("DOCKER_HOST").spawn().expect("it starts"))
    };
    killed(&stage, without(&["--phones", "1"]));
    let (code, told) = without(&["--once", "--phones", "1"]).ended();
    assert_eq!(code, Some(0), "{told}");
    has(&told, &["A demo was killed and left", ", processes: ", "phones are processes"]);
    stage.is_clean();
}

/// A network of its own, in which no engine has a bridge.
struct Network(&'static str);

impl Network {
    fn new(name: &'static str) -> Self {
        for arguments in [vec!["netns", "add", name], vec!["-n", name, "link", "set", "lo", "up"]] {
            assert!(Command::new("ip").args(arguments).status().expect("ip").success());
        }
        Self(name)
    }

    /// Starts a demo there. Not by `ip netns exec`: that hides the control groups.
    fn start(&self, stage: &Stage, arguments: &[&str]) -> Demo {
        stage.start_within(&["nsenter", &format!("--net=/run/netns/{}", self.0)], arguments)
    }

    fn links(&self) -> String {
        let output = Command::new("ip").args(["-n", self.0, "-brief", "link"]).output().expect("ip");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", self.0]).status();
    }
}

#[test]
fn with_an_engine_of_its_own_it_leaves_nothing_and_the_next_one_what_a_killed_one_left() {
    let Some(stage) = Stage::new() else { return };
    let network = Network::new("demo");
    // The repository may be anywhere: its script is found above the current folder, and has the
    // image already.
    let script = stage.path("here/phonesim/image/build");
    std::fs::create_dir_all(script.parent().expect("a folder")).expect("a folder");
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../phonesim/image/build");
    std::fs::write(&script, format!("#!/bin/sh\nexec {build} --import \"$PHONEFLEET_TEST_ROOTFS\"\n"))
        .expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a script");
    let first = killed(&stage, network.start(&stage, &["--phones", "1"]));
    assert!(network.links().contains("docker0"), "the bridge stays: {}", network.links());
    let (code, told) = network.start(&stage, &["--once", "--phones", "1"]).ended();
    assert_eq!(code, Some(0), "{told}");
    has(&told, &["A demo was killed and left", ", started by the demo in its own folder"]);
    has(&told, &["network and control groups of the engine"]);
    shown(&stage, &told);
    assert!(!network.links().contains("docker0"), "{}", network.links());
    stage.is_clean();
    // Control groups are the whole machine's: only those of these two count.
    for told in [first, told] {
        let place =
            told.split_whitespace().find(|word| word.contains("/phonefleet-demo-")).expect("its folder");
        let name = Path::new(place).file_name().expect("a name");
        let groups = Command::new("find").args(["/sys/fs/cgroup", "-name"]).arg(name).output();
        assert!(groups.expect("find").stdout.is_empty(), "control groups of {name:?} are left");
    }
}

/// As in a container where control groups are out of sight.
#[test]
fn where_an_engine_does_not_start_phones_are_processes() {
    let Some(stage) = Stage::new() else { return };
    let network = Network::new("bare");
    let within = format!("--net=/run/netns/{}", network.0);
    let hidden = "umount --recursive --lazy /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let outer = ["nsenter", &within, "unshare", "--mount", "sh", "-c", hidden];
    let (code, told) = stage.start_within(&outer, &["--once", "--phones", "1"]).ended();
    assert_eq!(code, Some(0), "{told}");
    has(&told, &["Engine: none, phones are", "because one of the demo's own does not start: "]);
    // What it was only tried with is not counted in the end, nor are numbers of processes its own.
    assert!(!told.contains("processes of the engine"), "{told}");
    shown(&stage, &told);
    assert!(!network.links().contains("docker0"), "{}", network.links());
    stage.is_clean();
}

#[test]
fn an_engine_that_is_named_and_cannot_be_used_is_not_replaced() {
    let Some(stage) = Stage::new() else { return };
    for (given, code, parts) in [
        (
            "unix:///nowhere/docker.sock",
            6,
            ["DOCKER_HOST names an engine that does not answer", "unset DOCKER_HOST"],
        ),
        ("tcp://127.0.0.1:2375", 2, ["DOCKER_HOST is tcp://127.0.0.1:2375", "on the same machine"]),
    ] {
        let child = stage.command(&["--once"]).env("DOCKER_HOST", given).spawn().expect("it starts");
        let (ended, told) = Demo::of(child).ended();
        assert_eq!(ended, Some(code), "{told}");
        has(&told, &parts);
        stage.is_clean();
    }
}
