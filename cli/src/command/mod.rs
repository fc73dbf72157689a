//! The commands, a file each: its arguments, the calls it makes, and how it shows what came.

pub mod config;
pub mod device;
pub mod device_view;
pub mod health;
pub mod host;
pub mod orphan;
pub mod port;
pub mod quota;
pub mod recording;
pub mod recording_download;
pub mod saga;
pub mod shell;

use crate::arguments::Global;
use crate::client::call::Key;
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::session::Session;
use clap::{Args, Subcommand};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Phones: order, look at, start, stop, reboot, reset, delete
    #[command(subcommand)]
    Device(device::Command),
    /// Videos of phones: start, stop, look at, download
    #[command(subcommand)]
    Recording(recording::Command),
    /// What is being done and was done, and an operator's verbs
    #[command(subcommand)]
    Saga(saga::Command),
    /// The machines that run phones
    #[command(subcommand)]
    Host(host::Command),
    /// What users may have, and what they take
    #[command(subcommand)]
    Quota(quota::Command),
    /// Ports that are leased
    #[command(subcommand)]
    Port(port::Command),
    /// What is there and belongs to nobody
    #[command(subcommand)]
    Orphan(orphan::Command),
    /// Whether the controller lives, and can do all of its work
    Health(crate::follow::Watch),
    /// Show the whole product on this machine, and leave nothing behind
    Demo(crate::demo::Demo),
    /// Which controller is asked, and for whom
    #[command(subcommand)]
    Config(config::Command),
    /// Print a script that completes this program's arguments
    Completions(shell::Completions),
    /// Write the manual pages into a folder
    Man(shell::Man),
}

/// What makes a call take effect once.
#[derive(Clone, Debug, Args)]
pub struct Once {
    /// Take effect once, however often it is sent: repeat a command with the key that it
    /// printed when its answer got lost [default: a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Once {
    /// The key of this run.
    pub fn key(&self) -> Key {
        Key::given_or_new(self.idempotency_key.as_deref())
    }
}

/// Carries a command out.
///
/// # Errors
/// Those of the command.
pub fn run(command: Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::Device(command) => online(global, async |session| device::run(command, session).await),
        Command::Recording(command) => online(global, async |session| recording::run(command, session).await),
        Command::Saga(command) => online(global, async |session| saga::run(command, session).await),
        Command::Host(command) => online(global, async |session| host::run(command, session).await),
        Command::Quota(command) => online(global, async |session| quota::run(command, session).await),
        Command::Port(command) => online(global, async |session| port::run(command, session).await),
        Command::Orphan(command) => online(global, async |session| orphan::run(command, session).await),
        Command::Health(watch) => online(global, async |session| health::run(&watch, session).await),
        // Its controller is its own.
        Command::Demo(demo) => crate::demo::run(&demo, global),
        // These must work whatever the configuration says, also to mend it.
        Command::Config(command) => config::run(command, global),
        Command::Completions(shell) => shell::completions(&shell),
        Command::Man(man) => shell::man(&man),
    }
}

/// Runs what speaks with a controller.
fn online(global: &Global, act: impl AsyncFnOnce(&Session) -> Result<(), Failure>) -> Result<(), Failure> {
    let configuration = Configuration::load(global.flags())?;
    let session = Session::new(configuration, global.printer(), global.timeout);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the program cannot start: {error}")))?;
    runtime.block_on(act(&session))
}
