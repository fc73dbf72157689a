//! Processors, memory and disk of the machine, and which machine it is.

use phonefleet_protocol::id::MachineId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use sysinfo::System;

const MIB: u64 = 1 << 20;

/// How the machine is doing at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Processor use of the whole machine since the last sample, 0 to 100.
    pub cpu_percent: f64,
    /// Memory that programs could not get, MiB.
    pub memory_used_mb: u64,
    /// Space left for the agent's state and the phones' data, MiB.
    pub disk_free_mb: u64,
}

/// Watches the machine.
#[derive(Debug)]
pub struct Resources {
    system: Mutex<System>,
    state_dir: PathBuf,
}

impl Resources {
    /// Begins to watch; `state_dir` tells which disk counts.
    pub fn new(state_dir: &Path) -> io::Result<Self> {
        let mut system = System::new().map_err(io::Error::other)?;
        system.refresh_cpu_usage();
        system.refresh_memory();
        Ok(Self { system: Mutex::new(system), state_dir: state_dir.to_owned() })
    }

    /// Processors that are online.
    pub fn cpu_cores(&self) -> u32 {
        let system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(system.cpus().len()).unwrap_or(u32::MAX)
    }

    /// Memory in MiB.
    pub fn memory_mb(&self) -> u64 {
        self.system.lock().unwrap_or_else(PoisonError::into_inner).total_memory() / MIB
    }

    /// How the machine is doing now. Two samples within 200 ms show the same use of
    /// processors; the first one counts from [`Self::new`].
    pub fn sample(&self) -> Sample {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        system.refresh_cpu_usage();
        system.refresh_memory();
        Sample {
            cpu_percent: f64::from(system.global_cpu_usage()).clamp(0.0, 100.0),
            memory_used_mb: system.total_memory().saturating_sub(system.available_memory()) / MIB,
            disk_free_mb: disk_free(&self.state_dir).unwrap_or(0) / MIB,
        }
    }
}

/// Bytes left for this user on the disk that holds `path`.
fn disk_free(path: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(path).ok()?;
    #[allow(clippy::useless_conversion, reason = "both types differ between platforms")]
    let (blocks, size) = (u64::from(disk.blocks_available()), u64::from(disk.fragment_size()));
    Some(blocks.saturating_mul(size))
}

/// What tells two machines with one host id apart: `/etc/machine-id`, or, where there is
/// none, an id made once and kept in the state directory.
pub fn machine_id(state_dir: &Path) -> io::Result<MachineId> {
    machine_id_from(Path::new("/etc/machine-id"), state_dir)
}

fn machine_id_from(system: &Path, state_dir: &Path) -> io::Result<MachineId> {
    let own = state_dir.join("machine-id");
    for path in [system, &own] {
        // An image that was never booted has "uninitialized" in it.
        if let Ok(text) = fs::read_to_string(path)
            && text.trim().len() >= 32
            && let Ok(id) = text.trim().parse()
        {
            return Ok(id);
        }
    }
    let made = uuid::Uuid::new_v4().simple().to_string();
    let part = own.with_extension("part");
    fs::write(&part, format!("{made}\n"))?;
    fs::File::open(&part)?.sync_all()?;
    fs::rename(&part, &own)?;
    made.parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_plausible_numbers() {
        let resources = Resources::new(Path::new("/")).unwrap();
        let sample = resources.sample();
        assert!(resources.cpu_cores() >= 1 && resources.memory_mb() > 64);
        assert!(sample.memory_used_mb > 0 && sample.memory_used_mb <= resources.memory_mb());
        assert!((0.0..=100.0).contains(&sample.cpu_percent));
        assert_eq!(disk_free(Path::new("/nonexistent")), None);
    }

    #[test]
    fn the_machine_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let system = folder.path().join("system");
        let made = machine_id_from(&system, folder.path()).unwrap();
        fs::write(&system, "uninitialized\n").unwrap();
        assert_eq!(machine_id_from(&system, folder.path()).unwrap(), made);
        fs::write(&system, "0123456789abcdef0123456789abcdef\n").unwrap();
        let id = machine_id_from(&system, folder.path()).unwrap();
        assert_eq!(id.as_str(), "0123456789abcdef0123456789abcdef");
    }
}
