//! The small commands of the phone, one file for each subject. Each answers as the real one
//! does as far as tests and the agent look, and nothing more.

pub mod framework;
pub mod power;
pub mod property;
pub mod window;

use std::process::ExitCode;

use crate::console;
use crate::properties::Properties;

/// Set once system_server has started; its services answer from then on.
pub const SYSTEM_SERVER_STARTED: &str = "sys.system_server.start_count";

/// Set to 1 when the phone is ready.
pub const BOOT_COMPLETED: &str = "sys.boot_completed";

/// Whether system_server is up and its services can be called.
fn framework_runs(properties: &Properties) -> bool {
    properties.service_runs("zygote") && properties.get(SYSTEM_SERVER_STARTED).is_some()
}

/// The answer of a command whose service in system_server is not there (yet).
fn service_missing(service: &str) -> ExitCode {
    console::error(format_args!("cmd: Can't find service: {service}"));
    ExitCode::FAILURE
}
