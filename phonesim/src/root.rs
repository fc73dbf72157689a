//! Where the phone's state lives: `/` in the container, any directory in tests
//! (`phonesim --root DIR`, or `PHONESIM_ROOT`). The only file that knows the paths.

use std::path::{Path, PathBuf};

/// Names the directory to be used in place of `/`; PID 1 hands it on to what it starts.
pub const ROOT_VARIABLE: &str = "PHONESIM_ROOT";

/// The directory that stands for the phone's `/`.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// As the environment says; `/` when it says nothing.
    pub fn from_environment() -> Self {
        match std::env::var_os(ROOT_VARIABLE) {
            Some(directory) if !directory.is_empty() => Self(directory.into()),
            _ => Self(PathBuf::from("/")),
        }
    }

    /// State below `directory`.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Gone with the container's `/dev`; made afresh at each boot.
    pub fn volatile(&self) -> PathBuf {
        self.0.join("dev/phonesim")
    }

    /// One file for each property.
    pub fn properties(&self) -> PathBuf {
        self.volatile().join("props")
    }

    /// PID 1 listens here.
    pub fn control_socket(&self) -> PathBuf {
        self.volatile().join("control")
    }

    /// The phone's own disk, a bind mount from the host.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// What the phone itself keeps over boots.
    pub fn kept(&self) -> PathBuf {
        self.data().join("phonesim")
    }

    /// The directory that shells may write to.
    pub fn shell_directory(&self) -> PathBuf {
        self.data().join("local/tmp")
    }

    /// Debian's adbd, put there by the image.
    pub fn adbd(&self) -> PathBuf {
        self.0.join("system/bin/adbd")
    }
}
