//! Processes and listening ports, as the kernel tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// Its arguments, the program first.
    pub arguments: Vec<String>,
}

impl Process {
    /// Whether any of its arguments has this text.
    pub fn mentions(&self, text: &str) -> bool {
        self.arguments.iter().any(|argument| argument.contains(text))
    }

    /// Whether it is the program of this name.
    pub fn is(&self, program: &str) -> bool {
        self.arguments.first().is_some_and(|path| path.rsplit('/').next() == Some(program))
    }
}

/// Every process that can be seen.
pub fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(process).collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&line);
    let arguments = text.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
    Some(Process { pid, parent, state, arguments })
}

/// Field 22 of the `stat` of a process that is no zombie, as text.
pub fn start_time(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// TCP ports that something listens on, in this network namespace.
pub fn listening_ports() -> BTreeSet<u16> {
    listeners().into_keys().collect()
}

/// The same, with the inode of each socket.
fn listeners() -> BTreeMap<u16, String> {
    let mut ports = BTreeMap::new();
    for file in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/self/net/{file}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Local address, state (0A: listening), inode.
            if let (Some(local), Some(&"0A"), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9))
                && let Some((_, port)) = local.rsplit_once(':')
                && let Ok(port) = u16::from_str_radix(port, 16)
            {
                ports.insert(port, (*inode).to_owned());
            }
        }
    }
    ports
}

/// The processes that hold a listening port.
pub fn holders(port: u16) -> Vec<Process> {
    let Some(inode) = listeners().remove(&port) else { return Vec::new() };
    let wanted = format!("socket:[{inode}]");
    let holds = |process: &Process| {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else { return false };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy() == wanted))
    };
    processes().into_iter().filter(holds).collect()
}
