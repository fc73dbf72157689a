//! What phones answer, as it is read; and the scripts in a real shell.

use super::*;

const FOLDER: &str = "/data/local/tmp/phonefleet/018f3b2a-0000-7000-8000-000000000001";

#[test]
fn answers_are_believed_only_to_their_end() {
    assert_eq!(answer("init 5\nlaunched\nphonefleet-end\n"), Answer::Told(vec!["init 5", "launched"]));
    assert_eq!(answer("init 5\nlaunched\n"), Answer::Cut);
    assert_eq!(answer(""), Answer::Cut);
    assert_eq!(answer("refused\n"), Answer::Refused);
    assert_eq!(answer("phonefleet-stranger\r\n"), Answer::Stranger);
}

#[test]
fn a_sighting_is_what_the_lines_say() {
    let seen = sighting(&["init 77", "uptime 2.55", "launched", "boot 77", "runs 12 34", "size 56"]);
    let process = PhoneProcess { pid: 12, start_time: 34 };
    let expected = Sighting {
        recorder: Recorded::Runs(process),
        launched_in: Some(77),
        runs_in: Some(77),
        bytes: 56,
        age: Some(Duration::from_millis(2210)),
    };
    assert_eq!(seen, expected);
    assert_eq!(sighting(&["init 77", "launched", "size"]).recorder, Recorded::Ended);
    assert_eq!(sighting(&["init 77"]).recorder, Recorded::Never);
    for uptime in ["uptime 0.33", "uptime 99", "uptime x.yy", "uptime 99999999999999999999.00", "uptime 5.é"]
    {
        assert_eq!(sighting(&["launched", "runs 12 34", uptime]).age, None, "{uptime}");
    }
    for nonsense in ["runs", "runs 1 2", "runs -1 2", "runs 4294967295 1", "runs 12", "runs a b", "runs 12 x"]
    {
        assert_eq!(sighting(&["launched", nonsense]).recorder, Recorded::Ended, "{nonsense}");
    }
}

#[test]
fn leftovers_are_recordings_only() {
    let name = FOLDER.rsplit('/').next().unwrap();
    let (runs, rests) = (format!("left {name} 12 34"), format!("left {name}"));
    let found = leftovers(&["left x 12 34", "left ../../x", &runs, &rests, "left", "junk"]);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].process, Some(PhoneProcess { pid: 12, start_time: 34 }));
    assert_eq!(found[1].process, None);
}

/// Runs a script where a shell is, with a `getprop` that knows the serial number.
fn run(script: &str) -> String {
    let preface = "getprop() { echo serial-1; }\n";
    let output =
        std::process::Command::new("sh").arg("-c").arg(format!("{preface}{script}")).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_process_is_found_signalled_and_seen_gone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let start_time = crate::host::process::ProcessId::of(child.id()).unwrap().start_time;
    let process = PhoneProcess { pid: child.id(), start_time };
    let told = |script: String| match answer(&run(&script)) {
        Answer::Told(lines) => sighting(&lines),
        other => panic!("{other:?}"),
    };
    std::fs::write(format!("{folder}/process"), format!("{} {start_time} 9\n", child.id())).unwrap();
    std::fs::write(format!("{folder}/video.mp4"), "12345").unwrap();
    for known in [None, Some(process)] {
        let seen = told(look("serial-1", folder, known));
        assert_eq!((seen.recorder, seen.bytes), (Recorded::Runs(process), 5));
        assert!(seen.runs_in.is_some() && seen.age.is_some_and(|age| age < Duration::from_secs(10)));
    }
    assert_eq!(told(look("serial-1", folder, None)).launched_in, Some(9));
    assert_eq!(told(wait("serial-1", folder, process, 2)).recorder, Recorded::Runs(process));
    // Another process with that number is left alone.
    let other = PhoneProcess { start_time: start_time + 1, ..process };
    run(&signal("serial-1", other, StopSignal::Kill));
    assert_eq!(told(look("serial-1", folder, Some(other))).recorder, Recorded::Ended);
    assert_eq!(answer(&run(&look("serial-2", folder, None))), Answer::Stranger);
    assert!(child.try_wait().unwrap().is_none());
    // Its folder may have been deleted meanwhile.
    assert_eq!(told(look("serial-1", "/nowhere/x", Some(process))).recorder, Recorded::Runs(process));
    assert_eq!(told(wait("serial-1", "/nowhere/x", process, 1)).recorder, Recorded::Runs(process));
    assert!(child.try_wait().unwrap().is_none());
    // A zombie is gone.
    run(&signal("serial-1", process, StopSignal::Kill));
    assert_eq!(told(wait("serial-1", folder, process, 40)).recorder, Recorded::Ended);
    child.wait().unwrap();
    assert_eq!(told(look("serial-1", "/nowhere/x", None)).recorder, Recorded::Never);
}

#[test]
fn a_folder_that_cannot_be_made_is_told_from_one_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    let place = base.join("r1");
    let script = forbid("serial-1", place.to_str().unwrap()).replace(PHONE_FOLDER, base.to_str().unwrap());
    assert_eq!(answer(&run(&script)), Answer::Told(vec!["forbidden"]));
    assert_eq!(answer(&run(&script)), Answer::Told(vec![]));
    std::fs::remove_dir_all(&base).unwrap();
    std::fs::write(&base, "").unwrap();
    assert_eq!(answer(&run(&script)), Answer::Refused);
}

#[test]
fn folders_of_others_do_not_hide_ours() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().to_str().unwrap();
    for number in 0..250 {
        std::fs::create_dir(format!("{base}/0{number:03}")).unwrap();
    }
    let name = FOLDER.rsplit('/').next().unwrap();
    std::fs::create_dir(format!("{base}/{name}")).unwrap();
    let told = run(&list("serial-1").replace(PHONE_FOLDER, base));
    let Answer::Told(lines) = answer(&told) else { panic!("{told}") };
    assert_eq!(leftovers(&lines), [Leftover { recording: name.parse().unwrap(), process: None }]);
}

#[test]
fn a_recorder_that_nobody_waits_for_may_finish_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (ready, done) = (folder.path().join("ready"), folder.path().join("done"));
    let body = format!(
        "trap 'sleep 4; echo whole >{}; exit 0' INT; echo >{}; while :; do sleep 0.1; done",
        done.display(),
        ready.display()
    );
    let mut child = std::process::Command::new("sh").arg("-c").arg(body).spawn().unwrap();
    while !ready.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let start_time = crate::host::process::ProcessId::of(child.id()).unwrap().start_time;
    let process = PhoneProcess { pid: child.id(), start_time };
    assert_eq!(answer(&run(&end("serial-1", process))), Answer::Told(vec![]));
    child.wait().unwrap();
    assert_eq!(std::fs::read_to_string(done).unwrap(), "whole\n");
}
