//! The real [`Videos`]: the files of this host.
//!
//! ```text
//!   <state_dir>/phones/<device>/data-<epoch>/local/tmp/phonefleet/<recording>/video.mp4
//!        │ hard link, no byte is copied; a copy where that cannot be; adb where there is no such folder
//!        ▼
//!   <state_dir>/recordings/<device>/.<recording>.part ─▶ <recording>.mp4
//!   <state_dir>/recordings/.phonefleet-host              whose videos these are
//! ```
//!
//! The recorder has ended when its file is taken. Once the file has its name here, the phone's
//! is removed; what then has still another one, which somebody made on the phone, is replaced
//! by a copy. Only then it is hashed, so that nobody there can change what was. (A process of
//! the phone that holds it open still could: it is that phone's own video.)

use super::confined::{Folder, printable};
use super::inspection::{examine, hash, too_large, written_at};
use super::script::{self, Answer};
use super::{Collected, KeptVideo, PHONE_FOLDER, Phone, Source, VideoError, Videos};
use crate::adb::Adb;
use crate::host::removal::remove_file;
use crate::runtime::redroid::serial;
use async_trait::async_trait;
use nix::errno::Errno;
use phonefleet_protocol::id::{DeviceId, HostId, RecordingId};
use phonefleet_protocol::time::Timestamp;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Tells whose videos a folder holds.
const HOST_FILE: &str = ".phonefleet-host";
/// In a recording's folder on a phone.
const VIDEO: &str = "video.mp4";
const WORDS: &str = "words";
const NAMES: [&str; 4] = [VIDEO, WORDS, "process", "process.new"];
/// As much of what a recorder said as is told.
const WORDS_BYTES: u64 = 400;
/// Between two looks at a size that must not change, and how many there are at most.
const STABLE: Duration = Duration::from_millis(20);
const STABLE_LOOKS: u32 = 50;
/// How long a phone may take to say which it is.
const ASK: Duration = Duration::from_secs(6);
/// How long a copy over adb may take: one that goes on is no failure, however long failures
/// are borne.
const PULL: Duration = Duration::from_mins(5);

/// The videos below a state directory.
#[derive(Clone)]
pub struct HostVideos {
    phones: PathBuf,
    folder: PathBuf,
    adb: Arc<dyn Adb>,
}

impl HostVideos {
    /// Videos and phones' data are below `state_dir`.
    pub fn new(state_dir: &Path, adb: Arc<dyn Adb>) -> Self {
        Self { phones: state_dir.join("phones"), folder: state_dir.join("recordings"), adb }
    }

    /// Where videos are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder, and the file that says whose it is.
    pub fn prepare(&self, host: &HostId) -> io::Result<()> {
        make_folder(&self.folder)?;
        let (file, text) = (self.folder.join(HOST_FILE), format!("{host}\n"));
        if fs::read_to_string(&file).is_ok_and(|known| known == text) {
            return Ok(());
        }
        let part = self.folder.join(".phonefleet-host.part");
        fs::write(&part, text)?;
        File::open(&part)?.sync_all()?;
        fs::rename(&part, &file)?;
        sync(&self.folder)
    }

    /// Where a video is, if it is kept.
    pub fn path(&self, device: DeviceId, recording: RecordingId) -> PathBuf {
        self.folder.join(device.to_string()).join(format!("{recording}.mp4"))
    }

    /// Where it is before it is whole and checked.
    fn part(&self, device: DeviceId, recording: RecordingId) -> PathBuf {
        self.folder.join(device.to_string()).join(format!(".{recording}.part"))
    }

    fn data(&self, source: &Source) -> PathBuf {
        self.phones.join(source.device.to_string()).join(format!("data-{}", source.data_epoch))
    }

    /// The recording's folder; `None` without one.
    fn open(&self, source: &Source) -> Result<Option<Folder>, VideoError> {
        let inside = source.folder.strip_prefix("/data/").unwrap_or(&source.folder);
        match Folder::root(&self.data(source)).and_then(|data| data.below(inside)) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(planted(&source.folder, &error)),
        }
    }

    /// Takes the file out of the phone's data, if there is one.
    fn take(&self, source: &Source, limit: u64) -> Result<(bool, String), VideoError> {
        let Some(folder) = self.open(source)? else { return Ok((false, String::new())) };
        let words = folder.words(WORDS, WORDS_BYTES);
        let file = match folder.file(VIDEO) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((false, words)),
            Err(error) => return Err(planted(VIDEO, &error)),
        };
        let size = stable_size(&file).map_err(|error| trouble("looking at", &source.folder, &error))?;
        if size == 0 {
            return Ok((false, words));
        }
        if size > limit {
            let text = format!("its file has {size} bytes, and at most {limit} were to be expected");
            return Err(VideoError::Refused(text));
        }
        let part = self.part(source.device, source.recording);
        let taken =
            remove_file(&part).and_then(|()| take_file(&folder, file, &part, source.may_be_written, limit));
        taken.map_err(|error| trouble("keeping", &part.display(), &error))?;
        Ok((true, words))
    }

    /// Checks and hashes what was taken, and gives it its name.
    fn keep(&self, source: &Source, taken: bool, limit: u64) -> Result<Option<KeptVideo>, VideoError> {
        let (part, path) =
            (self.part(source.device, source.recording), self.path(source.device, source.recording));
        let from = if taken { &part } else { &path };
        let opened = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(from) {
            // Taken by an earlier try, which came no further.
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && !taken => return Ok(None),
            Err(error) => return Err(trouble("opening", &from.display(), &error)),
        };
        let keep = || -> io::Result<KeptVideo> {
            opened.sync_all()?;
            if taken {
                fs::rename(&part, &path)?;
            }
            sync_parent(&path)?;
            let kept = self.part_from_phone(source, opened, limit)?;
            let (bytes, sha256) = hash(&kept, limit)?;
            let movie = examine(&kept, bytes)?;
            Ok(KeptVideo { bytes, sha256, movie, written_at: written_at(&kept) })
        };
        match keep() {
            // Whoever has it open on the phone made it larger meanwhile.
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                for path in [&part, &path] {
                    remove_file(path).map_err(|error| trouble("deleting", &path.display(), &error))?;
                }
                Err(VideoError::Refused(format!("its file grew while it was taken: {error}")))
            }
            kept => kept.map(Some).map_err(|error| trouble("keeping", &path.display(), &error)),
        }
    }

    /// The kept file, once no name on the phone leads to it any more.
    fn part_from_phone(&self, source: &Source, kept: File, limit: u64) -> io::Result<File> {
        if kept.metadata()?.nlink() == 1 {
            return Ok(kept);
        }
        if let Ok(Some(folder)) = self.open(source) {
            // Where that fails there is another name, and a copy is made.
            let _ = folder.remove(&[VIDEO]);
        }
        if kept.metadata()?.nlink() == 1 {
            return Ok(kept);
        }
        let (part, path) =
            (self.part(source.device, source.recording), self.path(source.device, source.recording));
        remove_file(&part)?;
        copy(kept, &part, limit)?.sync_all()?;
        fs::rename(&part, &path)?;
        sync_parent(&path)?;
        File::open(&path)
    }

    fn make_room(&self, source: &Source) -> Result<(), VideoError> {
        let folder = self.folder.join(source.device.to_string());
        make_folder(&folder).map_err(|error| trouble("making", &folder.display(), &error))
    }

    /// Copies the file through adb.
    async fn pull(&self, source: &Source, limit: u64) -> Result<(bool, String), VideoError> {
        let Some(phone) = source.phone else {
            return Err(VideoError::Trouble(
                "the phone's data is not on this host, and it cannot be reached".to_owned(),
            ));
        };
        self.is_there(phone).await?;
        let part = self.part(source.device, source.recording);
        let remote = |name: &str| format!("{}/{name}", source.folder);
        let fetch = async |name: &str, limit: u64| {
            let file = tokio::fs::File::create(&part).await;
            let file = file.map_err(|error| trouble("making", &part.display(), &error))?;
            let pulled = self.adb.pull(phone.address, &remote(name), file, limit, PULL).await;
            pulled.map_err(|error| VideoError::Trouble(format!("copying through adb: {error}")))
        };
        let words = match fetch(WORDS, WORDS_BYTES).await? {
            Some(_) => printable(&tokio::fs::read(&part).await.unwrap_or_default()),
            None => String::new(),
        };
        let size = fetch(VIDEO, limit.saturating_add(1)).await?.unwrap_or(0);
        if size > limit {
            let text = format!("its file has more than the {limit} bytes that were to be expected");
            return Err(VideoError::Refused(text));
        }
        Ok((size > 0, words))
    }

    /// Ports pass to other phones, and another one has no such file: that would be taken for
    /// nothing recorded.
    async fn is_there(&self, phone: Phone) -> Result<(), VideoError> {
        let script = script::nothing(&serial(phone.device));
        let asked = self.adb.shell(phone.address, &script, ASK).await;
        let output = asked.map_err(|error| VideoError::Trouble(format!("asking through adb: {error}")))?;
        match script::answer(&output.stdout) {
            Answer::Told(_) => Ok(()),
            Answer::Stranger => {
                Err(VideoError::Trouble("another phone answers at the phone's port".to_owned()))
            }
            Answer::Refused | Answer::Cut => {
                Err(VideoError::Trouble("the phone does not say which it is".to_owned()))
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, VideoError> + Send + 'static,
    ) -> Result<T, VideoError> {
        let videos = self.clone();
        tokio::task::spawn_blocking(move || work(&videos))
            .await
            .unwrap_or_else(|error| Err(VideoError::Trouble(error.to_string())))
    }
}

#[async_trait]
impl Videos for HostVideos {
    async fn collect(&self, source: &Source, limit: u64) -> Result<Collected, VideoError> {
        let own = source.clone();
        let here = self
            .blocking(move |videos| {
                videos.make_room(&own)?;
                if !videos.data(&own).exists() && !videos.path(own.device, own.recording).exists() {
                    return Ok(None);
                }
                videos.take(&own, limit).map(Some)
            })
            .await?;
        let (taken, words) = match here {
            Some(taken) => taken,
            None => self.pull(source, limit).await?,
        };
        let own = source.clone();
        let video = self.blocking(move |videos| videos.keep(&own, taken, limit)).await?;
        Ok(Collected { video, words })
    }

    async fn clear(&self, source: &Source) {
        let own = source.clone();
        let cleared = self
            .blocking(move |videos| {
                let _ = remove_file(&videos.part(own.device, own.recording));
                let Some(folder) = videos.open(&own)? else { return Ok(()) };
                let clear = || -> io::Result<()> {
                    folder.remove(&NAMES)?;
                    let above = PHONE_FOLDER.strip_prefix("/data/").unwrap_or(PHONE_FOLDER);
                    Folder::root(&videos.data(&own))?.below(above)?.remove_folder(&own.recording.to_string())
                };
                clear().map_err(|error| trouble("clearing", &own.folder, &error))
            })
            .await;
        if let Err(error) = cleared {
            tracing::warn!(recording = %source.recording, %error, "what is left on the phone stays");
        }
    }

    async fn delete(&self, device: DeviceId, recording: RecordingId) -> Result<(), VideoError> {
        self.blocking(move |videos| {
            for path in [videos.path(device, recording), videos.part(device, recording)] {
                remove_file(&path).map_err(|error| trouble("deleting", &path.display(), &error))?;
            }
            // Works only once it is empty.
            let _ = fs::remove_dir(videos.folder.join(device.to_string()));
            Ok(())
        })
        .await
    }

    async fn free_bytes(&self) -> Result<u64, VideoError> {
        self.blocking(|videos| {
            make_folder(&videos.folder)
                .map_err(|error| trouble("making", &videos.folder.display(), &error))?;
            let disk = nix::sys::statvfs::statvfs(&videos.folder)
                .map_err(|error| trouble("asking for room in", &videos.folder.display(), &error.into()))?;
            #[allow(clippy::useless_conversion, reason = "both types differ between platforms")]
            let (blocks, size) = (u64::from(disk.blocks_available()), u64::from(disk.fragment_size()));
            Ok(blocks.saturating_mul(size))
        })
        .await
    }

    async fn kept_before(&self, before: Timestamp) -> Vec<(DeviceId, RecordingId)> {
        let found = self.blocking(move |videos| Ok(videos.old(before))).await;
        found.unwrap_or_default()
    }
}

impl HostVideos {
    fn old(&self, before: Timestamp) -> Vec<(DeviceId, RecordingId)> {
        let names = |folder: &Path| -> Vec<fs::DirEntry> {
            fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_default()
        };
        let mut found = Vec::new();
        for folder in names(&self.folder) {
            let Some(device) = folder.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            for entry in names(&folder.path()) {
                let name = entry.file_name();
                let id = name.to_str().and_then(|name| {
                    let unfinished = || name.strip_prefix('.')?.strip_suffix(".part");
                    name.strip_suffix(".mp4").or_else(unfinished)?.parse().ok()
                });
                let old = entry.metadata().is_ok_and(|about| about.ctime() < before.0 / 1000);
                if let (Some(recording), true) = (id, old) {
                    found.push((device, recording));
                }
            }
        }
        found
    }
}

/// What lies there was put there by somebody on the phone.
fn planted(what: &str, error: &io::Error) -> VideoError {
    VideoError::Refused(format!("{what} is not what the recorder made: {error}"))
}

fn trouble(what: &str, path: &dyn std::fmt::Display, error: &io::Error) -> VideoError {
    VideoError::Disk(format!("{what} {path}: {error}"))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(path)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync)
}

/// The size, once it does not change any more.
fn stable_size(file: &File) -> io::Result<u64> {
    let mut size = file.metadata()?.len();
    for _ in 0..STABLE_LOOKS {
        std::thread::sleep(STABLE);
        let now = file.metadata()?.len();
        if now == size {
            break;
        }
        size = now;
    }
    Ok(size)
}

/// A second name for the file that is open; a copy where there can be none, where the file has
/// other names already, and where somebody may still write to it.
fn take_file(folder: &Folder, file: File, part: &Path, may_be_written: bool, limit: u64) -> io::Result<()> {
    let about = file.metadata()?;
    if about.nlink() == 1 && !may_be_written {
        match folder.link(VIDEO, part) {
            Ok(()) => {
                let linked = fs::symlink_metadata(part)?;
                if (linked.dev(), linked.ino()) == (about.dev(), about.ino()) {
                    // The phone's user owns it. As good as nothing changes if that cannot be.
                    let _ = own(&file);
                    return Ok(());
                }
                // Exchanged in this very moment.
                remove_file(part)?;
            }
            Err(error) if no_link(&error) => {}
            Err(error) => return Err(error),
        }
    }
    copy(file, part, limit).map(drop)
}

/// Copies the bytes that a file has now, and when it was written.
fn copy(mut file: File, part: &Path, limit: u64) -> io::Result<File> {
    let about = file.metadata()?;
    if about.len() > limit {
        return Err(too_large(about.len(), limit));
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o640).open(part)?;
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut file.take(about.len()), &mut copy)?;
    copy.set_modified(about.modified()?)?;
    Ok(copy)
}

/// Another disk, or one that knows no links.
fn no_link(error: &io::Error) -> bool {
    let known = error.raw_os_error().map(Errno::from_raw);
    matches!(known, Some(Errno::EXDEV | Errno::EPERM | Errno::EMLINK | Errno::EOPNOTSUPP | Errno::ENOENT))
}

fn own(file: &File) -> io::Result<()> {
    std::os::unix::fs::fchown(
        file,
        Some(nix::unistd::geteuid().as_raw()),
        Some(nix::unistd::getegid().as_raw()),
    )?;
    file.set_permissions(fs::Permissions::from_mode(0o640))
}

#[cfg(test)]
#[path = "video_tests.rs"]
mod tests;
