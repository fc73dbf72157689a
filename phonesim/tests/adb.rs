//! phonesim's own adbd and the real `adb`: what users and the agent do with a phone, what
//! becomes of commands whose host goes away, and hosts that send garbage. Needs `adb`;
//! without it the tests that use it say that they were skipped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Phone, send, text, wait_until};

/// A phone whose adbd runs, without init.
struct Served {
    phone: Phone,
    adbd: Child,
    address: SocketAddr,
}

impl Served {
    fn start(properties: &[(&str, &str)]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_phonesim")), properties)
    }

    fn start_program(program: &Path, properties: &[(&str, &str)]) -> Self {
        let phone = Phone::with_screen(properties);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let path = format!("{}:/bin:/usr/bin", applets(&phone).display());
        let adbd = Command::new(program)
            .arg("--root")
            .arg(phone.path(""))
            .arg("adbd")
            .env("PATH", path)
            .env("PHONESIM_ROOT", phone.path(""))
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stderr(fs::File::create(phone.path("adbd.log")).unwrap())
            .spawn()
            .unwrap();
        Self { phone, adbd, address }
    }

    fn with_fault(fault: &str) -> Self {
        Self::start(&[("ro.boot.phonesim_fault", fault)])
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.adbd.kill();
        let _ = self.adbd.wait();
    }
}

/// A folder with phonesim under the names that shells call it by.
fn applets(phone: &Phone) -> PathBuf {
    let folder = phone.path("system/bin");
    for name in ["getprop", "screencap", "screenrecord"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_phonesim"), folder.join(name)).unwrap();
    }
    folder
}

/// A server and client of `adb` of a test's own; connected to one phone.
struct Adb {
    folder: tempfile::TempDir,
    server: Child,
    phone: String,
}

impl Adb {
    /// `None` without the program.
    fn start(address: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("adb");
        command.args(["-L", &socket(&folder), "nodaemon", "server"]);
        quiet(&mut command, &folder);
        let Ok(server) = command.stderr(Stdio::null()).spawn() else {
            eprintln!("skipped: adb is not installed");
            return None;
        };
        let adb = Self { folder, server, phone: address.to_string() };
        wait_until("the adb server", || UnixStream::connect(adb.folder.path().join("s")).is_ok());
        Some(adb)
    }

    fn connected(address: SocketAddr) -> Option<Self> {
        let adb = Self::start(address)?;
        wait_until("the phone", || adb.connect().starts_with("connected") || adb.state() == "device");
        Some(adb)
    }

    fn connect(&self) -> String {
        text(&self.command(&["connect", &self.phone]).output().unwrap().stdout)
    }

    fn state(&self) -> String {
        text(&self.run(&["get-state"]).stdout)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("adb");
        quiet(&mut command, &self.folder);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(&[&["-s", &self.phone], arguments].concat()).output().unwrap()
    }

    fn shell(&self, command: &str) -> (i32, String, String) {
        let output = self.run(&["shell", command]);
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

impl Drop for Adb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn socket(folder: &tempfile::TempDir) -> String {
    format!("localfilesystem:{}", folder.path().join("s").display())
}

fn quiet(command: &mut Command, folder: &tempfile::TempDir) {
    command.env("HOME", folder.path()).env("ADB_SERVER_SOCKET", socket(folder));
    command.envs([("ADB_EMU", "0"), ("ADB_USB", "0"), ("ADB_MDNS", "0")]);
}

#[test]
fn commands_have_their_output_errors_input_and_status() {
    let served = Served::start(&[("ro.serialno", "cp-7"), ("ro.product.model", "a;b")]);
    let Some(adb) = Adb::connected(served.address) else { return };
    assert_eq!(adb.shell("getprop ro.serialno"), (0, "cp-7".into(), String::new()));
    assert_eq!(adb.shell("echo out; echo err >&2; exit 7"), (7, "out".into(), "err".into()));
    assert_eq!(adb.shell("kill -9 $$").0, 137);
    assert_eq!(adb.shell("cat; exit 3").0, 3);
    let listed = text(&adb.command(&["devices", "-l"]).output().unwrap().stdout);
    assert!(listed.contains("model:a_b"), "{listed}");

    let mut command = adb.command(&["-s", &adb.phone, "shell", "wc -c"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&vec![b'x'; 3_000_000]).unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "3000000");

    // Without the protocol, and with a terminal.
    let output = adb.run(&["shell", "-x", "echo old; tty | cut -c 1-9"]);
    assert_eq!(text(&output.stdout), "old\n/dev/pts/");
    let output = adb.run(&["shell", "-t", "-t", "stty -echo; echo on $(tty | cut -c 1-9); exit 5"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(5), "on /dev/pts/"));
    // To the byte, and much of it.
    let output = adb.run(&["exec-out", "head -c 5000000 /dev/zero; printf '\\r\\n\\003\\004'"]);
    assert_eq!(output.stdout.len(), 5_000_004);
    assert!(output.stdout.ends_with(b"\r\n\x03\x04"));
    for refused in ["root", "remount", "reboot"] {
        assert!(!adb.run(&[refused]).status.success(), "{refused}");
    }
    assert_eq!(adb.state(), "device");
}

#[test]
fn shells_open_though_an_upgrade_has_replaced_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("phonesim");
    fs::copy(env!("CARGO_BIN_EXE_phonesim"), &program).unwrap();
    let served = Served::start_program(&program, &[]);
    fs::remove_file(&program).unwrap();
    let Some(adb) = Adb::connected(served.address) else { return };
    assert_eq!(adb.shell("echo out"), (0, "out".into(), String::new()));
}

#[test]
fn the_screen_is_shot_and_recorded_over_adb() {
    let served = Served::start(&[("ro.serialno", "cp-8")]);
    let Some(adb) = Adb::connected(served.address) else { return };
    let shot = adb.run(&["exec-out", "screencap", "-p"]).stdout;
    assert!(shot.starts_with(b"\x89PNG\r\n\x1a\n") && shot.ends_with(b"IEND\xae\x42\x60\x82"));
    let there = served.phone.path("video.mp4");
    let here = adb.folder.path().join("video.mp4");
    let (status, _, errors) = adb.shell(&format!("screenrecord --time-limit 2 {}", there.display()));
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(adb.run(&["pull", there.to_str().unwrap(), here.to_str().unwrap()]).status.success());
    if let Some((codec, frames, seconds)) = support::ffprobe(&here) {
        assert_eq!(codec, "h264");
        assert!(frames >= 5 && (1.5..2.5).contains(&seconds), "{frames} frames, {seconds} s");
    }
}

#[test]
fn files_go_there_and_back_with_mode_and_time() {
    let served = Served::start(&[]);
    let Some(adb) = Adb::connected(served.address) else { return };
    let folder = adb.folder.path();
    let (mine, theirs, back) =
        (folder.join("mine"), served.phone.path("data/a, b/file"), folder.join("back"));
    let content: Vec<u8> = (0..3_000_000_u32).map(|place| ((place * 7) >> 3) as u8).collect();
    fs::write(&mine, &content).unwrap();
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o750)).unwrap();
    let run = |arguments: &[&str]| {
        let output = adb.run(arguments);
        (output.status.success(), text(&[output.stdout, output.stderr].concat()))
    };
    let (mine_name, theirs_name, back_name) =
        (mine.to_str().unwrap(), theirs.to_str().unwrap(), back.to_str().unwrap());
    let pushed = run(&["push", mine_name, theirs_name]);
    assert!(pushed.0, "{}", pushed.1);
    assert_eq!(fs::read(&theirs).unwrap(), content);
    let (before, after) = (mine.metadata().unwrap(), theirs.metadata().unwrap());
    assert_eq!(after.mtime(), before.mtime());
    assert_eq!(after.mode() & 0o700, 0o700, "what the host leaves of a mode");
    assert!(run(&["pull", "-a", theirs_name, back_name]).0);
    assert_eq!(fs::read(&back).unwrap(), content);

    // Whole folders, links, what is not there, and where nothing can be written.
    fs::create_dir_all(folder.join("tree/deep")).unwrap();
    fs::write(folder.join("tree/deep/leaf"), "leaf").unwrap();
    let there = served.phone.path("tree");
    let pushed = run(&["push", folder.join("tree").to_str().unwrap(), there.to_str().unwrap()]);
    assert!(pushed.0, "{}", pushed.1);
    assert_eq!(fs::read(there.join("deep/leaf")).unwrap(), b"leaf");
    std::os::unix::fs::symlink("deep/leaf", there.join("link")).unwrap();
    let pulled = run(&["pull", there.to_str().unwrap(), folder.join("again").to_str().unwrap()]);
    assert!(pulled.0, "{}", pulled.1);
    assert_eq!(fs::read(folder.join("again/deep/leaf")).unwrap(), b"leaf");
    let listed = run(&["ls", there.to_str().unwrap()]).1;
    assert!(listed.lines().any(|line| line.ends_with(" deep")), "{listed}");
    let (fine, words) = run(&["pull", "/no/such/file", back_name]);
    assert!(!fine && words.contains("No such file"), "{words}");
    let (fine, words) = run(&["push", mine_name, "/proc/1/x"]);
    assert!(!fine && words.contains("cannot write"), "{words}");
    assert_eq!(adb.state(), "device");
}

#[test]
fn a_command_whose_host_goes_away_is_hung_up_on() {
    let served = Served::start(&[]);
    let Some(adb) = Adb::connected(served.address) else { return };
    for (place, kind) in [&["shell"][..], &["shell", "-x"], &["exec-out"]].iter().enumerate() {
        let (begun, told) =
            (served.phone.path(&format!("b{place}")), served.phone.path(&format!("t{place}")));
        let script = format!(
            "trap 'echo hup > {}; exit' HUP; echo > {}; while :; do sleep 0.05; done",
            told.display(),
            begun.display()
        );
        let arguments = [&["-s", &adb.phone], *kind, &[script.as_str()]].concat();
        let mut client = adb.command(&arguments).stdout(Stdio::null()).spawn().unwrap();
        wait_until("the command runs", || begun.exists());
        send(&client, Signal::SIGKILL);
        client.wait().unwrap();
        wait_until("it was hung up on", || told.exists());
    }
    // The interrupt key of a terminal.
    let told = served.phone.path("interrupted");
    let script =
        format!("trap 'echo int > {}; exit 9' INT; echo go; while :; do sleep 0.05; done", told.display());
    let mut command = adb.command(&["-s", &adb.phone, "shell", "-tt", &script]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    client.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    client.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    wait_until("SIGINT", || told.exists());
    assert_eq!(client.wait().unwrap().code(), Some(9));
    // No command is left, nor a zombie of one.
    let children = format!("/proc/{0}/task/{0}/children", served.adbd.id());
    wait_until("no child is left", || fs::read_to_string(&children).unwrap_or_default().trim().is_empty());
}

#[test]
fn faults_show_themselves_to_the_real_adb() {
    for (fault, state, words) in [
        ("adb_auth", "unauthorized", "failed to authenticate"),
        ("adb_garbage", "", "failed to connect"),
        ("adb_half_open", "device", "connected"),
    ] {
        let served = Served::with_fault(fault);
        let Some(adb) = Adb::start(served.address) else { return };
        let said = adb.connect();
        assert!(said.starts_with(words), "{fault}: {said}");
        let listed = text(&adb.command(&["devices"]).output().unwrap().stdout);
        let line = listed.lines().find(|line| line.starts_with(&adb.phone)).unwrap_or_default();
        assert!(line.ends_with(state), "{fault}: {listed}");
        if fault == "adb_half_open" {
            let mut client = adb.command(&["-s", &adb.phone, "shell", "true"]).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(500));
            assert!(client.try_wait().unwrap().is_none(), "nobody answers it");
            client.kill().unwrap();
            client.wait().unwrap();
        }
    }
    let served = Served::with_fault("adb_auth_once");
    let Some(adb) = Adb::connected(served.address) else { return };
    assert_eq!(adb.shell("echo in").1, "in");
}

#[test]
fn a_silent_phone_hears_and_says_nothing() {
    let served = Served::with_fault("adb_silent");
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"CNXN").unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn garbage_of_hosts_costs_them_their_connection_and_nothing_else() {
    let mut served = Served::start(&[]);
    let endless = [b"OPEN", &[9_u8; 20][..]].concat();
    for words in [&b"GET / HTTP/1.1\r\n\r\nxxxxxxxxxx"[..], &[0xff; 4096], &endless, b"CNXN"] {
        let mut stream = TcpStream::connect(served.address).unwrap();
        let _ = stream.write_all(words);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{words:?}");
    }
    assert!(served.adbd.try_wait().unwrap().is_none());
    // Stopped and gone on, as a phone that hangs for a while.
    let pid = Pid::from_raw(served.adbd.id() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    let Some(adb) = Adb::connected(served.address) else { return };
    assert_eq!(adb.shell("echo fine").1, "fine");
}
