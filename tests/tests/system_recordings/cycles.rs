//! Many starts and stops.

use crate::scene::*;
use phonefleet_tests::real::{process_table, until};
use std::time::Instant;

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
