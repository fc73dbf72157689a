//! What a booted phone shows: arguments, properties, its shell, its data.

use super::Options;
use super::report::Report;
use super::subject::{PROBES, Subject};
use crate::recording::PHONE_FOLDER;
use crate::runtime::redroid::serial;
use phonefleet_protocol::spec::DeviceSpec;
use std::os::unix::fs::MetadataExt;

/// Boots the phone and looks at it. Whether it is worth going on.
pub(super) async fn check(subject: &Subject, options: &Options, report: &mut Report<'_>) -> bool {
    let fact = "the image boots: adb answers, it shows its serial number, sys.boot_completed is 1, \
                the package manager answers";
    let expected = format!("up within {} s", options.boot_timeout.as_secs());
    let booted = subject.boot(options.boot_timeout).await;
    let holds = booted.is_ok();
    let seen = match booted {
        Ok(took) => format!("up after {:.1} s", took.as_secs_f64()),
        Err(why) => why,
    };
    report.must("boot.completes", fact, &expected, seen, holds);
    if !holds {
        return false;
    }
    arguments(subject, report).await;
    properties(subject, report).await;
    shell(subject, report).await;
    data(subject, report).await;
    true
}

async fn arguments(subject: &Subject, report: &mut Report<'_>) {
    let line = subject.say("tr '\\0' ' ' </proc/1/cmdline").await;
    let holds = line.starts_with("/init ") && line.contains("androidboot.hardware=redroid");
    let fact = "the first process is /init with the image's own arguments before ours";
    report.must("boot.arguments", fact, "/init … androidboot.hardware=redroid …", line, holds);

    let names = ["boot.argument-plain", "boot.argument-space", "boot.argument-equals"];
    let facts = [
        "androidboot.X=V becomes the property ro.boot.X",
        "an argument is cut at a space, so orders with one are refused",
        "an argument with a second = is dropped, so orders with one are refused",
    ];
    for ((id, fact), (argument, expected)) in names.into_iter().zip(facts).zip(PROBES) {
        let name = argument.strip_prefix("androidboot.").and_then(|rest| rest.split('=').next());
        let seen = subject.say(&format!("getprop ro.boot.{}", name.unwrap_or_default())).await;
        let holds = seen == expected;
        if id == "boot.argument-plain" {
            report.must(id, fact, expected, seen, holds);
        } else {
            report.should(id, fact, &format!("{expected:?}"), format!("{seen:?}"), holds);
        }
    }
}

async fn properties(subject: &Subject, report: &mut Report<'_>) {
    let order = DeviceSpec::default();
    let number = serial(subject.device);
    let properties: [(&'static str, &'static str, &'static str, String); 5] = [
        ("boot.serial", "the phone shows the serial number that it was given", "ro.boot.serialno", number),
        (
            "boot.completed",
            "a completed boot is told by sys.boot_completed",
            "sys.boot_completed",
            "1".into(),
        ),
        (
            "boot.servicemanager",
            "init tells of its services by init.svc.NAME",
            "init.svc.servicemanager",
            "running".into(),
        ),
        (
            "boot.zygote",
            "the framework's first process is called zygote",
            "init.svc.zygote",
            "running".into(),
        ),
        (
            "boot.width",
            "the screen's size is taken from the arguments",
            "ro.boot.redroid_width",
            order.width.to_string(),
        ),
    ];
    for (id, fact, name, expected) in properties {
        let seen = subject.say(&format!("getprop {name}")).await;
        let holds = seen == expected;
        if matches!(id, "boot.serial" | "boot.completed") {
            report.must(id, fact, &format!("{name}={expected}"), seen, holds);
        } else {
            report.should(id, fact, &format!("{name}={expected}"), seen, holds);
        }
    }
    let size = subject.say("wm size").await;
    let wanted = format!("{}x{}", order.width, order.height);
    let holds = size.contains(&wanted);
    report.should("boot.screen", "the screen has the ordered size", &wanted, size, holds);
}

async fn shell(subject: &Subject, report: &mut Report<'_>) {
    let user = subject.say("id -u").await;
    let holds = user == "2000" || user == "0";
    report.should("shell.user", "adb's shell is the user shell, or root", "2000 or 0", user, holds);

    // What the scripts of recordings use; most of it is built into mksh, the rest is toybox.
    let words = "setsid stat mkdir mv rm sleep kill getprop screenrecord";
    let missing = subject
        .say(&format!("for w in {words}; do command -v $w >/dev/null || echo $w; done; sleep 0.1 && true"))
        .await;
    let holds = missing.is_empty();
    let seen = if holds { "all there".to_owned() } else { format!("missing: {missing}") };
    report.must("shell.commands", "the shell has what recordings are made with", words, seen, holds);

    let stat = subject.say("read -r l </proc/self/stat && [ -n \"$l\" ] && stat -c %s /proc/self/stat").await;
    let holds = stat.parse::<u64>().is_ok();
    let fact = "a process finds its start time in /proc, and stat tells sizes with -c %s";
    report.must("shell.proc", fact, "a number", stat, holds);

    let first = subject.say("cat /proc/1/stat >/dev/null && echo seen").await;
    let holds = first == "seen";
    let fact = "processes of other users can be seen; where they are hidden a reboot is told by less";
    report.should("shell.hidepid", fact, "seen", first, holds);
}

async fn data(subject: &Subject, report: &mut Report<'_>) {
    let folder = PHONE_FOLDER;
    let made =
        subject.say(&format!("mkdir -p {folder} && echo kept >{folder}/selftest && sync && echo made")).await;
    let holds = made == "made";
    report.must("data.writable", "the shell may write below /data/local/tmp", "made", made, holds);

    let here = subject.data.join(folder.trim_start_matches("/data/")).join("selftest");
    let found = std::fs::symlink_metadata(&here);
    let holds = found.as_ref().is_ok_and(|file| file.is_file() && file.len() == 5);
    let seen = match found {
        Ok(file) => format!("{} bytes, owner {}, mode {:o}", file.len(), file.uid(), file.mode() & 0o777),
        Err(error) => format!("{}: {error}", here.display()),
    };
    let fact = "/data is the folder on the host's disk that was bound to it";
    report.must("data.bind", fact, "the file that the phone wrote, 5 bytes", seen, holds);
}
