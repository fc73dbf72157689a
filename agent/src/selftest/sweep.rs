//! Removes everything that a self-test makes, of this one or of one that was killed.

use super::{HOST_PREFIX, Options, SelfTestError};
use crate::adb::server;
use crate::host::process;
use crate::runtime::Engine;
use crate::runtime::docker::Docker;
use phonefleet_protocol::id::HostId;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From SIGTERM to SIGKILL of an adb server.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a test keeps its things.
pub(super) fn folder(options: &Options) -> PathBuf {
    options.state_dir.join("selftest")
}

/// The host that its containers belong to: not this one, so that no agent takes them for
/// phones.
pub(super) fn host(host: &HostId) -> Result<HostId, SelfTestError> {
    let name: String = format!("{HOST_PREFIX}{host}").chars().take(63).collect();
    name.parse().map_err(|error| SelfTestError::Invalid(format!("{name}: {error}")))
}

/// Containers, adb server, folder. What could not be removed, and why.
pub(super) async fn sweep(options: &Options) -> Vec<String> {
    let mut left = Vec::new();
    if let Err(error) = containers(options).await {
        left.push(error.to_string());
    }
    let folder = folder(options);
    let socket = format!("localfilesystem:{}", server::Options::new(&folder).socket().display());
    for found in process::all() {
        // No other process has this socket in its arguments.
        let ours = found.arguments().is_some_and(|arguments| arguments.contains(&socket));
        if ours && !found.end(PATIENCE).await {
            left.push(format!("the adb server, process {}, does not end", found.pid));
        }
    }
    if let Err(error) = remove_folder(&folder) {
        left.push(format!("{}: {error}", folder.display()));
    }
    left
}

/// Those whose data is below the test's own folder: the label alone, which is cut to the
/// length of a host id, may be another test's of the same engine.
async fn containers(options: &Options) -> Result<(), SelfTestError> {
    let (host, folder) = (host(&options.host)?, folder(options));
    let docker = Docker::new(&options.engine_socket, host.clone());
    for container in docker.list(&host).await? {
        match docker.data_folder(&container.id).await? {
            Some(data) if data.starts_with(&folder) => docker.remove(&container.id).await?,
            Some(data) => {
                tracing::warn!(container = container.name, data = %data.display(), "another self-test's; it stays");
            }
            None => {}
        }
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
