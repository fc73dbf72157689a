//! Placeholder until the recorder is written.
use std::process::ExitCode;

use crate::root::Root;

/// Refuses, as a phone without an encoder.
pub fn run(_root: &Root, _arguments: &[String]) -> ExitCode {
    crate::console::error(format_args!("ERROR: unable to create video/avc codec instance"));
    ExitCode::FAILURE
}
