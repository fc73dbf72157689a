//! What is on this host and belongs to no device of it: found, told, and removed only where
//! the agent's own rows prove that it was theirs and is gone.
//!
//! ```text
//!   database, engine, disk ─▶ sighting ─▶ judgement (pure) ─▶ round: tell, remedy, count
//!   after every start, every hour, and whenever somebody asks (`phonefleet-agent orphans`)
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | `judgement` | what is an orphan, and what may be done about it; pure |
//! | `round` | looks, tells, removes, counts |
//!
//! Containers and data of devices that no row knows are parked by `phone::watch` and listed
//! here; nothing ever removes them but a controller that names them, or a person. Of other
//! hosts' and strangers' containers only the published ports are looked at.

mod judgement;
pub(crate) mod round;

use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container with this host's label that stands for no device's one container.
    Container,
    /// A lease without a device, or a container that publishes a port of this host's pool
    /// without a lease.
    Port,
    /// Data of a device that no row knows, or that is gone.
    Data,
    /// A process that records without a row.
    Recorder,
    /// A device that is left alone until a controller names it.
    Parked,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Container, Self::Port, Self::Data, Self::Recorder, Self::Parked];

    /// Its name in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Port => "port",
            Self::Data => "data",
            Self::Recorder => "recorder",
            Self::Parked => "parked",
        }
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Orphan {
    /// What it is.
    pub kind: Kind,
    /// The container's name, the port's number, or the device's id.
    pub what: String,
    /// The device that it names, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// What is wrong with it, and what to do.
    pub why: String,
    /// Being removed: rows of this agent prove that it is theirs and gone.
    pub removing: bool,
}

/// What one look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was looked; `None`: not yet.
    pub at: Option<Timestamp>,
    /// What was found, by kind.
    pub orphans: Vec<Orphan>,
    /// How many were removed since this agent began.
    pub removed: BTreeMap<Kind, u64>,
    /// What could not be looked at, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Report {
    /// How many of a kind were found.
    pub fn found(&self, kind: Kind) -> usize {
        self.orphans.iter().filter(|orphan| orphan.kind == kind).count()
    }
}

impl fmt::Display for Report {
    /// For people, a line an orphan.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => writeln!(out, "{} orphans, seen {at}", self.orphans.len())?,
            None => writeln!(out, "not looked for yet")?,
        }
        if let Some(fault) = &self.fault {
            writeln!(out, "not everything could be looked at: {fault}")?;
        }
        for orphan in &self.orphans {
            let removing = if orphan.removing { " (being removed)" } else { "" };
            writeln!(out, "  {:<9} {}: {}{removing}", orphan.kind.name(), orphan.what, orphan.why)?;
        }
        for (kind, count) in self.removed.iter().filter(|(_, count)| **count > 0) {
            writeln!(out, "  {:<9} {count} removed since the agent began", kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_and_travels() {
        let orphan = Orphan {
            kind: Kind::Port,
            what: "20001".into(),
            device: None,
            why: "published by web".into(),
            removing: true,
        };
        let report = Report {
            at: Some(Timestamp(0)),
            orphans: vec![orphan],
            removed: [(Kind::Data, 2), (Kind::Port, 0)].into(),
            fault: Some("the engine sleeps".into()),
        };
        let text = report.to_string();
        assert!(text.contains("port      20001: published by web (being removed)"), "{text}");
        assert!(text.contains("data      2 removed") && !text.contains("0 removed"), "{text}");
        assert!(text.contains("the engine sleeps"), "{text}");
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""removed":{"data":2"#) || json.contains(r#""port":0"#), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(Report::default().to_string().contains("not looked for yet"));
    }
}
