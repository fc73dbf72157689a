//! `wm size` and `wm density`.

use std::process::ExitCode;

use super::{framework_runs, service_missing};
use crate::console;
use crate::display::{self, Size};
use crate::properties::{Properties, PropertyError};
use crate::root::Root;

/// `wm size|density [VALUE|reset]`.
pub fn wm(root: &Root, arguments: &[String]) -> ExitCode {
    let properties = Properties::of(root);
    if !framework_runs(&properties) {
        return service_missing("window");
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["size"] => {
            console::line(format_args!("Physical size: {}", display::physical_size(&properties)));
            if let Some(size) = display::override_size(&properties) {
                console::line(format_args!("Override size: {size}"));
            }
            Ok(())
        }
        ["size", "reset"] => properties.set(display::OVERRIDE_SIZE, ""),
        ["size", value] if Size::parse(value).is_some() => properties.set(display::OVERRIDE_SIZE, value),
        ["density"] => {
            console::line(format_args!("Physical density: {}", display::physical_density(&properties)));
            if let Some(density) = properties.number(display::OVERRIDE_DENSITY) {
                console::line(format_args!("Override density: {density}"));
            }
            Ok(())
        }
        ["density", "reset"] => properties.set(display::OVERRIDE_DENSITY, ""),
        // As the real one: below 72 nothing on the screen could be used.
        ["density", value] if value.parse::<u32>().is_ok_and(|density| density >= 72) => {
            properties.set(display::OVERRIDE_DENSITY, value)
        }
        _ => {
            console::error(format_args!(
                "usage: wm size [reset|WIDTHxHEIGHT]\n       wm density [reset|DENSITY]"
            ));
            return ExitCode::from(255);
        }
    };
    exit(done)
}

fn exit(done: Result<(), PropertyError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(format_args!("Error: {error}"));
            ExitCode::FAILURE
        }
    }
}
