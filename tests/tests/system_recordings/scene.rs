//! What every test of recordings does: order, wait, look, and judge the video.

use nix::sys::signal::Signal;
use phonefleet_tests::real::program::signal;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, process_table, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Until something that needs nothing but an answer has happened.
pub const SOON: Duration = Duration::from_secs(20);
/// A recording may be so much shorter or longer than the clock says: frames are 200 ms apart.
pub const CLOCK_SLACK_MS: u64 = 1000;

pub fn world() -> Option<World> {
    world_with("")
}

pub fn world_with(further: &str) -> Option<World> {
    world_of(&HostOptions { further: further.to_owned(), ..HostOptions::default() })
}

/// Its phones are processes.
pub fn world_of_processes() -> Option<World> {
    world_of(&HostOptions { processes: true, ..HostOptions::default() })
}

fn world_of(host: &HostOptions) -> Option<World> {
    let mut world = World::without_hosts(&WorldOptions::default())?;
    world.add_host(&HostOptions { first_port: 26_000, ..host.clone() });
    Some(world)
}

/// `kill -9` to a phone: the kernel takes everything in it along.
pub fn kill_phone(world: &World, phone: &Phone) {
    let host = world.host_of(phone);
    if host.processes.is_none() {
        host.engine.must("POST", &format!("/containers/phonefleet-{}/kill", phone.id), None);
        return;
    }
    let own = host.containers().into_iter().find(|container| container.device == phone.id);
    let init = own.and_then(|container| u32::try_from(container.pid).ok()).filter(|pid| *pid > 1);
    signal(init.unwrap_or_else(|| panic!("{} does not run", phone.name)), Signal::SIGKILL);
}

/// Orders a recording that must be accepted.
pub fn record(world: &World, phone: &Phone, seconds: u64) -> String {
    let body = json!({ "maxDurationSeconds": seconds });
    let data = world.api.post(&format!("/devices/{}/recordings", phone.id), Some(&body)).data(202);
    text(&data["recordingId"])
}

pub fn stop(world: &World, recording: &str) {
    let _ = world.api.post(&format!("/recordings/{recording}/stop"), None).data(202);
}

pub fn view(world: &World, recording: &str) -> Value {
    world.api.get(&format!("/recordings/{recording}"))
}

pub fn is_over(view: &Value) -> bool {
    ["FINAL", "CORRUPT", "FAILED"].iter().any(|status| view["status"] == **status)
}

/// Waits until it is over, and returns what is told of it.
pub fn over(world: &World, recording: &str, patience: Duration) -> Value {
    until(&format!("the end of recording {recording}"), patience, || {
        let view = view(world, recording);
        if is_over(&view) { Ok(view) } else { Err(view.to_string()) }
    })
}

/// Waits until it records, and has this many bytes: about 5 kB a second.
pub fn recorded(world: &World, phone: &Phone, recording: &str, bytes: u64) {
    let file = on_phone(world, phone, recording).join("video.mp4");
    until(&format!("{bytes} bytes of {recording}"), Duration::from_secs(60), || {
        let size = std::fs::metadata(&file).map_or(0, |about| about.len());
        let view = view(world, recording);
        assert!(!is_over(&view), "{view}");
        if size >= bytes && view["status"] == "RECORDING" {
            Ok(())
        } else {
            Err(format!("{size} bytes, {view}"))
        }
    });
}

/// A recording's folder as the host sees it.
pub fn on_phone(world: &World, phone: &Phone, recording: &str) -> PathBuf {
    world.data(phone).join("local/tmp/phonefleet").join(recording)
}

/// The file that the host keeps.
pub fn kept(world: &World, phone: &Phone, recording: &str) -> PathBuf {
    world.host_of(phone).state.join("recordings").join(&phone.id).join(format!("{recording}.mp4"))
}

/// Processes of a recorder; those that only wait for their parent are none.
pub fn recorders(recording: &str) -> Vec<u32> {
    let found = process_table::processes().into_iter();
    found
        .filter(|process| process.is("screenrecord") && process.mentions(recording) && process.state != 'Z')
        .map(|process| process.pid)
        .collect()
}

/// `kill -9` to the adb server of the host's agent.
pub fn kill_adb_server(world: &World) {
    signal_adb_server(world, Signal::SIGKILL);
}

pub fn signal_adb_server(world: &World, sent: Signal) {
    let socket = format!("localfilesystem:{}", world.host().adb_socket().display());
    for process in process_table::processes() {
        if process.is("adb") && process.mentions(&socket) {
            signal(process.pid, sent);
        }
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    now.as_millis() as u64
}

/// Seconds of a video and frames that can be decoded, by `ffprobe`.
pub fn probe(file: &Path) -> Result<(f64, u64), String> {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-show_entries",
            "stream=nb_read_frames:format=duration",
            "-of",
            "json",
        ])
        .arg(file)
        .output()
        .expect("ffprobe runs");
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() || !errors.is_empty() {
        return Err(errors);
    }
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let seconds = number(&told["format"]["duration"]).ok_or_else(|| told.to_string())?;
    let frames = number(&told["streams"][0]["nb_read_frames"]).ok_or_else(|| told.to_string())?;
    Ok((seconds, frames as u64))
}

pub fn milliseconds(view: &Value, name: &str) -> u64 {
    let moment: phonefleet_protocol::time::Timestamp =
        serde_json::from_value(view[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}: {view}"));
    moment.0 as u64
}

/// It is FINAL, whole, as long as the clock says, and what is told of it is true.
pub fn assert_whole(world: &World, phone: &Phone, view: &Value) {
    assert_eq!(view["status"], "FINAL", "{view}");
    let recording = text(&view["id"]);
    let file = kept(world, phone, &recording);
    let (seconds, frames) = probe(&file).unwrap_or_else(|error| panic!("{error}: {view}"));
    let duration = view["durationMs"].as_u64().expect("a duration");
    assert!(duration.abs_diff((seconds * 1000.0) as u64) <= 10, "{seconds} s: {view}");
    let clock = milliseconds(view, "endedAt") - milliseconds(view, "startedAt");
    assert!(clock.abs_diff(duration) <= CLOCK_SLACK_MS, "{clock} ms passed: {view}");
    // Five are drawn a second; the end may come just before the next.
    assert!((frames + 1) as f64 >= seconds * 4.0, "{frames} frames in {seconds} s");
    let bytes = std::fs::metadata(&file).expect("the file").len();
    assert_eq!(view["bytes"].as_u64(), Some(bytes), "{view}");
    let sum = Command::new("sha256sum").arg(&file).output().expect("sha256sum runs");
    let sum = String::from_utf8_lossy(&sum.stdout).into_owned();
    assert_eq!(sum.split_whitespace().next(), view["sha256"].as_str(), "{view}");
}

/// It is CORRUPT for this reason, and its bytes are kept.
pub fn assert_torn(world: &World, phone: &Phone, view: &Value, cause: &str) {
    assert_eq!((&view["status"], &view["endCause"]), (&json!("CORRUPT"), &json!(cause)), "{view}");
    assert_eq!(view["reason"]["code"], "TRUNCATED", "{view}");
    let file = kept(world, phone, &text(&view["id"]));
    assert!(probe(&file).is_err_and(|error| error.contains("moov")), "{view}");
    assert_eq!(view["bytes"].as_u64(), Some(std::fs::metadata(&file).expect("the file").len()), "{view}");
}

/// Nothing of recordings is left on a phone.
pub fn until_gone(world: &World, phone: &Phone) {
    until("nothing of recordings on the phone", SOON, || {
        let folder = world.data(phone).join("local/tmp/phonefleet");
        let left: Vec<_> =
            std::fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_default();
        let processes: Vec<_> =
            process_table::processes().into_iter().filter(|process| process.is("screenrecord")).collect();
        if left.is_empty() && processes.is_empty() { Ok(()) } else { Err(format!("{left:?} {processes:?}")) }
    });
}

/// A number for a test, from whoever runs it.
pub fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}
