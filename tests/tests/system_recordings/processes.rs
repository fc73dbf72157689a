//! The same with phones that are processes of the host: no engine sees them end, `adb` meets
//! phonesim's own adbd, and the kernel is asked whether they live.

use crate::scene::*;
use crate::{crashes, hung, life, notice, replaced};
use nix::sys::signal::Signal;
use phonefleet_tests::real::program::signal;
use std::time::Duration;

#[test]
fn a_recording_from_its_order_to_its_last_byte() {
    if let Some(world) = world_of_processes() {
        life::from_order_to_last_byte(&world);
    }
}

#[test]
fn a_users_own_recorder_is_left_alone() {
    if let Some(world) = world_of_processes() {
        life::own_recorder_is_left_alone(world);
    }
}

#[test]
fn a_phone_that_is_stopped_rebooted_reset_or_deleted_lets_its_video_be_finished() {
    if let Some(world) = world_of_processes() {
        life::video_is_finished_before_its_phone_ends(&world);
    }
}

#[test]
fn a_phone_that_dies_is_told_at_once_and_its_bytes_are_kept() {
    if let Some(world) = world_of_processes() {
        life::dead_phone_is_told_at_once(&world);
    }
}

#[test]
fn recorders_that_fail_or_hang_end_with_the_true_reason() {
    if let Some(world) = world_of_processes() {
        life::failing_recorders_are_told(&world);
    }
}

#[test]
fn whoever_is_replaced_a_recording_goes_on_and_is_finished() {
    if let Some(world) = world_of_processes() {
        replaced::all_at_once(world);
    }
}

#[test]
fn every_end_is_noticed_within_a_second() {
    if let Some(world) = world_of_processes() {
        notice::within_a_second(&world);
    }
}

#[test]
fn whoever_is_killed_every_recording_ends_whole_or_with_the_true_reason() {
    if let Some(world) = world_of_processes() {
        crashes::in_many_rounds(world);
    }
}

#[test]
fn a_recording_ends_well_though_adb_server_or_supervisor_hang() {
    let Some(world) = world_of_processes() else { return };
    let phone = world.phone("phone-1");
    hung::adb_server_is_replaced(&world, &phone);

    // A supervisor is not needed to end a recording.
    let recording = record(&world, &phone, 170);
    recorded(&world, &phone, &recording, 5_000);
    signal(supervisor(&world), Signal::SIGSTOP);
    stop(&world, &recording);
    let view = over(&world, &recording, Duration::from_secs(60));
    signal(supervisor(&world), Signal::SIGCONT);
    assert_eq!(view["endCause"], "STOPPED", "{view}");
    assert_whole(&world, &phone, &view);
    until_gone(&world, &phone);
    world.do_verb(&phone.id, "delete");
    world.clean();
}

#[test]
fn a_phone_that_dies_with_its_supervisor_is_told_and_its_bytes_are_kept() {
    let Some(world) = world_of_processes() else { return };
    let phone = world.phone("phone-1");
    let recording = record(&world, &phone, 170);
    recorded(&world, &phone, &recording, 10_000);
    signal(supervisor(&world), Signal::SIGKILL);
    let view = over(&world, &recording, SOON);
    assert_torn(&world, &phone, &view, "DEVICE_DIED");
    until_gone(&world, &phone);
    world.do_verb(&phone.id, "delete");
    world.clean();
}

/// The parent of the world's only phone.
fn supervisor(world: &phonefleet_tests::real::World) -> u32 {
    let all = world.host().processes.as_ref().expect("phones are processes").supervisors();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].pid
}
