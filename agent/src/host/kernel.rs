//! The real ports and data directories.
//!
//! ```text
//!   <state_dir>/phones/<device>/device           marker: the device id
//!   <state_dir>/phones/<device>/data-<epoch>/    becomes /data of the phone
//!   <state_dir>/phones/.removing-<device>/       being deleted; finished by any later call
//!   <state_dir>/phones/<device>/.removing-<n>/   the same for one epoch
//! ```
//!
//! The marker lies beside the mounted directory, not in it: a phone has root over its
//! `/data` and may wipe it. A removal renames first, which is one step for the disk, so
//! that a crash leaves either all of the data or something that is known to be waste.

use super::removal::{remove_tree, unfastened};
use super::{HostError, Kernel};
use async_trait::async_trait;
use phonefleet_protocol::id::DeviceId;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const MARKER: &str = "device";
const DATA: &str = "data-";
const REMOVING: &str = ".removing-";

/// This machine.
#[derive(Clone, Debug)]
pub struct Machine {
    phones: PathBuf,
}

impl Machine {
    /// Phones' data lives below `state_dir`, which exists.
    pub fn new(state_dir: &Path) -> Self {
        Self { phones: state_dir.join("phones") }
    }

    fn folder(&self, device: DeviceId) -> PathBuf {
        self.phones.join(device.to_string())
    }

    fn waste(&self, device: DeviceId) -> PathBuf {
        self.phones.join(format!("{REMOVING}{device}"))
    }

    fn prepare(&self, device: DeviceId, data_epoch: u32) -> Result<PathBuf, HostError> {
        delete(&self.waste(device))?;
        let folder = self.folder(device);
        make_folder(&folder, 0o700)?;
        let marker = folder.join(MARKER);
        match fs::read_to_string(&marker) {
            Ok(text) if text.trim() == device.to_string() => {}
            Ok(text) => {
                let whose = format!("it names {:?}: this data belongs to another phone", text.trim());
                return Err(fault("the marker", &marker, &whose));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Without a marker there may be the beginnings of a folder, but no data.
                if entries(&folder)?.iter().any(|name| name.starts_with(DATA)) {
                    return Err(fault(
                        "the data",
                        &folder,
                        &"there is data without the marker that tells whose",
                    ));
                }
                write_durably(&marker, &format!("{device}\n"))
                    .map_err(|error| fault("the marker", &marker, &error))?;
            }
            Err(error) => return Err(fault("the marker", &marker, &error)),
        }
        let data = folder.join(format!("{DATA}{data_epoch}"));
        // Android's init sets the owner; its users must be able to pass through.
        make_folder(&data, 0o771)?;
        for folder in [&folder, &self.phones] {
            sync(folder)?;
        }
        Ok(data)
    }

    fn remove(&self, device: DeviceId, keep_from: Option<u32>) -> Result<(), HostError> {
        let folder = self.folder(device);
        delete(&self.waste(device))?;
        let Some(keep_from) = keep_from else {
            put_aside(&folder, &self.waste(device))?;
            delete(&self.waste(device))?;
            return if self.phones.exists() { sync(&self.phones) } else { Ok(()) };
        };
        for name in entries(&folder)? {
            if name.starts_with(REMOVING) {
                delete(&folder.join(&name))?;
            } else if let Some(epoch) = name.strip_prefix(DATA).and_then(|epoch| epoch.parse::<u32>().ok())
                && epoch < keep_from
            {
                let aside = folder.join(format!("{REMOVING}{epoch}"));
                delete(&aside)?;
                put_aside(&folder.join(&name), &aside)?;
                delete(&aside)?;
            }
        }
        if folder.exists() { sync(&folder) } else { Ok(()) }
    }

    fn devices(&self) -> Result<Vec<DeviceId>, HostError> {
        let mut devices: Vec<DeviceId> = entries(&self.phones)?
            .iter()
            .filter_map(|name| name.strip_prefix(REMOVING).unwrap_or(name).parse().ok())
            .collect();
        devices.sort_unstable();
        devices.dedup();
        Ok(devices)
    }
}

#[async_trait]
impl Kernel for Machine {
    /// Listens for a moment, exactly as the engine's proxy will. Connections that linger
    /// after their end (TIME_WAIT) do not count, as they do not for the engine; another
    /// listener does, also one on all addresses.
    fn port_is_free(&self, bind: IpAddr, port: u16) -> bool {
        TcpListener::bind((bind, port)).is_ok()
    }

    async fn prepare_data(&self, device: DeviceId, data_epoch: u32) -> Result<PathBuf, HostError> {
        self.blocking(move |machine| machine.prepare(device, data_epoch)).await
    }

    async fn remove_data(&self, device: DeviceId, keep_from: Option<u32>) -> Result<(), HostError> {
        self.blocking(move |machine| machine.remove(device, keep_from)).await
    }

    async fn devices_with_data(&self) -> Result<Vec<DeviceId>, HostError> {
        self.blocking(Self::devices).await
    }
}

impl Machine {
    /// Removing the data of one phone may take the disk seconds.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, HostError> {
        let machine = self.clone();
        tokio::task::spawn_blocking(move || work(&machine))
            .await
            .unwrap_or_else(|error| Err(fault("work on", &self.phones, &error)))
    }
}

fn fault(what: &str, path: &Path, detail: &dyn ToString) -> HostError {
    HostError { what: format!("{what} {}", path.display()), detail: detail.to_string() }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), HostError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(path).map_err(|error| fault("making the folder", path, &error))
}

/// Names in a folder; none when there is no folder.
fn entries(folder: &Path) -> Result<Vec<String>, HostError> {
    let read = || -> io::Result<Vec<String>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    match read() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| fault("reading the folder", folder, &error)),
    }
}

fn put_aside(from: &Path, to: &Path) -> Result<(), HostError> {
    match unfastened(from, || fs::rename(from, to)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(fault("putting aside", from, &error)),
        _ => Ok(()),
    }
}

fn delete(path: &Path) -> Result<(), HostError> {
    remove_tree(path).map_err(|error| fault("deleting", path, &error))
}

fn sync(folder: &Path) -> Result<(), HostError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| fault("syncing", folder, &error))
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(last: u8) -> DeviceId {
        format!("018f3b2a-0000-7000-8000-0000000000{last:02x}").parse().unwrap()
    }

    fn machine() -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        (folder, machine)
    }

    #[test]
    fn a_listener_takes_a_port_and_lingering_connections_do_not() {
        let (_folder, machine) = machine();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let listener = TcpListener::bind((loopback, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!machine.port_is_free(loopback, port));
        // The accepting side closes first and keeps the port in TIME_WAIT.
        let client = std::net::TcpStream::connect((loopback, port)).unwrap();
        drop(listener.accept().unwrap());
        drop(client);
        drop(listener);
        assert!(machine.port_is_free(loopback, port));
        let everywhere = TcpListener::bind(("0.0.0.0", port)).unwrap();
        assert!(!machine.port_is_free(loopback, port));
        drop(everywhere);
    }

    #[tokio::test]
    async fn data_is_made_kept_and_removed() {
        let (_folder, machine) = machine();
        let path = machine.prepare_data(device(1), 0).await.unwrap();
        fs::write(path.join("x"), "x").unwrap();
        assert_eq!(machine.prepare_data(device(1), 0).await.unwrap(), path);
        assert!(path.join("x").exists());
        let next = machine.prepare_data(device(1), 1).await.unwrap();
        machine.remove_data(device(1), Some(1)).await.unwrap();
        assert!(!path.exists() && next.exists());
        assert_eq!(machine.devices_with_data().await.unwrap(), [device(1)]);
        machine.remove_data(device(1), None).await.unwrap();
        machine.remove_data(device(1), None).await.unwrap();
        machine.remove_data(device(2), Some(3)).await.unwrap();
        assert_eq!(machine.devices_with_data().await.unwrap(), []);
        assert_eq!(entries(&machine.phones).unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn data_of_another_phone_is_never_given_out() {
        let (_folder, machine) = machine();
        machine.prepare_data(device(1), 0).await.unwrap();
        let marker = machine.folder(device(1)).join(MARKER);
        fs::write(&marker, format!("{}\n", device(2))).unwrap();
        let error = machine.prepare_data(device(1), 0).await.unwrap_err();
        assert!(error.to_string().contains("another phone"), "{error}");
        fs::remove_file(&marker).unwrap();
        let error = machine.prepare_data(device(1), 0).await.unwrap_err();
        assert!(error.to_string().contains("without the marker"), "{error}");
    }

    #[tokio::test]
    async fn what_a_crash_left_is_seen_and_finished() {
        let (_folder, machine) = machine();
        // In the middle of a removal.
        machine.prepare_data(device(1), 0).await.unwrap();
        fs::rename(machine.folder(device(1)), machine.waste(device(1))).unwrap();
        assert_eq!(machine.devices_with_data().await.unwrap(), [device(1)]);
        machine.remove_data(device(1), None).await.unwrap();
        assert_eq!(machine.devices_with_data().await.unwrap(), []);
        // In the middle of the removal of one epoch.
        machine.prepare_data(device(2), 5).await.unwrap();
        fs::create_dir(machine.folder(device(2)).join(".removing-4")).unwrap();
        machine.remove_data(device(2), Some(5)).await.unwrap();
        assert!(!machine.folder(device(2)).join(".removing-4").exists());
        // In the middle of the first preparation.
        fs::create_dir_all(machine.folder(device(3))).unwrap();
        machine.prepare_data(device(3), 0).await.unwrap();
    }
}
