//! Turning the phone off or over: what `sys.powerctl` says, and how the container ends.

/// What `sys.powerctl` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// Off.
    Shutdown,
    /// Over again; the container ends all the same, somebody outside starts it again.
    Reboot,
}

/// The property that asks for it.
pub const POWER_CONTROL: &str = "sys.powerctl";

/// How the container of a phone ends that reboots or whose init fails: in a pid namespace
/// `RB_RESTART` kills PID 1 with SIGHUP, which Docker reports as 128 + 1.
pub const EXIT_REBOOT: u8 = 129;

/// As above for power-off: SIGINT.
pub const EXIT_SHUTDOWN: u8 = 130;

impl PowerAction {
    /// Reads a value of `sys.powerctl`: the action, and after a comma a reason.
    pub fn parse(value: &str) -> Option<Self> {
        match value.split(',').next() {
            Some("shutdown") => Some(Self::Shutdown),
            Some("reboot") => Some(Self::Reboot),
            _ => None,
        }
    }

    /// The exit code of PID 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Shutdown => EXIT_SHUTDOWN,
            Self::Reboot => EXIT_REBOOT,
        }
    }

    /// As `sys.powerctl` is set by commands.
    pub fn value(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown,userrequested",
            Self::Reboot => "reboot,userrequested",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_does_not_matter_and_strangers_are_nothing() {
        assert_eq!(PowerAction::parse("shutdown,thermal"), Some(PowerAction::Shutdown));
        assert_eq!(PowerAction::parse("reboot"), Some(PowerAction::Reboot));
        assert_eq!(PowerAction::parse("shutdowns"), None);
        assert_eq!(PowerAction::parse(""), None);
    }
}
