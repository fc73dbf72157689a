//! `pm`, `am`, `settings`, `input`: the services of system_server, as far as somebody asks.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{BOOT_COMPLETED, framework_runs, service_missing};
use crate::console;
use crate::properties::{Properties, is_name};
use crate::root::Root;

/// Packages of the phone and where they lie.
const PACKAGES: &[(&str, &str)] = &[
    ("android", "/system/framework/framework-res.apk"),
    ("com.android.settings", "/system/priv-app/Settings/Settings.apk"),
    ("com.android.shell", "/system/priv-app/Shell/Shell.apk"),
    ("com.android.systemui", "/system/priv-app/SystemUI/SystemUI.apk"),
];

/// Verbs of `input`.
const GESTURES: &[&str] = &["tap", "swipe", "draganddrop", "text", "keyevent", "press", "roll"];

/// `pm path PACKAGE`, `pm list packages [FILTER]`; there is no package manager before the
/// boot has completed.
pub fn pm(root: &Root, arguments: &[String]) -> ExitCode {
    let properties = Properties::of(root);
    if !framework_runs(&properties) || properties.get(BOOT_COMPLETED).as_deref() != Some("1") {
        return service_missing("package");
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["path", wanted] => {
            let Some((_, path)) = PACKAGES.iter().find(|(name, _)| name == wanted) else {
                return ExitCode::FAILURE;
            };
            console::line(format_args!("package:{path}"));
        }
        ["list", "packages", filter @ ..] => {
            let filter = filter.first().copied().unwrap_or("");
            for (name, _) in PACKAGES.iter().filter(|(name, _)| name.contains(filter)) {
                console::line(format_args!("package:{name}"));
            }
        }
        _ => {
            console::error(format_args!("usage: pm path PACKAGE\n       pm list packages [FILTER]"));
            return ExitCode::from(255);
        }
    }
    ExitCode::SUCCESS
}

/// `am start|broadcast|force-stop|kill …`: says what it would do.
pub fn am(root: &Root, arguments: &[String]) -> ExitCode {
    if !framework_runs(&Properties::of(root)) {
        return service_missing("activity");
    }
    match arguments.split_first() {
        Some((verb, intent)) if verb == "start" || verb == "start-activity" => {
            console::line(format_args!("Starting: Intent {{ {} }}", intent.join(" ")));
        }
        Some((verb, intent)) if verb == "broadcast" => {
            console::line(format_args!(
                "Broadcasting: Intent {{ {} }}\nBroadcast completed: result=0",
                intent.join(" ")
            ));
        }
        Some((verb, _)) if matches!(verb.as_str(), "force-stop" | "kill" | "kill-all") => {}
        _ => {
            console::error(format_args!(
                "usage: am start|broadcast INTENT\n       am force-stop|kill PACKAGE"
            ));
            return ExitCode::from(255);
        }
    }
    ExitCode::SUCCESS
}

/// `settings get|put|delete NAMESPACE KEY [VALUE]`, `settings list NAMESPACE`; kept on /data.
pub fn settings(root: &Root, arguments: &[String]) -> ExitCode {
    if !framework_runs(&Properties::of(root)) {
        return service_missing("settings");
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["get", space, key] => {
            if let Some(file) = setting(root, space, key) {
                let value = fs::read_to_string(file).unwrap_or_else(|_| "null".to_owned());
                console::line(format_args!("{value}"));
                return ExitCode::SUCCESS;
            }
        }
        ["put", space, key, value] => {
            if let Some(file) = setting(root, space, key) {
                let directory = file.parent().map_or(Ok(()), fs::create_dir_all);
                if let Err(error) = directory.and_then(|()| fs::write(file, value)) {
                    console::error(format_args!("cannot keep setting '{key}': {error}"));
                    return ExitCode::FAILURE;
                }
                return ExitCode::SUCCESS;
            }
        }
        ["delete", space, key] => {
            if let Some(file) = setting(root, space, key) {
                let deleted = u8::from(fs::remove_file(file).is_ok());
                console::line(format_args!("Deleted {deleted} rows"));
                return ExitCode::SUCCESS;
            }
        }
        ["list", space] => {
            if let Some(directory) = settings_space(root, space) {
                let mut keys: Vec<PathBuf> = fs::read_dir(directory)
                    .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
                    .unwrap_or_default();
                keys.sort();
                for file in keys {
                    let name = file.file_name().unwrap_or_default().to_string_lossy();
                    let value = fs::read_to_string(&file).unwrap_or_default();
                    console::line(format_args!("{name}={value}"));
                }
                return ExitCode::SUCCESS;
            }
        }
        _ => {}
    }
    console::error(format_args!(
        "usage: settings get|delete system|secure|global KEY\n       \
         settings put system|secure|global KEY VALUE\n       \
         settings list system|secure|global"
    ));
    ExitCode::from(255)
}

fn settings_space(root: &Root, space: &str) -> Option<PathBuf> {
    matches!(space, "system" | "secure" | "global").then(|| root.kept().join("settings").join(space))
}

fn setting(root: &Root, space: &str, key: &str) -> Option<PathBuf> {
    let space = settings_space(root, space)?;
    is_name(key).then(|| space.join(key))
}

/// `input tap|swipe|text|keyevent|…`: accepted, nothing moves.
pub fn input(root: &Root, arguments: &[String]) -> ExitCode {
    if !framework_runs(&Properties::of(root)) {
        return service_missing("input");
    }
    if arguments.iter().any(|argument| GESTURES.contains(&argument.as_str())) {
        return ExitCode::SUCCESS;
    }
    console::error(format_args!("usage: input {} …", GESTURES.join("|")));
    ExitCode::from(255)
}
