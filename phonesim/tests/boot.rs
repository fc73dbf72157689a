//! Boots the real program as init, below a directory, and ends it in every way it can end.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use support::{Phone, is_sleeping, send, text, wait_for_end, wait_until};

const QUICK: &str = "androidboot.phonesim_boot_ms=300";

#[test]
fn a_boot_brings_up_services_in_order_and_completes() {
    let mut phone = Phone::new();
    phone.boot(&[
        "qemu=1",
        "androidboot.hardware=redroid",
        "androidboot.phonesim_boot_ms=3000",
        "androidboot.serialno=cp-7",
        "androidboot.redroid_width=360",
        "androidboot.redroid_height=640",
        "androidboot.redroid_dpi=160",
        "ro.product.model=Pixel",
        "ro.broken=a b",
        "ro.dropped=a=b",
    ]);
    wait_until("adbd", || phone.property("init.svc.adbd") == "running");
    let packages = phone.run(&["pm", "path", "android"]);
    assert_eq!(phone.property("sys.boot_completed"), "", "adbd comes first");
    assert_eq!(packages.status.code(), Some(1));
    assert!(packages.stdout.is_empty());
    assert_eq!(phone.run(&["svc", "power", "shutdown"]).status.code(), Some(1));

    phone.wait_for_boot();
    for (name, value) in [
        ("dev.bootcomplete", "1"),
        ("init.svc.bootanim", "stopped"),
        ("init.svc.servicemanager", "running"),
        ("init.svc.surfaceflinger", "running"),
        ("init.svc.zygote", "running"),
        ("sys.system_server.start_count", "1"),
        ("ro.boot.serialno", "cp-7"),
        ("ro.serialno", "cp-7"),
        ("ro.product.model", "Pixel"),
        ("ro.broken", "a"),
        ("ro.dropped", ""),
        ("ro.sf.lcd_density", "160"),
    ] {
        assert_eq!(phone.property(name), value, "{name}");
    }
    let answer = |arguments: &[&str]| text(&phone.run(arguments).stdout);
    assert_eq!(answer(&["pm", "path", "android"]), "package:/system/framework/framework-res.apk");
    assert_eq!(phone.run(&["pm", "path", "no.such"]).status.code(), Some(1));
    assert_eq!(answer(&["wm", "size"]), "Physical size: 360x640");
    assert_eq!(answer(&["wm", "density"]), "Physical density: 160");
    assert_eq!(answer(&["settings", "get", "global", "x"]), "null");
    assert!(phone.run(&["settings", "put", "global", "x", "1"]).status.success());
    assert_eq!(answer(&["settings", "get", "global", "x"]), "1");
    let all = answer(&["getprop"]);
    assert!(all.contains("[sys.boot_completed]: [1]"), "{all}");
    let mode = phone.path("data/local/tmp").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o771);
}

#[test]
fn properties_start_afresh_and_data_stays() {
    let mut phone = Phone::new();
    for boot in 1..=2 {
        phone.boot(&[QUICK]);
        phone.wait_for_boot();
        assert_eq!(phone.property("debug.x"), "");
        assert!(phone.run(&["setprop", "debug.x", "1"]).status.success());
        assert_eq!(phone.property("debug.x"), "1");
        let boots = std::fs::read(phone.path("data/phonesim/boots")).unwrap();
        assert_eq!(text(&boots), boot.to_string());
        assert!(phone.run(&["svc", "power", "shutdown"]).status.success());
        assert_eq!(wait_for_end(phone.init()).code(), Some(130));
        let last = *phone.adbds().last().unwrap();
        assert!(!is_sleeping(last), "adbd ended with the phone");
    }
}

#[test]
fn every_way_to_end_the_phone_has_its_exit_code() {
    for (command, code) in [
        (&["svc", "power", "shutdown"][..], 130),
        (&["svc", "power", "reboot"], 129),
        (&["reboot"], 129),
        (&["reboot", "-p"], 130),
        (&["setprop", "sys.powerctl", "shutdown"], 130),
        (&["setprop", "sys.powerctl", "reboot,userrequested"], 129),
    ] {
        let mut phone = Phone::new();
        phone.boot(&["androidboot.phonesim_boot_ms=50"]);
        phone.wait_for_boot();
        assert!(phone.run(command).status.success(), "{command:?}");
        assert_eq!(wait_for_end(phone.init()).code(), Some(code), "{command:?}");
    }
}

#[test]
fn signals_do_not_end_init_and_orders_it_does_not_know_are_refused() {
    let mut phone = Phone::new();
    phone.boot(&[QUICK]);
    phone.wait_for_boot();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        send(phone.init(), signal);
    }
    let unknown = phone.run(&["setprop", "sys.powerctl", "fly"]);
    assert_eq!(unknown.status.code(), Some(1));
    // An order that is obeyed shows that init outlived all that.
    assert!(phone.run(&["stop"]).status.success());
    wait_until("the framework stopped", || phone.property("init.svc.zygote") == "stopped");
    assert_eq!(phone.run(&["pm", "path", "android"]).status.code(), Some(1));
    assert_eq!(phone.run(&["screencap", "-p"]).status.code(), Some(1));
    assert!(phone.run(&["start"]).status.success());
    wait_until("the framework started", || phone.run(&["pm", "path", "android"]).status.success());
    assert!(phone.init().try_wait().unwrap().is_none());
}

#[test]
fn adbd_is_started_again_when_it_dies() {
    let mut phone = Phone::new();
    phone.boot(&[QUICK]);
    wait_until("adbd", || phone.adbds().len() == 1);
    kill(phone.adbds()[0], Signal::SIGKILL).unwrap();
    wait_until("another adbd", || phone.adbds().len() == 2);
    assert!(!is_sleeping(phone.adbds()[0]));
}

#[test]
fn without_adbd_and_with_an_unknown_fault_the_phone_boots_on() {
    let mut phone = Phone::new();
    std::fs::remove_file(phone.path("system/bin/adbd")).unwrap();
    phone.boot(&[QUICK, "androidboot.phonesim_fault=melt"]);
    phone.wait_for_boot();
    assert_eq!(phone.property("init.svc.adbd"), "stopped");
    assert!(phone.log().contains("no such fault: 'melt'"), "{}", phone.log());
    assert!(phone.log().contains("cannot start"), "{}", phone.log());
}

#[test]
fn a_boot_that_hangs_never_completes() {
    let mut phone = Phone::new();
    phone.boot(&["androidboot.phonesim_boot_ms=100", "androidboot.phonesim_fault=boot_hang"]);
    wait_until("the last step before the end", || phone.property("sys.system_server.start_count") == "1");
    // Ten times the time in which it would have completed. That something does not happen
    // can only be waited for.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert_eq!(phone.property("sys.boot_completed"), "");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(phone.adbds().len(), 1);
    assert!(phone.init().try_wait().unwrap().is_none());
}

#[test]
fn an_exit_during_the_boot_comes_before_completion() {
    let mut phone = Phone::new();
    let start = Instant::now();
    phone.boot(&["androidboot.phonesim_boot_ms=600", "androidboot.phonesim_fault=exit_129"]);
    assert_eq!(wait_for_end(phone.init()).code(), Some(129));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(phone.property("sys.boot_completed"), "");
    assert_eq!(phone.property("init.svc.zygote"), "running");
}

#[test]
fn a_phone_that_crashes_has_booted_before_every_time() {
    let mut phone = Phone::new();
    for boot in 1..=2 {
        phone.boot(&["androidboot.phonesim_boot_ms=100", "androidboot.phonesim_fault=crash_after_ms:200"]);
        assert_eq!(wait_for_end(phone.init()).code(), Some(129));
        assert_eq!(phone.property("sys.boot_completed"), "1");
        let boots = std::fs::read(phone.path("data/phonesim/boots")).unwrap();
        assert_eq!(text(&boots), boot.to_string());
    }
}

#[test]
fn adbd_goes_away_for_the_ordered_time_and_comes_back() {
    let mut phone = Phone::new();
    phone.boot(&["androidboot.phonesim_boot_ms=200", "androidboot.phonesim_fault=adb_offline:2"]);
    phone.wait_for_boot();
    wait_until("adbd gone", || phone.property("init.svc.adbd") == "stopped");
    let gone = Instant::now();
    assert!(!is_sleeping(phone.adbds()[0]));
    wait_until("adbd back", || phone.adbds().len() == 2);
    assert!(gone.elapsed() > Duration::from_secs(1));
    assert_eq!(phone.property("sys.boot_completed"), "1");
}
