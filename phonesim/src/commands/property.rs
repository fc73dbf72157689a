//! `getprop`, `setprop`, `start`, `stop`.

use std::process::ExitCode;

use crate::console;
use crate::control::{self, Order};
use crate::init::boot_plan::FRAMEWORK_SERVICES;
use crate::properties::Properties;
use crate::root::Root;

/// `getprop`: all properties; `getprop NAME [DEFAULT]`: one, an empty line if unset.
pub fn getprop(root: &Root, arguments: &[String]) -> ExitCode {
    let properties = Properties::of(root);
    match arguments {
        [] => {
            for (name, value) in properties.all() {
                console::line(format_args!("[{name}]: [{value}]"));
            }
        }
        [name, others @ ..] => {
            let value = properties
                .get(name)
                .filter(|value| !value.is_empty())
                .or_else(|| others.first().cloned())
                .unwrap_or_default();
            console::line(format_args!("{value}"));
        }
    }
    ExitCode::SUCCESS
}

/// `setprop NAME VALUE`.
pub fn setprop(root: &Root, arguments: &[String]) -> ExitCode {
    let [name, value] = arguments else {
        console::error(format_args!("usage: setprop NAME VALUE"));
        return ExitCode::FAILURE;
    };
    if Order::is_order(name) {
        return give_order(root, name, value);
    }
    match Properties::of(root).set(name, value) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed_to_set(name, value, &error.to_string()),
    }
}

/// `start [SERVICE]`; without a name the framework.
pub fn start(root: &Root, arguments: &[String]) -> ExitCode {
    each_service(root, "ctl.start", arguments)
}

/// `stop [SERVICE]`; without a name the framework.
pub fn stop(root: &Root, arguments: &[String]) -> ExitCode {
    each_service(root, "ctl.stop", arguments)
}

fn each_service(root: &Root, order: &str, arguments: &[String]) -> ExitCode {
    let named: Vec<&str> = match arguments {
        [] => FRAMEWORK_SERVICES.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    for service in named {
        let result = give_order(root, order, service);
        if result != ExitCode::SUCCESS {
            return result;
        }
    }
    ExitCode::SUCCESS
}

/// Sets a property that is an order to init.
pub fn give_order(root: &Root, property: &str, value: &str) -> ExitCode {
    if Order::parse(property, value).is_none() {
        return failed_to_set(property, value, "init knows no such order");
    }
    match control::send(root, property, value) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed_to_set(property, value, &format!("init does not listen: {error}")),
    }
}

fn failed_to_set(name: &str, value: &str, reason: &str) -> ExitCode {
    console::error(format_args!("Failed to set property '{name}' to '{value}'.\n{reason}"));
    ExitCode::FAILURE
}
