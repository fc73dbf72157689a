//! The program that phones are, and what its supervisor says when it is started.

use super::record::Record;
use crate::runtime::EngineError;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// The file name of the program.
const NAME: &str = "phonesim";
/// How long it may take to say who it is.
const VERSION: Duration = Duration::from_secs(5);
/// From its start to its first words, at most.
const FIRST_WORDS: Duration = Duration::from_secs(20);
/// A console that is longer is put aside at the next start, in place of the one before.
const LONGEST_LOG: u64 = 1 << 20;

/// Where phonesim is; `None`: beside this program, or in PATH.
#[derive(Clone, Debug)]
pub(super) struct Program(pub Option<PathBuf>);

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Started {
    /// The phone runs, now or already.
    Runs,
    /// Its port is held by something else, in these words.
    PortTaken(String),
    /// It cannot run here, for this reason.
    Refused(String),
}

impl Program {
    fn path(&self) -> Result<PathBuf, EngineError> {
        if let Some(path) = &self.0 {
            return Ok(path.clone());
        }
        let own = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(NAME)));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = own.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join(NAME)));
        places.find(|place| place.is_absolute() && place.is_file()).ok_or_else(|| {
            EngineError::Unavailable(format!(
                "{NAME} is neither beside the agent's program nor in PATH; put it there, or set \
                 `[runtime] phonesim`"
            ))
        })
    }

    /// What it says of itself; also the test whether it can be run.
    pub async fn version(&self) -> Result<String, EngineError> {
        let path = self.path()?;
        let cannot = |why: &dyn std::fmt::Display| {
            EngineError::Unavailable(format!(
                "cannot run {}: {why}; correct `[runtime] phonesim`",
                path.display()
            ))
        };
        let mut command = Command::new(&path);
        command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        match timeout(VERSION, command.output()).await {
            Ok(Ok(output)) if output.status.success() => {
                Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
            }
            Ok(Ok(output)) => Err(cannot(&output.status)),
            Ok(Err(error)) => Err(cannot(&error)),
            Err(_) => Err(cannot(&"no answer")),
        }
    }

    /// Starts a phone's supervisor and hears it out. What was started is left alone from
    /// then on, also if this is dropped in the middle.
    pub async fn supervise(&self, folder: &Path, record: &Record) -> Result<Started, EngineError> {
        let path = self.path()?;
        let cannot = |error: io::Error| {
            EngineError::Unavailable(format!("cannot start {} for {}: {error}", path.display(), record.name))
        };
        let log = open_log(folder).map_err(cannot)?;
        let listen = SocketAddr::new(record.bind, record.adb_port).to_string();
        let mut child = Command::new(&path)
            .arg("supervise")
            .args([OsStr::new("--folder"), folder.as_os_str()])
            .args([OsStr::new("--data"), record.data_dir.as_os_str()])
            .args(["--name", &record.name, "--listen", &listen, "--"])
            .args(&record.command)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(cannot)?;
        let mut words = String::new();
        if let Some(stdout) = child.stdout.take() {
            match timeout(FIRST_WORDS, BufReader::new(stdout).read_line(&mut words)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(cannot(error)),
                Err(_) => {
                    // With it goes the phone, if it has one.
                    let _ = child.kill().await;
                    return Err(cannot(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        if words.trim() == "started" {
            // Reaped when it ends; after a crash of the agent that is its next parent's work.
            tokio::spawn(async move { child.wait().await });
        } else {
            // Until then it may hold the lock.
            let _ = timeout(FIRST_WORDS, child.wait()).await;
        }
        match read(words.trim()) {
            Some(started) => Ok(started),
            None => Err(EngineError::Unavailable(format!(
                "{} said {:?} when it was to start {}; see {}",
                path.display(),
                words.trim(),
                record.name,
                folder.join("log").display()
            ))),
        }
    }
}

fn read(words: &str) -> Option<Started> {
    let (first, rest) = words.split_once(' ').unwrap_or((words, ""));
    Some(match first {
        "started" | "running" => Started::Runs,
        "port-taken" => Started::PortTaken(rest.to_owned()),
        "refused" => Started::Refused(rest.to_owned()),
        _ => return None,
    })
}

fn open_log(folder: &Path) -> io::Result<File> {
    let path = folder.join("log");
    if path.metadata().is_ok_and(|log| log.len() > LONGEST_LOG) {
        fs::rename(&path, folder.join("log.old"))?;
    }
    File::options().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_understood() {
        assert_eq!(read("started"), Some(Started::Runs));
        assert_eq!(read("running"), Some(Started::Runs));
        assert_eq!(read("port-taken in use"), Some(Started::PortTaken("in use".into())));
        assert_eq!(read("refused no root"), Some(Started::Refused("no root".into())));
        assert_eq!(read(""), None);
        assert_eq!(read("usage: phonesim"), None);
    }

    #[test]
    fn a_long_console_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log"), vec![b'x'; LONGEST_LOG as usize + 1]).unwrap();
        assert_eq!(open_log(folder.path()).unwrap().metadata().unwrap().len(), 0);
        assert!(folder.path().join("log.old").exists());
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_broken_is_named() {
        for path in ["/nonexistent/phonesim", "/bin/false"] {
            let error = Program(Some(path.into())).version().await.unwrap_err();
            assert!(
                matches!(&error, EngineError::Unavailable(why) if why.contains(path) && why.contains("[runtime]")),
                "{error:?}"
            );
        }
    }
}
