//! Records with the real program and real signals, and looks at what is left.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::{Phone, ffprobe, mp4, send, text, wait_for_end, wait_until};

const FAULT: &str = "ro.boot.phonesim_fault";

/// A recording that has written its first frame.
fn start(phone: &Phone, options: &[&str]) -> (Child, PathBuf) {
    let file = phone.path("film.mp4");
    let name = file.to_str().expect("a readable path");
    let child = phone
        .command(&[&["screenrecord"], options, &[name]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the recorder starts");
    wait_until("the first frame", || length(&file) > 1000);
    (child, file)
}

fn content(file: &Path) -> Vec<u8> {
    fs::read(file).expect("the recording can be read")
}

fn length(file: &Path) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// A finished recording whose length lies within what was measured from outside.
fn assert_playable(file: &Path, at_least: Duration, at_most: Duration) {
    let summary = mp4::read(&content(file)).expect("a finished file");
    assert_eq!(summary.size, (180, 320));
    let duration = Duration::from_millis(summary.duration_ms.into());
    // The file counts whole milliseconds.
    assert!(duration + Duration::from_millis(1) > at_least, "{duration:?} < {at_least:?}");
    assert!(duration <= at_most, "{duration:?} > {at_most:?}");
    // Five a second; a machine with other work may miss some.
    let expected = summary.duration_ms / 200 + 1;
    assert!((expected.div_ceil(2)..=expected).contains(&summary.frames), "{summary:?}");
    if let Some((codec, frames, seconds)) = ffprobe(file) {
        assert_eq!(codec, "h264");
        assert_eq!(frames, summary.frames);
        assert!((seconds - duration.as_secs_f64()).abs() < 0.01, "{seconds}");
    }
}

fn assert_torn(file: &Path) {
    assert!(length(file) > 1000);
    assert!(mp4::read(&content(file)).is_err());
}

#[test]
fn an_interrupt_or_a_hangup_finishes_the_file() {
    for signal in [Signal::SIGINT, Signal::SIGHUP] {
        let phone = Phone::with_screen(&[]);
        let begun = Instant::now();
        let (mut child, file) = start(&phone, &["--bit-rate", "4M"]);
        let seen = Instant::now();
        let early = length(&file);
        wait_until("2 s", || seen.elapsed() >= Duration::from_secs(2));
        assert!(length(&file) > early, "the file grows");
        let recorded = seen.elapsed();
        send(&child, signal);
        assert_eq!(wait_for_end(&mut child).code(), Some(0));
        assert_playable(&file, recorded, begun.elapsed());
    }
}

#[test]
fn any_other_end_leaves_the_file_torn() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let phone = Phone::with_screen(&[]);
        let (mut child, file) = start(&phone, &[]);
        send(&child, signal);
        assert_eq!(wait_for_end(&mut child).signal(), Some(signal as i32));
        assert_torn(&file);
    }
}

#[test]
fn the_time_limit_finishes_the_file() {
    let phone = Phone::with_screen(&[]);
    let begun = Instant::now();
    let (mut child, file) = start(&phone, &["--time-limit", "1", "--verbose"]);
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    assert_playable(&file, Duration::from_secs(1), begun.elapsed());
    assert_eq!(mp4::read(&content(&file)).unwrap().duration_ms, 1000);
    let mut said = String::new();
    child.stdout.unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("Time limit reached"), "{said}");
}

#[test]
fn a_shell_that_ignores_interrupts_for_its_jobs_does_not_make_the_recorder_deaf() {
    let phone = Phone::with_screen(&[]);
    let file = phone.path("film.mp4");
    let begun = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", "trap '' INT; exec \"$0\" --root \"$1\" screenrecord \"$2\""])
        .arg(env!("CARGO_BIN_EXE_phonesim"))
        .arg(phone.path(""))
        .arg(&file)
        .spawn()
        .unwrap();
    wait_until("the first frame", || length(&file) > 1000);
    send(&child, Signal::SIGINT);
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    assert_playable(&file, Duration::ZERO, begun.elapsed());
}

#[test]
fn what_is_outside_the_limits_is_refused() {
    let phone = Phone::with_screen(&[]);
    let file = phone.path("film.mp4");
    let name = file.to_str().unwrap();
    for limit in ["0", "181"] {
        for arguments in [
            &["screenrecord", "--time-limit", limit, name][..],
            &["screenrecord", &format!("--time-limit={limit}"), name],
        ] {
            let refused = phone.run(arguments);
            assert_eq!(refused.status.code(), Some(2));
            assert_eq!(
                text(&refused.stderr),
                format!("Time limit {limit}s outside acceptable range [1,180]")
            );
        }
    }
    assert!(!file.exists());
    let help = phone.run(&["screenrecord", "--help"]);
    assert!(help.status.success());
    assert!(!text(&help.stdout).contains("remove the time limit"));
    let off = Phone::new();
    assert_eq!(off.run(&["screenrecord", name]).status.code(), Some(1));
}

#[test]
fn a_stream_goes_to_stdout_and_outlives_its_reader() {
    let phone = Phone::with_screen(&[]);
    let arguments = ["screenrecord", "--output-format=h264", "--time-limit", "2", "-"];
    let stream = phone.run(&arguments);
    assert!(stream.status.success());
    assert!(stream.stdout.starts_with(&[0, 0, 0, 1, 0x67]));
    let file = phone.path("film.h264");
    fs::write(&file, &stream.stdout).unwrap();
    if let Some((codec, frames, _)) = ffprobe(&file) {
        assert_eq!(codec, "h264");
        assert!((2..=11).contains(&frames), "{frames}");
    }

    let begun = Instant::now();
    let mut child = phone.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_secs(2), "to the time limit");
}

#[test]
fn a_refused_recording_ends_at_once() {
    let phone = Phone::with_screen(&[(FAULT, "record_refuse")]);
    let refused = phone.run(&["screenrecord", phone.path("film.mp4").to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(&refused.stderr), "ERROR: unable to create video/avc codec instance");
    assert!(!phone.path("film.mp4").exists());
}

#[test]
fn a_failing_encoder_leaves_a_torn_file() {
    let phone = Phone::with_screen(&[(FAULT, "record_fail")]);
    let (mut child, file) = start(&phone, &[]);
    assert_eq!(wait_for_end(&mut child).code(), Some(1));
    assert_torn(&file);
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("Unable to get output buffers"), "{said}");
}

#[test]
fn a_hanging_recorder_heeds_only_stronger_signals() {
    let phone = Phone::with_screen(&[(FAULT, "record_hang")]);
    let (mut child, file) = start(&phone, &["--time-limit", "1"]);
    send(&child, Signal::SIGINT);
    send(&child, Signal::SIGHUP);
    // Past the time limit. That it does not end can only be waited for.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(child.try_wait().unwrap().is_none());
    send(&child, Signal::SIGTERM);
    assert_eq!(wait_for_end(&mut child).signal(), Some(Signal::SIGTERM as i32));
    assert_torn(&file);
}
