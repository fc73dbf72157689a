//! phonesim: the userland of a stand-in for Android, in one static program.
//!
//! Debian's real `adbd` serves ADB in the same container; everything that it and
//! `docker exec` call there is this program under another name. Started as `/init` it is the
//! phone's PID 1; started as `getprop`, `screenrecord`, … it is that command. The processes
//! share their state as files below `/dev/phonesim` and `/data` (see [`root`]), and commands
//! reach PID 1 through one datagram socket (see [`control`]).
//!
//! This file only finds out which applet is meant. `README.md` says what each one does.

mod adb;
mod boot_arguments;
mod commands;
mod console;
mod control;
mod display;
mod fault;
mod init;
mod power;
mod process;
mod properties;
mod recording;
mod root;

use std::path::Path;
use std::process::ExitCode;

use root::Root;

/// What one applet is: it gets the place where the phone's state lives and its own arguments.
type Applet = fn(&Root, &[String]) -> ExitCode;

/// Every name this program answers to.
const APPLETS: &[(&str, Applet)] = &[
    ("init", init::run),
    ("getprop", commands::property::getprop),
    ("setprop", commands::property::setprop),
    ("start", commands::property::start),
    ("stop", commands::property::stop),
    ("svc", commands::power::svc),
    ("reboot", commands::power::reboot),
    ("wm", commands::window::wm),
    ("pm", commands::framework::pm),
    ("am", commands::framework::am),
    ("settings", commands::framework::settings),
    ("input", commands::framework::input),
    ("screencap", display::screencap::run),
    ("screenrecord", recording::screenrecord::run),
    ("adbd", adb::run),
    (adb::session_leader::NAME, adb::session_leader::run),
    (process::supervise::NAME, process::supervise::run),
    (process::enter::NAME, process::enter::run),
];

/// Exit code of a command that was called wrongly, as of a shell that finds no such command.
const NO_SUCH_APPLET: u8 = 127;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let (called, mut rest) = match arguments.split_first() {
        Some((called, rest)) => (base_name(called), rest),
        None => ("", &[][..]),
    };
    let mut root = Root::from_environment();
    if let Some(applet) = find(called) {
        return applet(&root, rest);
    }
    if let [option, directory, others @ ..] = rest
        && option == "--root"
    {
        root = Root::at(directory.as_str());
        rest = others;
    }
    if rest == ["--version"] {
        console::line(format_args!("phonesim {}", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    if let Some((name, rest)) = rest.split_first()
        && let Some(applet) = find(name)
    {
        return applet(&root, rest);
    }
    let names: Vec<&str> = APPLETS.iter().map(|(name, _)| *name).collect();
    console::error(format_args!(
        "usage: phonesim [--root DIR] APPLET [ARGUMENT…]\napplets: {}",
        names.join(" ")
    ));
    ExitCode::from(NO_SUCH_APPLET)
}

fn find(name: &str) -> Option<Applet> {
    let found = APPLETS.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// The last part of a path, as a multi-call program knows itself by.
fn base_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}
