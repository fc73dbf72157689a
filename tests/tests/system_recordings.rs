//! Recordings of real phones: real engine, `adb`, broker and daemons, videos judged by
//! `ffprobe`. Then `kill -9` to everybody while they record, and many starts and stops.
//!
//! `PHONEFLEET_RECORDING_ROUNDS` (8), `PHONEFLEET_RECORDING_CYCLES` (20) and
//! `PHONEFLEET_RECORDING_SEED` (the time) steer the last two; the seed is printed.

use nix::sys::signal::Signal;
use phonefleet_tests::real::http::Api;
use phonefleet_tests::real::program::signal;
use phonefleet_tests::real::world::text;
use phonefleet_tests::real::{HostOptions, Phone, World, WorldOptions, process_table, until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Until something that needs nothing but an answer has happened.
const SOON: Duration = Duration::from_secs(20);
/// A recording may be so much shorter or longer than the clock says: frames are 200 ms apart.
const CLOCK_SLACK_MS: u64 = 1000;

fn world() -> Option<World> {
    world_with("")
}

fn world_with(further: &str) -> Option<World> {
    let mut world = World::without_hosts(&WorldOptions::default())?;
    world.add_host(&HostOptions {
        first_port: 26_000,
        further: further.to_owned(),
        ..HostOptions::default()
    });
    Some(world)
}

/// Orders a recording that must be accepted.
fn record(world: &World, phone: &Phone, seconds: u64) -> String {
    let body = json!({ "maxDurationSeconds": seconds });
    let data = world.api.post(&format!("/devices/{}/recordings", phone.id), Some(&body)).data(202);
    text(&data["recordingId"])
}

fn stop(world: &World, recording: &str) {
    let _ = world.api.post(&format!("/recordings/{recording}/stop"), None).data(202);
}

fn view(world: &World, recording: &str) -> Value {
    world.api.get(&format!("/recordings/{recording}"))
}

fn is_over(view: &Value) -> bool {
    ["FINAL", "CORRUPT", "FAILED"].iter().any(|status| view["status"] == **status)
}

/// Waits until it is over, and returns what is told of it.
fn over(world: &World, recording: &str, patience: Duration) -> Value {
    until(&format!("the end of recording {recording}"), patience, || {
        let view = view(world, recording);
        if is_over(&view) { Ok(view) } else { Err(view.to_string()) }
    })
}

/// Waits until it records, and has this many bytes: about 5 kB a second.
fn recorded(world: &World, phone: &Phone, recording: &str, bytes: u64) {
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
fn on_phone(world: &World, phone: &Phone, recording: &str) -> PathBuf {
    world.data(phone).join("local/tmp/phonefleet").join(recording)
}

/// The file that the host keeps.
fn kept(world: &World, phone: &Phone, recording: &str) -> PathBuf {
    world.host_of(phone).state.join("recordings").join(&phone.id).join(format!("{recording}.mp4"))
}

/// Processes of a recorder; those that only wait for their parent are none.
fn recorders(recording: &str) -> Vec<u32> {
    let found = process_table::processes().into_iter();
    found
        .filter(|process| process.is("screenrecord") && process.mentions(recording) && process.state != 'Z')
        .map(|process| process.pid)
        .collect()
}

/// Seconds of a video and frames that can be decoded, by `ffprobe`.
fn probe(file: &Path) -> Result<(f64, u64), String> {
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

fn milliseconds(view: &Value, name: &str) -> u64 {
    let moment: phonefleet_protocol::time::Timestamp =
        serde_json::from_value(view[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}: {view}"));
    moment.0 as u64
}

/// It is FINAL, whole, as long as the clock says, and what is told of it is true.
fn assert_whole(world: &World, phone: &Phone, view: &Value) {
    assert_eq!(view["status"], "FINAL", "{view}");
    let recording = text(&view["id"]);
    let file = kept(world, phone, &recording);
    let (seconds, frames) = probe(&file).unwrap_or_else(|error| panic!("{error}: {view}"));
    let duration = view["durationMs"].as_u64().expect("a duration");
    assert!(duration.abs_diff((seconds * 1000.0) as u64) <= 10, "{seconds} s: {view}");
    let clock = milliseconds(view, "endedAt") - milliseconds(view, "startedAt");
    assert!(clock.abs_diff(duration) <= CLOCK_SLACK_MS, "{clock} ms passed: {view}");
    assert!(frames as f64 >= seconds * 4.0, "{frames} frames in {seconds} s");
    let bytes = std::fs::metadata(&file).expect("the file").len();
    assert_eq!(view["bytes"].as_u64(), Some(bytes), "{view}");
    let sum = Command::new("sha256sum").arg(&file).output().expect("sha256sum runs");
    let sum = String::from_utf8_lossy(&sum.stdout).into_owned();
    assert_eq!(sum.split_whitespace().next(), view["sha256"].as_str(), "{view}");
}

/// It is CORRUPT for this reason, and its bytes are kept.
fn assert_torn(world: &World, phone: &Phone, view: &Value, cause: &str) {
    assert_eq!((&view["status"], &view["endCause"]), (&json!("CORRUPT"), &json!(cause)), "{view}");
    assert_eq!(view["reason"]["code"], "TRUNCATED", "{view}");
    let file = kept(world, phone, &text(&view["id"]));
    assert!(probe(&file).is_err_and(|error| error.contains("moov")), "{view}");
    assert_eq!(view["bytes"].as_u64(), Some(std::fs::metadata(&file).expect("the file").len()), "{view}");
}

/// Nothing of recordings is left on a phone.
fn until_gone(world: &World, phone: &Phone) {
    until("nothing of recordings on the phone", SOON, || {
        let folder = world.data(phone).join("local/tmp/phonefleet");
        let left: Vec<_> =
            std::fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_default();
        let processes: Vec<_> =
            process_table::processes().into_iter().filter(|process| process.is("screenrecord")).collect();
        if left.is_empty() && processes.is_empty() { Ok(()) } else { Err(format!("{left:?} {processes:?}")) }
    });
}

#[test]
fn a_recording_from_its_order_to_its_last_byte() {
    let Some(world) = world() else { return };
    let phone = world.phone("phone-1");
    let witness = world.witness(&phone);
    let recording = record(&world, &phone, 60);
    recorded(&world, &phone, &recording, 15_000);
    let processes = recorders(&recording);
    assert_eq!(processes.len(), 1);
    // A session of its own, which nobody's end can reach.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", processes[0])).expect("its stat");
    let fields: Vec<_> = stat.rsplit_once(')').expect("a stat").1.split_whitespace().collect();
    assert_eq!(fields[2], fields[3], "process group and session: {stat}");
    assert_eq!(fields[4], "0", "a terminal: {stat}");
    let problem = world.api.post(&format!("/devices/{}/recordings", phone.id), None).problem(409, "CONFLICT");
    assert_eq!(problem["recordingId"], recording.as_str());
    let asked = Instant::now();
    stop(&world, &recording);
    let view = over(&world, &recording, SOON);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}: {view}", asked.elapsed());
    assert_eq!(view["endCause"], "STOPPED", "{view}");
    assert_whole(&world, &phone, &view);
    until_gone(&world, &phone);

    // What a user gets.
    let content = world.api.call("GET", &format!("/recordings/{recording}/content"), None);
    assert_eq!(content.status, 200);
    assert_eq!(content.body, std::fs::read(kept(&world, &phone, &recording)).expect("the file"));

    // Its time limit, noticed at once.
    let limited = record(&world, &phone, 4);
    let view = over(&world, &limited, SOON);
    assert_eq!(view["endCause"], "TIME_LIMIT", "{view}");
    assert_whole(&world, &phone, &view);
    let (length, clock) =
        (view["durationMs"].as_u64(), milliseconds(&view, "endedAt") - milliseconds(&view, "startedAt"));
    assert!(length.is_some_and(|length| (3800..=4200).contains(&length)), "{view}");
    assert!((3900..5000).contains(&clock), "{clock}: {view}");
    assert_eq!(world.witness(&phone), witness);
    until_gone(&world, &phone);
}

#[test]
fn a_users_own_recorder_is_left_alone() {
    let Some(mut world) = world() else { return };
    let phone = world.phone("phone-1");
    world.adb.connect(&phone.address);
    let own = "/data/local/tmp/own.mp4";
    let begin = format!("setsid screenrecord --time-limit 100 {own} </dev/null >/dev/null 2>&1 &");
    world.adb.shell(&phone.address, &begin).expect("the user's recorder begins");
    let alive = || {
        process_table::processes().into_iter().any(|found| found.is("screenrecord") && found.mentions(own))
    };
    until("the user's recorder runs", SOON, || if alive() { Ok(()) } else { Err("not yet".to_owned()) });
    let recording = record(&world, &phone, 60);
    recorded(&world, &phone, &recording, 8_000);
    stop(&world, &recording);
    assert_whole(&world, &phone, &over(&world, &recording, SOON));
    // Nor does a new agent, which looks for recorders without a row, touch it.
    let orphan = record(&world, &phone, 170);
    recorded(&world, &phone, &orphan, 8_000);
    world.agent().kill();
    let state = world.host().state.clone();
    for entry in std::fs::read_dir(&state).expect("the agent's state").flatten() {
        if entry.file_name().to_string_lossy().starts_with("agent.db") {
            std::fs::remove_file(entry.path()).expect("a database file");
        }
    }
    world.agent().start_again();
    until("the recorder without a row is ended", Duration::from_secs(60), || {
        let left = recorders(&orphan);
        if left.is_empty() && !on_phone(&world, &phone, &orphan).exists() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    assert!(alive(), "the user's recorder was ended");
    let view = over(&world, &orphan, Duration::from_secs(60));
    assert_eq!(view["status"], "FAILED", "{view}");
    let metrics = world.host().local_api.call("GET", "/metrics", None).text();
    assert!(metrics.contains("phonefleet_agent_recordings_orphans_total 1"), "{metrics}");
}

#[test]
fn a_phone_that_is_stopped_rebooted_reset_or_deleted_lets_its_video_be_finished() {
    let Some(world) = world() else { return };
    for verb in ["reboot", "reset", "stop", "delete"] {
        let phone = world.phone(&format!("phone-{verb}"));
        let recording = record(&world, &phone, 170);
        recorded(&world, &phone, &recording, 10_000);
        world.do_verb(&phone.id, verb);
        let view = over(&world, &recording, SOON);
        let cause = text(&view["endCause"]);
        assert!(["STOPPED", "DEVICE_STOPPED"].contains(&cause.as_str()), "{verb}: {view}");
        assert_whole(&world, &phone, &view);
        assert!(recorders(&recording).is_empty(), "{verb}");
        if verb != "delete" {
            world.do_verb(&phone.id, "delete");
        }
    }
    world.clean();
}

#[test]
fn a_phone_that_dies_is_told_at_once_and_its_bytes_are_kept() {
    let Some(world) = world() else { return };
    let phone = world.phone("phone-1");
    for way in ["kill?signal=KILL", "restart?t=0"] {
        let recording = record(&world, &phone, 170);
        recorded(&world, &phone, &recording, 10_000);
        let struck = Instant::now();
        world.host().engine.must("POST", &format!("/containers/phonefleet-{}/{way}", phone.id), None);
        let view = over(&world, &recording, SOON);
        assert_torn(&world, &phone, &view, "DEVICE_DIED");
        if way.starts_with("kill") {
            assert!(struck.elapsed() < Duration::from_secs(3), "{:?}", struck.elapsed());
        }
        until("the phone runs again", Duration::from_secs(60), || {
            let device = world.device(&phone.id);
            let running: i64 =
                world.host().row("SELECT count(*) FROM device WHERE phase = 'running' AND booted = 1");
            let up = world.host().engine.states(&world.host().id).unwrap_or_default();
            let up = up.iter().any(|(_, state)| state == "running");
            if device["status"] == "RUNNING" && running == 1 && up { Ok(()) } else { Err(device.to_string()) }
        });
        // A phone that has just died is reached again in a moment.
        let next = until("a recording of the phone that came back", Duration::from_secs(60), || {
            let body = json!({ "maxDurationSeconds": 2 });
            let reply = world.api.post(&format!("/devices/{}/recordings", phone.id), Some(&body));
            if reply.status != 202 {
                return Err(reply.text());
            }
            let view = over(&world, &text(&reply.data(202)["recordingId"]), SOON);
            if view["status"] == "FINAL" { Ok(view) } else { Err(view.to_string()) }
        });
        assert_whole(&world, &phone, &next);
    }
    until_gone(&world, &phone);
}

#[test]
fn recorders_that_fail_or_hang_end_with_the_true_reason() {
    let Some(world) = world() else { return };
    let with = |fault: &str| world.phone_with(fault, &[&format!("androidboot.phonesim_fault={fault}")]);
    let refuses = with("record_refuse");
    let view = over(&world, &record(&world, &refuses, 20), SOON);
    assert_eq!(
        (&view["status"], &view["reason"]["code"]),
        (&json!("FAILED"), &json!("RECORDER_FAILED")),
        "{view}"
    );
    assert!(text(&view["reason"]["detail"]).contains("unable to create video/avc codec"), "{view}");
    let fails = with("record_fail");
    let view = over(&world, &record(&world, &fails, 20), SOON);
    assert_torn(&world, &fails, &view, "PROCESS_ENDED");
    assert!(text(&view["reason"]["detail"]).contains("err=-38"), "{view}");
    let hangs = with("record_hang");
    let recording = record(&world, &hangs, 170);
    recorded(&world, &hangs, &recording, 1);
    let asked = Instant::now();
    stop(&world, &recording);
    let view = over(&world, &recording, Duration::from_secs(40));
    assert!((14..25).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    assert_torn(&world, &hangs, &view, "STOPPED");
    assert!(text(&view["reason"]["detail"]).contains("killed"), "{view}");
    // One that hangs does not hold its phone up.
    let recording = record(&world, &hangs, 170);
    recorded(&world, &hangs, &recording, 1);
    let asked = Instant::now();
    world.do_verb(&hangs.id, "delete");
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    let view = over(&world, &recording, SOON);
    assert_eq!(view["status"], "CORRUPT", "{view}");
}

#[test]
fn videos_are_served_by_their_host_to_whoever_the_controller_sends() {
    let address = SocketAddr::from(([127, 0, 0, 1], 26_990));
    let content = format!("[content]\nlisten = \"{address}\"\nadvertise_url = \"http://{address}\"");
    let Some(world) = world_with(&content) else { return };
    let phone = world.phone("phone-1");
    let recording = record(&world, &phone, 60);
    recorded(&world, &phone, &recording, 8_000);
    stop(&world, &recording);
    let view = over(&world, &recording, SOON);
    assert_whole(&world, &phone, &view);
    // As if the host were another machine.
    let mark = world.host().state.join("recordings/.phonefleet-host");
    std::fs::remove_file(&mark).expect("the mark");
    let reply = world.api.call("GET", &format!("/recordings/{recording}/content"), None);
    assert_eq!(reply.status, 307, "{}", reply.text());
    let location = reply.head.lines().find_map(|line| line.strip_prefix("location: ")).expect("a location");
    let path = location.trim().strip_prefix(&format!("http://{address}")).expect("the host's address");
    let host = Api { address };
    let video = host.call("GET", path, None);
    assert_eq!(video.status, 200, "{}", video.text());
    assert_eq!(video.body, std::fs::read(kept(&world, &phone, &recording)).expect("the file"));
    assert!(video.head.contains(&text(&view["sha256"])), "{}", video.head);
    assert_eq!(host.call("GET", &path.replace("expires=", "expires=1"), None).status, 403);
    assert_eq!(host.call("GET", &format!("/recordings/{recording}/content"), None).status, 403);
}

/// Who is killed in mid-recording.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Agent,
    AdbServer,
    Recorder,
    Container,
    AgentAndAdbServer,
    AgentAndRecorder,
}

fn strike(world: &mut World, phone: &Phone, recording: &str, victim: Victim) {
    let adb_server = |world: &World| {
        let socket = format!("localfilesystem:{}", world.host().adb_socket().display());
        for process in process_table::processes() {
            if process.is("adb") && process.mentions(&socket) {
                signal(process.pid, Signal::SIGKILL);
            }
        }
    };
    let recorder = || {
        for pid in recorders(recording) {
            signal(pid, Signal::SIGKILL);
        }
    };
    match victim {
        Victim::Agent => {
            world.agent().kill();
            world.agent().start_again();
        }
        Victim::AdbServer => adb_server(world),
        Victim::Recorder => recorder(),
        Victim::Container => {
            world.host().engine.must("POST", &format!("/containers/phonefleet-{}/kill", phone.id), None);
        }
        Victim::AgentAndAdbServer => {
            world.agent().kill();
            adb_server(world);
            world.agent().start_again();
        }
        Victim::AgentAndRecorder => {
            world.agent().kill();
            recorder();
            world.agent().start_again();
        }
    }
}

/// Numbers that look random, the same for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// Everything of a finished round: whole, or torn for the reason that is told.
fn assert_true(world: &World, phone: &Phone, view: &Value, victims: &[Victim], what: &str) {
    let tears =
        |victim: &Victim| matches!(victim, Victim::Recorder | Victim::Container | Victim::AgentAndRecorder);
    match view["status"].as_str() {
        Some("FINAL") => assert_whole(world, phone, view),
        Some("CORRUPT") => {
            assert!(victims.iter().any(tears), "nobody tore it: {what}: {view}");
            let cause = text(&view["endCause"]);
            let died = victims.iter().any(|victim| matches!(victim, Victim::Container));
            let killed =
                victims.iter().any(|victim| matches!(victim, Victim::Recorder | Victim::AgentAndRecorder));
            let fits = match cause.as_str() {
                "DEVICE_DIED" => died,
                "PROCESS_ENDED" => killed,
                // Asked for before it was torn.
                "STOPPED" => true,
                _ => false,
            };
            assert!(fits, "{what}: {view}");
            assert_torn(world, phone, view, &cause);
        }
        // Stopped before it had begun, or killed before there was a byte.
        Some("FAILED") if view["reason"]["code"] == "NEVER_STARTED" => {
            assert_eq!(view["endCause"], "STOPPED", "{what}: {view}");
        }
        Some("FAILED") => assert!(victims.iter().any(tears), "{what}: {view}"),
        _ => panic!("{what}: {view}"),
    }
}

#[test]
fn whoever_is_killed_every_recording_ends_whole_or_with_the_true_reason() {
    let Some(mut world) = world() else { return };
    let rounds = from_environment("PHONEFLEET_RECORDING_ROUNDS").unwrap_or(8);
    let seed = from_environment("PHONEFLEET_RECORDING_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        now.as_millis() as u64
    });
    println!("PHONEFLEET_RECORDING_SEED={seed} PHONEFLEET_RECORDING_ROUNDS={rounds}");
    let mut dice = Dice(seed | 1);
    let mut phone = world.phone("phone-0");
    let mut ends = std::collections::BTreeMap::<String, u32>::new();
    for round in 1..=rounds {
        let limit = 3 + dice.below(4);
        let recording = record(&world, &phone, limit);
        let began = Instant::now();
        let mut victims = Vec::new();
        for _ in 0..=dice.below(2) {
            let pause = Duration::from_millis(dice.below(2500));
            std::thread::sleep(pause);
            let victim = match dice.below(10) {
                0..=2 => Victim::Agent,
                3 | 4 => Victim::AdbServer,
                5 => Victim::Recorder,
                6 => Victim::Container,
                7 | 8 => Victim::AgentAndAdbServer,
                _ => Victim::AgentAndRecorder,
            };
            // The first death decides: a phone that is dead is no victim any more.
            let dead = matches!(victims.last(), Some(Victim::Container));
            if dead && matches!(victim, Victim::Container) {
                continue;
            }
            strike(&mut world, &phone, &recording, victim);
            victims.push(victim);
        }
        let stopped = dice.below(2) == 0;
        if stopped {
            stop(&world, &recording);
        }
        let what = format!("seed {seed}, round {round}, limit {limit} s, {victims:?}, stopped {stopped}");
        let view = over(&world, &recording, Duration::from_secs(90));
        assert_true(&world, &phone, &view, &victims, &what);
        assert!(recorders(&recording).is_empty(), "{what}");
        let end = format!("{} {}", text(&view["status"]), text(&view["endCause"]));
        println!("{what}: {end} after {:?}", began.elapsed());
        *ends.entry(end).or_default() += 1;
        if victims.iter().any(|victim| matches!(victim, Victim::Container)) {
            // Five deaths in ten minutes are a crash loop: on with a fresh one.
            let saga = world.verb(&phone.id, "delete");
            world.completed(&saga);
            phone = world.phone(&format!("phone-{round}"));
        }
    }
    println!("{ends:?}");
    until("every folder is swept", Duration::from_secs(60), || {
        let folder = world.data(&phone).join("local/tmp/phonefleet");
        let left: Vec<_> =
            std::fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_default();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let orphans = world.api.get("/recordings?limit=1")["summary"]["orphans"].clone();
    assert_eq!(orphans, json!(0), "recorders without a row");
    world.do_verb(&phone.id, "delete");
    world.clean();
}

/// Processes in the world of the agent: those of phones, and its own server.
fn processes() -> usize {
    process_table::processes().into_iter().filter(|process| process.state != 'Z').count()
}

/// What a process has open, beside its database: readers of that come and stay as needed.
fn open_files(pid: u32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    open.filter(|target| !target.to_string_lossy().contains("agent.db")).count()
}

#[test]
fn many_starts_and_stops_leave_nothing_behind() {
    let Some(world) = world() else { return };
    let cycles = from_environment("PHONEFLEET_RECORDING_CYCLES").unwrap_or(20);
    let phone = world.phone("phone-1");
    let agent = world.host().agent.pid();
    let cycle = || {
        let recording = record(&world, &phone, 60);
        recorded(&world, &phone, &recording, 1);
        stop(&world, &recording);
        let view = over(&world, &recording, SOON);
        assert_eq!(view["status"], "FINAL", "{view}");
        assert!(probe(&kept(&world, &phone, &recording)).is_ok(), "{view}");
    };
    // The first ones open what stays open.
    for _ in 0..3 {
        cycle();
    }
    until_gone(&world, &phone);
    let (processes_before, files_before) = (processes(), open_files(agent));
    let began = Instant::now();
    for _ in 0..cycles {
        cycle();
    }
    println!("{cycles} cycles in {:?}", began.elapsed());
    until_gone(&world, &phone);
    until("as many processes and files as before", SOON, || {
        let now = (processes(), open_files(agent));
        if now.0 <= processes_before && now.1 <= files_before {
            Ok(())
        } else {
            Err(format!("{now:?}, before {:?}", (processes_before, files_before)))
        }
    });
    let host = world.host();
    let rows: i64 = host.row("SELECT count(*) FROM recording");
    assert_eq!(rows as u64, cycles + 3);
    assert_eq!(host.row::<i64>("SELECT count(*) FROM recording WHERE finished_at IS NULL"), 0);
    until("every end is heard", SOON, || {
        let untold: i64 = host.row("SELECT count(*) FROM recording WHERE told = 0");
        if untold == 0 { Ok(()) } else { Err(format!("{untold} are not")) }
    });
    let files = std::fs::read_dir(host.state.join("recordings").join(&phone.id)).expect("videos").count();
    assert_eq!(files as u64, cycles + 3, "videos and nothing beside them");
    world.do_verb(&phone.id, "delete");
    world.clean();
}
