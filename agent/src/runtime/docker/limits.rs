//! What engine and machine allow, and cutting a spec down to it.
//!
//! An order for more processors than the machine has is refused by the engine at creation,
//! and one for more open files than it may hand out at start: both are better cut, said
//! once, than failed for ever.

use crate::runtime::ContainerSpec;
use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The most that can be had; 0 where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ceiling {
    pub(super) cpus: u64,
    pub(super) memory_bytes: u64,
    pub(super) open_files: u64,
}

/// What was warned of already.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<HashSet<String>>);

impl Warnings {
    /// Logs a warning unless the same was logged before.
    pub(super) fn once(&self, text: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Texts hold amounts that orders choose; a bound keeps them from piling up.
        if said.len() < 256 && said.insert(text.to_owned()) {
            tracing::warn!("{text}");
        }
    }

    /// The spec with its limits cut to the ceiling.
    pub(super) fn clamp(&self, spec: &ContainerSpec, ceiling: Ceiling) -> ContainerSpec {
        let mut spec = spec.clone();
        let cut = |value: &mut u64, most: u64, what: &str| {
            if most > 0 && *value > most {
                self.once(&format!("{what}: {value} ordered, {most} given, which is all there is"));
                *value = most;
            }
        };
        cut(&mut spec.nano_cpus, ceiling.cpus.saturating_mul(1_000_000_000), "billionths of a processor");
        cut(&mut spec.memory_bytes, ceiling.memory_bytes, "bytes of memory");
        cut(&mut spec.open_files.1, ceiling.open_files, "open files (hard limit)");
        spec.open_files.0 = spec.open_files.0.min(spec.open_files.1);
        spec
    }
}

/// Bit of CAP_SYS_RESOURCE, which lets a process raise its own limits.
const SYS_RESOURCE: u32 = 24;

/// How many open files a container can get: the system's ceiling if the engine may raise
/// limits, else its own hard limit, which containers inherit. The process behind the
/// socket is asked, or this one when that is out of sight (another process namespace).
pub(super) fn open_files(socket: &Path) -> u64 {
    let system = read_number("/proc/sys/fs/nr_open").unwrap_or(1 << 20);
    let engine = UnixStream::connect(socket)
        .ok()
        .and_then(|stream| {
            nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials).ok()
        })
        .map(|peer| peer.pid())
        .filter(|pid| *pid > 0);
    let process = engine.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    of_process(&process).or_else(|| of_process("self")).map_or(system, |limit| limit.min(system))
}

/// `u64::MAX` for one that may raise its limits.
fn of_process(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let capabilities = u64::from_str_radix(capabilities.trim(), 16).ok()?;
    if capabilities & (1 << SYS_RESOURCE) != 0 {
        return Some(u64::MAX);
    }
    hard_limit(&std::fs::read_to_string(format!("/proc/{process}/limits")).ok()?)
}

fn hard_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Privilege;

    #[test]
    fn only_what_is_too_much_is_cut() {
        let spec = ContainerSpec {
            name: String::new(),
            image: String::new(),
            command: vec![],
            labels: [].into(),
            memory_bytes: 500,
            nano_cpus: 3_000_000_000,
            pids_limit: 1,
            shm_bytes: 1,
            open_files: (65_536, 1 << 20),
            bind: "127.0.0.1".parse().unwrap(),
            adb_port: 1,
            data_dir: "/".into(),
            privilege: Privilege::None,
        };
        let warnings = Warnings::default();
        let cut = warnings.clamp(&spec, Ceiling { cpus: 2, memory_bytes: 1000, open_files: 20_000 });
        assert_eq!((cut.nano_cpus, cut.memory_bytes, cut.open_files), (2_000_000_000, 500, (20_000, 20_000)));
        assert_eq!(warnings.0.lock().unwrap().len(), 2);
        assert_eq!(warnings.clamp(&spec, Ceiling::default()), spec);
    }

    #[test]
    fn the_limits_file_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 20000                files     \n";
        assert_eq!(hard_limit(text), Some(20_000));
        assert_eq!(hard_limit("Max open files unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(hard_limit(""), None);
        assert!(open_files(Path::new("/nonexistent")) > 0);
    }
}
