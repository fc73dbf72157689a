//! Phones of one host that are processes: what the disk and the kernel tell of them, without
//! asking the agent.

use super::engine::Container;
use super::process_table::{self, Process};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The phones below one agent's state.
#[derive(Clone, Debug)]
pub struct Processes {
    folder: PathBuf,
}

impl Processes {
    /// Those of the agent with this state.
    pub fn of(state: &Path) -> Self {
        Self { folder: state.join("processes") }
    }

    /// Where a phone's files are.
    pub fn folder(&self, device: &str) -> PathBuf {
        self.folder.join(format!("phonefleet-{device}"))
    }

    /// Every phone, in the words of a container engine.
    pub fn containers(&self) -> Vec<Container> {
        self.entries().iter().filter_map(|folder| container(folder)).collect()
    }

    /// Supervisors of these phones that live; they are not the agent's to end.
    pub fn supervisors(&self) -> Vec<Process> {
        let works_here = |process: &Process| {
            process.state != 'Z'
                && process.is("phonesim")
                && process.arguments.iter().any(|argument| Path::new(argument).starts_with(&self.folder))
        };
        process_table::processes().into_iter().filter(works_here).collect()
    }

    /// Whatever is there: phones, and what was left of making or removing them.
    pub fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }
}

fn container(folder: &Path) -> Option<Container> {
    let record: Value = serde_json::from_slice(&fs::read(folder.join("container.json")).ok()?).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let init = fs::read_to_string(folder.join("init")).unwrap_or_default();
    let (pid, started_at) = init.trim().split_once(' ').unwrap_or_default();
    let alive = process_table::start_time(pid).as_deref() == Some(started_at);
    let state = match (alive, init.is_empty()) {
        (true, _) => "running",
        (false, true) => "created",
        (false, false) => "exited",
    };
    Some(Container {
        id: text(&record["id"]),
        name: text(&record["name"]),
        device: text(&record["labels"]["phonefleet.device"]),
        state: state.to_owned(),
        pid: if alive { pid.parse().unwrap_or(0) } else { 0 },
        started_at: started_at.to_owned(),
    })
}
