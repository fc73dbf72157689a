//! Why a command did not do what was asked, what to do about it, and the exit code for scripts.

use crate::client::problem::Refusal;

/// Exit codes. They are part of the interface: `phonefleet --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A saga or another operation failed.
    Failed = 1,
    /// The command line or the configuration is wrong; clap uses the same code.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// It does not fit what is there now.
    Conflict = 4,
    /// The quota or the hosts have no room.
    NoRoom = 5,
    /// The controller cannot be reached, or cannot serve now.
    Unreachable = 6,
    /// It took longer than this command was told to wait.
    TimedOut = 7,
}

/// Why there is no success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The controller understood and refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Nobody answers there, or somebody else.
    #[error("{0}")]
    Unreachable(String),
    /// No end within the time that was given.
    #[error("{0}")]
    TimedOut(String),
    /// An operation ended otherwise than asked for, or a file cannot be written.
    #[error("{0}")]
    Failed(String),
    /// Several failures of one command, told already; the code is that of the first.
    #[error("{count} of {of} failed")]
    Several {
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
        /// The code of the first.
        exit: Exit,
    },
    /// Nobody reads what is printed.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// The code that the program ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NotFound(_) => Exit::NotFound,
            Self::Refused(refusal) => refusal.exit(),
            Self::Unreachable(_) => Exit::Unreachable,
            Self::TimedOut(_) => Exit::TimedOut,
            Self::Failed(_) | Self::Output(_) => Exit::Failed,
            Self::Several { exit, .. } => *exit,
        }
    }

    /// Whether the controller is away, or says itself that it cannot serve now: whoever waits
    /// for something may go on waiting.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => true,
            Self::Refused(refusal) => matches!(refusal.status, 502..=504),
            _ => false,
        }
    }

    /// Whether a reader such as `head` has simply seen enough.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}
