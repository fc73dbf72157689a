//! `phonefleet completions` and `phonefleet man`: made from the arguments themselves, so
//! that they cannot say anything else.

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::note;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::Write;
use std::path::PathBuf;

/// For which shell.
#[derive(Debug, Args)]
#[command(after_help = "For bash: source <(phonefleet completions bash)")]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Where to.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder, made if it is not there; one page a command, such as phonefleet-device-list.1
    folder: PathBuf,
}

/// Prints the script.
///
/// # Errors
/// A closed or full standard output.
pub fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "phonefleet", &mut script);
    let mut out = std::io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Writes the pages.
///
/// # Errors
/// Those of the file system.
pub fn man(arguments: &Man) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Arguments::command(), folder)
    };
    write().map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", folder.display())))?;
    note(&format!("written: man -l {}", folder.join("phonefleet.1").display()));
    Ok(())
}
