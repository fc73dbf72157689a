//! `phonefleet`: the operator's command. Everything it does, it does through the
//! controller's HTTP API; nothing of the fleet is decided here.
//!
//! ```text
//!   arguments ─▶ configuration ─▶ session ─▶ command/… ─▶ client ══HTTP══▶ controller
//!                (flags, env,                   │  └▶ resolve (names to ids), follow (--wait, --watch)
//!                 context of a file)            └──▶ output (tables, JSON, YAML), story (explain)
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`arguments`] | the command line as a whole |
//! | [`configuration`] [`session`] | which controller, for whom; what every command works with |
//! | [`command`] | the commands, a file each |
//! | [`client`] | HTTP: calls, attempts, refusals |
//! | [`resolve`] [`models`] | names to ids; what is read out of answers |
//! | [`follow`] | waiting for sagas, watching lists |
//! | [`demo`] | the whole product on this machine, shown and taken down |
//! | [`story`] | states, steps and reasons in sentences |
//! | [`output`] | tables, YAML, times, progress |
//! | [`failure`] | why not, and the exit codes |

mod arguments;
mod client;
mod command;
mod configuration;
mod demo;
mod failure;
mod follow;
mod models;
mod output;
mod resolve;
mod session;
mod story;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap itself prints help, and ends with 2 where the command line is wrong.
    let arguments = Arguments::parse();
    match command::run(arguments.command, &arguments.global) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader such as `head` has seen enough: nothing is wrong.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure.to_string());
            ExitCode::from(failure.exit() as u8)
        }
    }
}
