//! What is on disk of a phone that is a process, and how it is.
//!
//! ```text
//!   <state_dir>/processes/<name>/container.json   what it is made of
//!   <state_dir>/processes/<name>/lock             locked by its supervisor while that lives
//!   <state_dir>/processes/<name>/init             PID 1 of the newest start
//!   <state_dir>/processes/<name>/ended            exit code of the newest run
//!   <state_dir>/processes/<name>/log              its console
//!   <state_dir>/processes/<name>/root/            where its root is mounted, in its own view
//!   <state_dir>/processes/.new-<name>/            being made
//!   <state_dir>/processes/.removing-<name>/       being deleted
//! ```
//!
//! Made and removed by a rename, so that a crash leaves all of it or nothing that counts.
//! Only the supervisor writes `init` and `ended`, only while it holds the lock; that one goes
//! with its process, however it ends. So the lock alone tells what runs.

use super::kernel;
use crate::host::process::ProcessId;
use crate::runtime::{Container, ContainerSpec, ContainerState, EngineError, LABEL_HOST};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use phonefleet_protocol::id::HostId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const RECORD: &str = "container.json";
const NEW: &str = ".new-";
const REMOVING: &str = ".removing-";
/// As a shell tells of SIGKILL, and Docker: how a phone ends that nobody saw ending.
const KILLED: i64 = 137;

/// What a phone is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of this container only; a later one of the same name has another.
    pub id: String,
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub bind: IpAddr,
    pub adb_port: u16,
    pub data_dir: PathBuf,
}

impl Record {
    /// Of a new container.
    pub fn of(spec: &ContainerSpec) -> Self {
        let (unique, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            id: format!("{}.{unique:016x}", spec.name),
            name: spec.name.clone(),
            image: spec.image.clone(),
            command: spec.command.clone(),
            labels: spec.labels.clone(),
            bind: spec.bind,
            adb_port: spec.adb_port,
            data_dir: spec.data_dir.clone(),
        }
    }
}

/// A phone as it is at this moment.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub record: Record,
    pub folder: PathBuf,
    pub state: ContainerState,
    /// While it runs.
    pub supervisor: Option<ProcessId>,
    /// PID 1 of the newest start, dead or alive.
    pub init: Option<ProcessId>,
}

impl Found {
    pub fn into_container(self) -> Container {
        let Record { id, name, labels, .. } = self.record;
        Container { id, name, labels, state: self.state }
    }

    /// When anything about it changed last, in milliseconds since 1970.
    pub fn changed_at(&self) -> i64 {
        let changed = |name: &str| self.folder.join(name).metadata().and_then(|file| file.modified());
        let times = [RECORD, "init", "ended"].into_iter().filter_map(|name| changed(name).ok());
        let latest = times.max().unwrap_or(UNIX_EPOCH);
        latest.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }
}

/// All phones.
#[derive(Clone, Debug)]
pub(super) struct Records {
    folder: PathBuf,
}

impl Records {
    /// Below `folder`, which need not exist yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Makes the folder, and clears what crashes have left in it.
    pub fn prepare(&self) -> Result<(), EngineError> {
        make_folder(&self.folder).map_err(|error| cannot("make", &self.folder, &error))
    }

    /// Makes a phone, and returns its id.
    pub fn create(&self, record: &Record) -> Result<String, EngineError> {
        let Some(folder) = self.place(&record.name) else {
            return Err(EngineError::Refused(format!("{:?} is no name for a container", record.name)));
        };
        if !record.data_dir.is_dir() {
            let path = record.data_dir.display();
            return Err(EngineError::Refused(format!("the data directory {path} does not exist")));
        }
        self.prepare()?;
        let draft = self.folder.join(format!("{NEW}{}", record.name));
        let make = || -> io::Result<()> {
            remove_folder(&draft)?;
            make_folder(&draft.join("root"))?;
            let mut file = File::create_new(draft.join(RECORD))?;
            file.write_all(&serde_json::to_vec_pretty(record)?)?;
            file.sync_all()?;
            File::open(&draft)?.sync_all()?;
            // Another phone's folder is never empty, so this never replaces one.
            fs::rename(&draft, &folder)?;
            File::open(&self.folder)?.sync_all()
        };
        match make() {
            Ok(()) => Ok(record.id.clone()),
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                // Best effort: it is cleared before the next one of this name, too.
                let _ = remove_folder(&draft);
                Err(EngineError::NameTaken(record.name.clone()))
            }
            Err(error) => Err(cannot("make", &folder, &error)),
        }
    }

    /// The phone of that id or name.
    pub fn find(&self, id: &str) -> Result<Option<Found>, EngineError> {
        if let Some(found) = self.place(id).map(look).transpose()?.flatten() {
            return Ok(Some(found));
        }
        let Some((name, _)) = id.rsplit_once('.') else { return Ok(None) };
        let found = self.place(name).map(look).transpose()?.flatten();
        Ok(found.filter(|found| found.record.id == id))
    }

    /// Every phone with this host's label.
    pub fn all(&self, host: &HostId) -> Result<Vec<Found>, EngineError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &self.folder, &error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| cannot("read", &self.folder, &error))?;
            let Some(folder) = entry.file_name().to_str().and_then(|name| self.place(name)) else { continue };
            // One that cannot be read must not hide the others; asked for by itself, it says why.
            let Ok(found) = look(folder.clone()) else {
                tracing::debug!(folder = %folder.display(), "cannot be read");
                continue;
            };
            if let Some(found) = found
                && found.record.labels.get(LABEL_HOST).map(String::as_str) == Some(host.as_str())
            {
                all.push(found);
            }
        }
        Ok(all)
    }

    /// Removes a phone that does not run.
    pub fn remove(&self, found: &Found) -> Result<(), EngineError> {
        let aside = self.folder.join(format!("{REMOVING}{}", found.record.name));
        let remove = || -> io::Result<()> {
            remove_folder(&aside)?;
            match fs::rename(&found.folder, &aside) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            File::open(&self.folder)?.sync_all()?;
            remove_folder(&aside)
        };
        remove().map_err(|error| cannot("remove", &found.folder, &error))
    }

    /// Where a phone of this name is; `None` for what no phone is called.
    fn place(&self, name: &str) -> Option<PathBuf> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        (!name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.bytes().all(fine))
            .then(|| self.folder.join(name))
    }
}

fn look(folder: PathBuf) -> Result<Option<Found>, EngineError> {
    let path = folder.join(RECORD);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(cannot("read", &path, &error)),
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| cannot("read", &path, &error))?;
    loop {
        let supervisor = supervisor(&folder)?;
        let init = init(&folder);
        let state = match (supervisor, ended(&folder)) {
            (Some(_), _) if init.is_some_and(kernel::is_stopped) => ContainerState::Paused,
            (Some(_), _) => ContainerState::Running,
            (None, Some(code)) => ContainerState::Exited { code, out_of_memory: false },
            (None, None) if init.is_some() => ContainerState::Exited { code: KILLED, out_of_memory: false },
            (None, None) => ContainerState::Created,
        };
        // What it was started to meanwhile is not what these files were read for.
        if supervisor.is_some() || self::supervisor(&folder)?.is_none() {
            return Ok(Some(Found { record, folder, state, supervisor, init }));
        }
    }
}

/// Who holds the lock.
fn supervisor(folder: &Path) -> Result<Option<ProcessId>, EngineError> {
    let path = folder.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("open", &path, &error)),
    };
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // Asks only; nothing is locked by it.
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))
        .map_err(|error: Errno| cannot("ask for the lock of", &path, &error))?;
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return Ok(None);
    }
    // It may have ended since; then so has the lock.
    Ok(u32::try_from(lock.l_pid).ok().and_then(ProcessId::of))
}

fn init(folder: &Path) -> Option<ProcessId> {
    let text = fs::read_to_string(folder.join("init")).ok()?;
    let (pid, start_time) = text.trim().split_once(' ')?;
    Some(ProcessId { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
}

fn ended(folder: &Path) -> Option<i64> {
    fs::read_to_string(folder.join("ended")).ok()?.trim().parse().ok()
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes it with all that is in it, if it is there.
fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The disk may be mended: whoever asked tries again.
fn cannot(what: &str, path: &Path, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Unavailable(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
