//! Faults on order: what `androidboot.phonesim_fault=A,B:N` asks for.
//!
//! The order is the property `ro.boot.phonesim_fault`, so that PID 1 and the recorder read
//! the same one.

use std::time::Duration;

use crate::properties::Properties;

const ORDER: &str = "ro.boot.phonesim_fault";

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything starts, `sys.boot_completed` never comes.
    BootHang,
    /// Once booted, adbd is away for so long.
    AdbOffline(Duration),
    /// PID 1 ends with 129 half-way through the boot.
    Exit129,
    /// PID 1 ends with 129 so long after each completed boot.
    CrashAfter(Duration),
    /// A recording starts, then its encoder fails.
    RecordFail,
    /// A recording stops for nothing but SIGKILL or SIGTERM.
    RecordHang,
    /// A recording is refused at once.
    RecordRefuse,
    /// adbd asks every host for a key and takes none.
    AdbAuth,
    /// adbd asks every host for a key and takes the first public one.
    AdbAuthOnce,
    /// adbd takes connections and never says a word.
    AdbSilent,
    /// adbd answers with what is no ADB.
    AdbGarbage,
    /// adbd greets its hosts and never says another word.
    AdbHalfOpen,
}

/// The faults ordered for this boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Those understood, in order.
    pub known: Vec<Fault>,
    /// Those not understood, for the log.
    pub unknown: Vec<String>,
}

impl Fault {
    /// Whether only phonesim's own adbd can show it.
    pub fn needs_own_adbd(self) -> bool {
        match self {
            Self::AdbAuth | Self::AdbAuthOnce | Self::AdbSilent | Self::AdbGarbage | Self::AdbHalfOpen => {
                true
            }
            Self::BootHang
            | Self::AdbOffline(_)
            | Self::Exit129
            | Self::CrashAfter(_)
            | Self::RecordFail
            | Self::RecordHang
            | Self::RecordRefuse => false,
        }
    }
}

impl Faults {
    /// What the boot line of this phone ordered.
    pub fn ordered(properties: &Properties) -> Self {
        Self::parse(&properties.get(ORDER).unwrap_or_default())
    }

    fn parse(order: &str) -> Self {
        let mut faults = Self::default();
        for item in order.split(',').filter(|item| !item.is_empty()) {
            match one(item) {
                Some(fault) => faults.known.push(fault),
                None => faults.unknown.push(item.to_owned()),
            }
        }
        faults
    }

    /// Whether this one was ordered.
    pub fn has(&self, fault: Fault) -> bool {
        self.known.contains(&fault)
    }
}

fn one(item: &str) -> Option<Fault> {
    let (name, amount) = match item.split_once(':') {
        Some((name, amount)) => (name, Some(amount.parse::<u32>().ok()?)),
        None => (item, None),
    };
    Some(match (name, amount) {
        ("boot_hang", None) => Fault::BootHang,
        ("adb_offline", Some(seconds)) => Fault::AdbOffline(Duration::from_secs(seconds.into())),
        ("exit_129", None) => Fault::Exit129,
        ("crash_after_ms", Some(ms)) => Fault::CrashAfter(Duration::from_millis(ms.into())),
        ("record_fail", None) => Fault::RecordFail,
        ("record_hang", None) => Fault::RecordHang,
        ("record_refuse", None) => Fault::RecordRefuse,
        ("adb_auth", None) => Fault::AdbAuth,
        ("adb_auth_once", None) => Fault::AdbAuthOnce,
        ("adb_silent", None) => Fault::AdbSilent,
        ("adb_garbage", None) => Fault::AdbGarbage,
        ("adb_half_open", None) => Fault::AdbHalfOpen,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_faults_with_amounts_and_strangers() {
        let faults =
            Faults::parse("boot_hang,adb_offline:7,,melt,adb_offline:x,exit_129:3,crash_after_ms:20");
        assert_eq!(
            faults.known,
            [
                Fault::BootHang,
                Fault::AdbOffline(Duration::from_secs(7)),
                Fault::CrashAfter(Duration::from_millis(20)),
            ]
        );
        assert_eq!(faults.unknown, ["melt", "adb_offline:x", "exit_129:3"]);
        assert_eq!(Faults::parse(""), Faults::default());
    }
}
