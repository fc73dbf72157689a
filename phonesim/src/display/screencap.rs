//! `screencap [-p] [FILE]`: the screen as a PNG, to stdout when no file is named.

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use super::picture::Picture;
use super::{clock, is_up, phone_name, png, size};
use crate::console;
use crate::properties::Properties;
use crate::root::Root;

/// Runs the command.
pub fn run(root: &Root, arguments: &[String]) -> ExitCode {
    let mut file = None;
    for argument in arguments {
        match argument.as_str() {
            "-p" => {}
            "-h" | "--help" => {
                console::error(format_args!("usage: screencap [-p] [FILENAME]"));
                return ExitCode::SUCCESS;
            }
            option if option.starts_with('-') => {
                console::error(format_args!("screencap: unknown option '{option}'"));
                return ExitCode::FAILURE;
            }
            name => file = Some(name),
        }
    }
    let properties = Properties::of(root);
    if !is_up(&properties) {
        console::error(format_args!("Failed to get ID for any displays"));
        return ExitCode::FAILURE;
    }
    let picture = Picture::draw(size(&properties), &[&phone_name(&properties), &clock()]);
    let image = png::encode(&picture);
    let written = match file {
        Some(name) => fs::write(name, image),
        None => io::stdout().write_all(&image),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let name = file.unwrap_or("stdout");
            console::error(format_args!("Error opening file: {name} ({error})"));
            ExitCode::FAILURE
        }
    }
}
