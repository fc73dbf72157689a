//! `phonefleet-agent selftest`: its arguments, what it prints, how it ends.

use super::report::Verdict;
use super::{Options, run, sweep};
use crate::config::validation::Checked;
use crate::config::{Config, RuntimeKind};
use anyhow::{Context, bail};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What may be said on the command line.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Prints everything as JSON, at the end.
    #[arg(long)]
    json: bool,
    /// Tests this image in place of the configured one.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// A further argument of the phone's /init; may be given again.
    #[arg(long = "boot-arg", value_name = "ARGUMENT")]
    boot_args: Vec<String>,
    /// Also waits for the recorder's limit, three minutes.
    #[arg(long)]
    long: bool,
}

/// Tests, and prints each check as it is known.
///
/// # Errors
/// Something differs from what the agent builds on, or nothing could be tested.
pub fn main(arguments: Arguments, config: &Config, checked: &Checked) -> anyhow::Result<()> {
    if config.runtime.kind == RuntimeKind::Process {
        bail!("runtime.kind is \"process\": the self-test is for containers of an engine; use \"docker\"");
    }
    let options = Options {
        host: checked.host.clone(),
        state_dir: config.state_dir.clone(),
        engine_socket: checked.engine_socket.clone(),
        image: arguments.image.unwrap_or_else(|| config.runtime.image.clone()),
        privilege: config.runtime.privilege,
        boot_timeout: Duration::from_secs(config.boot.timeout_seconds),
        boot_args: arguments.boot_args,
        long: arguments.long,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let json = arguments.json;
    runtime.block_on(async {
        let testing = run(&options, |check| {
            if !json {
                print!("{check}");
            }
        });
        let report = tokio::select! {
            report = testing => report.context("nothing could be tested")?,
            ended = interrupted() => {
                ended?;
                let left = sweep::sweep(&options).await;
                bail!("interrupted; {}", if left.is_empty() { "nothing is left".to_owned() } else { left.join("; ") });
            }
        };
        if json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            println!("{}", report.summary());
        }
        match report.count(Verdict::Differs) {
            0 => Ok(()),
            count => bail!("{count} facts differ from what the agent builds on; see docs/redroid.md"),
        }
    })
}

async fn interrupted() -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
