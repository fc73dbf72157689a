//! `svc` and `reboot`.

use std::process::ExitCode;

use super::property::give_order;
use super::{framework_runs, service_missing};
use crate::console;
use crate::power::{POWER_CONTROL, PowerAction};
use crate::properties::Properties;
use crate::root::Root;

/// `svc power shutdown|reboot [REASON]` ends the phone; the other switches are accepted and
/// change nothing.
pub fn svc(root: &Root, arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if !framework_runs(&Properties::of(root)) {
        return service_missing(words.first().copied().unwrap_or("power"));
    }
    let action = match words.as_slice() {
        ["power", "shutdown"] => PowerAction::Shutdown,
        ["power", "reboot", ..] => PowerAction::Reboot,
        ["power", "stayon", "true" | "false" | "usb" | "ac" | "wireless"]
        | ["wifi" | "data" | "bluetooth" | "nfc", "enable" | "disable"] => {
            return ExitCode::SUCCESS;
        }
        _ => {
            console::error(format_args!(
                "usage: svc power stayon|shutdown|reboot [ARGUMENT]\n       \
                 svc wifi|data|bluetooth|nfc enable|disable"
            ));
            return ExitCode::FAILURE;
        }
    };
    give_order(root, POWER_CONTROL, action.value())
}

/// `reboot [REASON]`; `reboot -p` turns off.
pub fn reboot(root: &Root, arguments: &[String]) -> ExitCode {
    let action = if arguments.iter().any(|argument| argument == "-p") {
        PowerAction::Shutdown
    } else {
        PowerAction::Reboot
    };
    give_order(root, POWER_CONTROL, action.value())
}
