//! The command line as a whole: what every command takes, and what the help says.

use crate::command::Command;
use crate::configuration::Flags;
use crate::output::time::parse_duration;
use crate::output::{Format, Printer};
use clap::{Args, Parser};
use std::time::Duration;

/// Said behind the help, and in the manual page.
const EXPLANATIONS: &str = "\
Exit codes:
  0  done
  1  a saga or another operation failed
  2  the command line or the configuration is wrong, or a name means several things
  3  there is no such thing
  4  it does not fit what is there now
  5  the quota or the hosts have no room
  6  the controller cannot be reached, or cannot serve now
  7  it took longer than it was told to wait; what was asked for may still happen

Environment, before the configuration and behind the arguments:
  PHONEFLEET_CONTROLLER, PHONEFLEET_USER, PHONEFLEET_AGENT, PHONEFLEET_CONTEXT
  PHONEFLEET_CONFIG  another file than ~/.config/phonefleet/config.toml
  NO_COLOR           no colours

A device is named by its name, by USER/NAME, or by its id; a saga by its id, or by a device,
and is then the device's newest.";

/// Order and look after cloud phones.
#[derive(Debug, Parser)]
#[command(name = "phonefleet", version, after_help = EXPLANATIONS)]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The controller [default: of the context, or http://127.0.0.1:30002]
    #[arg(long, global = true, value_name = "URL")]
    pub controller: Option<String>,
    /// Whose devices are meant [default: of the context]
    #[arg(long, short, global = true, value_name = "USER")]
    pub user: Option<String>,
    /// The local API of this machine's agent [default: of the context, or http://127.0.0.1:30010]
    #[arg(long, global = true, value_name = "URL")]
    pub agent: Option<String>,
    /// The context of the configuration to use
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// How results are printed
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub output: Format,
    /// No colours
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Longest time of one call, attempts after connection errors included
    #[arg(long, global = true, value_name = "DURATION", default_value = "35s", value_parser = parse_duration)]
    pub timeout: Duration,
}

impl Global {
    /// Where results go.
    pub fn printer(&self) -> Printer {
        Printer::new(self.output, self.no_color)
    }

    /// Those that layers of the configuration lie behind.
    pub fn flags(&self) -> Flags {
        Flags {
            controller: self.controller.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            context: self.context.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
