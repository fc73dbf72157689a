//! Files of phones, honest and planted, on a real disk.

use super::super::inspection::hexadecimal;
use super::super::mp4::{Flaw, Movie};
use super::*;
use crate::adb::{AdbError, ShellOutput};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::time::UNIX_EPOCH;

/// Of the phone that answers.
const SERIAL: &str = "018f3b2a000070008000000000000002";

/// A phone whose files are these.
struct Remote(Vec<(&'static str, Vec<u8>)>);

#[async_trait]
impl Adb for Remote {
    async fn connect(&self, _: SocketAddr, _: Duration) -> Result<(), AdbError> {
        Ok(())
    }

    async fn disconnect(&self, _: SocketAddr) -> Result<(), AdbError> {
        Ok(())
    }

    async fn shell(&self, _: SocketAddr, script: &str, _: Duration) -> Result<ShellOutput, AdbError> {
        let own = script.contains(&format!(" = {SERIAL} "));
        let stdout = if own { "phonefleet-end\n" } else { "phonefleet-stranger\n" };
        Ok(ShellOutput { stdout: stdout.to_owned(), ..ShellOutput::default() })
    }

    async fn pull(
        &self,
        _: SocketAddr,
        path: &str,
        mut file: tokio::fs::File,
        limit: u64,
        _: Duration,
    ) -> Result<Option<u64>, AdbError> {
        use tokio::io::AsyncWriteExt;
        let Some((_, bytes)) = self.0.iter().find(|(name, _)| path.ends_with(name)) else { return Ok(None) };
        let bytes = &bytes[..bytes.len().min(limit as usize)];
        file.write_all(bytes).await.unwrap();
        file.flush().await.unwrap();
        Ok(Some(bytes.len() as u64))
    }
}

struct Scene {
    state: tempfile::TempDir,
    videos: HostVideos,
    source: Source,
}

const LIMIT: u64 = 10_000;

impl Scene {
    fn with(files: Vec<(&'static str, Vec<u8>)>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let videos = HostVideos::new(state.path(), Arc::new(Remote(files)));
        let recording: RecordingId = "018f3b2a-0000-7000-8000-000000000001".parse().unwrap();
        let device: DeviceId = "018f3b2a-0000-7000-8000-000000000002".parse().unwrap();
        let folder = format!("{PHONE_FOLDER}/{recording}");
        Self {
            state,
            videos,
            source: Source { recording, device, data_epoch: 3, folder, phone: None, may_be_written: false },
        }
    }

    /// A scene with a phone's folder on this host.
    fn here() -> Self {
        let scene = Self::with(Vec::new());
        fs::create_dir_all(scene.folder()).unwrap();
        scene
    }

    fn folder(&self) -> PathBuf {
        let data = self.state.path().join("phones").join(self.source.device.to_string()).join("data-3");
        data.join("local/tmp/phonefleet").join(self.source.recording.to_string())
    }

    async fn collect(&self) -> Result<Collected, VideoError> {
        self.videos.collect(&self.source, LIMIT).await
    }

    fn kept(&self) -> PathBuf {
        self.videos.path(self.source.device, self.source.recording)
    }
}

fn whole() -> Vec<u8> {
    let mut header = vec![0; 100];
    header[12..16].copy_from_slice(&1000_u32.to_be_bytes());
    header[16..20].copy_from_slice(&2500_u32.to_be_bytes());
    let boxed = |kind: &[u8; 4], body: &[u8]| {
        [&u32::try_from(body.len() + 8).unwrap().to_be_bytes()[..], kind, body].concat()
    };
    [boxed(b"ftyp", b"isom"), boxed(b"mdat", &[1; 50]), boxed(b"moov", &boxed(b"mvhd", &header))].concat()
}

#[tokio::test]
async fn a_video_is_linked_checked_hashed_and_again_the_same() {
    let scene = Scene::here();
    fs::write(scene.folder().join(VIDEO), whole()).unwrap();
    fs::write(scene.folder().join(WORDS), "fine\n").unwrap();
    let inode = fs::metadata(scene.folder().join(VIDEO)).unwrap().ino();
    let first = scene.collect().await.unwrap();
    let video = first.video.clone().unwrap();
    assert_eq!((video.bytes, video.movie.clone()), (whole().len() as u64, Ok(Movie { duration_ms: 2500 })));
    assert_eq!(video.sha256, sha256(&whole()));
    assert_eq!(first.words, "fine");
    let written = UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 - video.written_at.unwrap().0;
    assert!((-1000..10_000).contains(&written), "{written} ms ago");
    assert_eq!(fs::metadata(scene.kept()).unwrap().ino(), inode, "a byte was copied");
    // Killed before it was noted: everything again, also after it was cleared.
    let again = scene.collect().await.unwrap();
    assert_eq!(again.video, first.video);
    scene.videos.clear(&scene.source).await;
    assert!(!scene.folder().exists());
    assert_eq!(scene.collect().await.unwrap().video, first.video);
    scene.videos.delete(scene.source.device, scene.source.recording).await.unwrap();
    scene.videos.delete(scene.source.device, scene.source.recording).await.unwrap();
    assert_eq!(fs::read_dir(scene.videos.folder()).unwrap().count(), 0);
    assert_eq!(scene.collect().await.unwrap().video, None);
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

#[tokio::test]
async fn nothing_is_nothing_and_a_torn_file_is_kept() {
    let scene = Scene::here();
    assert_eq!(scene.collect().await.unwrap(), Collected { video: None, words: String::new() });
    fs::write(scene.folder().join(VIDEO), "").unwrap();
    fs::write(scene.folder().join(WORDS), "ERROR: unable to create\n").unwrap();
    assert_eq!(scene.collect().await.unwrap().words, "ERROR: unable to create");
    fs::write(scene.folder().join(VIDEO), &whole()[..60]).unwrap();
    let video = scene.collect().await.unwrap().video.unwrap();
    assert_eq!((video.bytes, video.movie), (60, Err(Flaw::Truncated)));
    assert!(scene.kept().exists());
}

#[tokio::test]
async fn what_a_phone_planted_is_not_taken() {
    let scene = Scene::here();
    let secret = scene.state.path().join("agent.db");
    fs::write(&secret, whole()).unwrap();
    let file = scene.folder().join(VIDEO);
    symlink(&secret, &file).unwrap();
    assert!(matches!(scene.collect().await, Err(VideoError::Refused(_))));
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(scene.collect().await, Err(VideoError::Refused(_))));
    fs::remove_file(&file).unwrap();
    // A sparse file of a terabyte costs nothing there, and would cost hours here.
    File::create(&file).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(scene.collect().await, Err(VideoError::Refused(_))));
    // A file with another name on the phone could be changed there: it is copied.
    fs::write(&file, whole()).unwrap();
    fs::hard_link(&file, scene.folder().join("other")).unwrap();
    assert!(scene.collect().await.unwrap().video.is_some());
    assert_eq!(fs::metadata(scene.kept()).unwrap().nlink(), 1);
    scene.videos.clear(&scene.source).await;
    assert_eq!(fs::read(&secret).unwrap(), whole());
}

#[test]
fn a_name_made_on_the_phone_after_the_look_does_not_lead_to_the_video() {
    let scene = Scene::here();
    let (file, other) = (scene.folder().join(VIDEO), scene.folder().join("other"));
    fs::write(&file, whole()).unwrap();
    scene.videos.make_room(&scene.source).unwrap();
    let (taken, _) = scene.videos.take(&scene.source, LIMIT).unwrap();
    fs::hard_link(&file, &other).unwrap();
    let video = scene.videos.keep(&scene.source, taken, LIMIT).unwrap();
    fs::write(&other, "changed").unwrap();
    assert_eq!(fs::read(scene.kept()).unwrap(), whole());
    assert_eq!(video.as_ref().unwrap().sha256, sha256(&whole()));
    // Killed before it was noted: it is as it was kept.
    let (taken, _) = scene.videos.take(&scene.source, LIMIT).unwrap();
    assert_eq!(scene.videos.keep(&scene.source, taken, LIMIT).unwrap(), video);
}

/// The size was looked at before; whoever has the file open on the phone makes it larger then.
#[test]
fn a_file_that_grows_while_it_is_taken_is_refused_and_takes_no_room() {
    let scene = Scene::here();
    let file = scene.folder().join(VIDEO);
    for second_name in [false, true] {
        fs::write(&file, whole()).unwrap();
        let open = OpenOptions::new().write(true).open(&file).unwrap();
        scene.videos.make_room(&scene.source).unwrap();
        let (taken, _) = scene.videos.take(&scene.source, LIMIT).unwrap();
        if second_name {
            fs::hard_link(&file, scene.folder().join("other")).unwrap();
        }
        open.set_len(8 << 40).unwrap();
        let refused = scene.videos.keep(&scene.source, taken, LIMIT);
        assert!(matches!(refused, Err(VideoError::Refused(_))), "{refused:?}");
        assert!(
            !scene.kept().exists() && fs::read_dir(scene.kept().parent().unwrap()).unwrap().next().is_none()
        );
    }
}

#[tokio::test]
async fn without_the_phones_data_on_this_host_adb_fetches_it() {
    let mut scene = Scene::with(vec![(VIDEO, whole()), (WORDS, b"words".to_vec())]);
    assert!(matches!(scene.collect().await, Err(VideoError::Trouble(_))));
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    scene.source.phone = Some(Phone { device: scene.source.device, address });
    let collected = scene.collect().await.unwrap();
    assert_eq!(collected.words, "words");
    assert_eq!(collected.video.unwrap().movie, Ok(Movie { duration_ms: 2500 }));
    // Another phone at the port has no such file; that says nothing about this one's.
    let mut other = Scene::with(Vec::new());
    let device: DeviceId = "018f3b2a-0000-7000-8000-0000000000ff".parse().unwrap();
    other.source.phone = Some(Phone { device, address });
    assert!(matches!(other.collect().await, Err(VideoError::Trouble(_))));
    let mut large = Scene::with(vec![(VIDEO, vec![1; LIMIT as usize + 1])]);
    large.source.phone = scene.source.phone;
    assert!(matches!(large.collect().await, Err(VideoError::Refused(_))));
}

#[test]
fn the_folder_says_whose_it_is() {
    let scene = Scene::here();
    let host: HostId = "h1".parse().unwrap();
    scene.videos.prepare(&host).unwrap();
    scene.videos.prepare(&host).unwrap();
    assert_eq!(fs::read_to_string(scene.videos.folder().join(HOST_FILE)).unwrap(), "h1\n");
}

#[tokio::test]
async fn what_may_still_be_written_is_copied() {
    let mut scene = Scene::here();
    scene.source.may_be_written = true;
    let file = scene.folder().join(VIDEO);
    fs::write(&file, &whole()[..60]).unwrap();
    let video = scene.collect().await.unwrap().video.unwrap();
    // Its recorder goes on.
    fs::write(&file, whole()).unwrap();
    assert_eq!((video.bytes, video.sha256), (60, sha256(&whole()[..60])));
    assert_eq!(fs::read(scene.kept()).unwrap(), &whole()[..60]);
}

#[tokio::test]
async fn what_an_unfinished_try_left_is_found_and_deleted() {
    let scene = Scene::here();
    let part = scene.videos.part(scene.source.device, scene.source.recording);
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, "half").unwrap();
    let later = Timestamp(i64::MAX);
    let expected = [(scene.source.device, scene.source.recording)];
    assert_eq!(scene.videos.kept_before(later).await, expected);
    scene.videos.delete(scene.source.device, scene.source.recording).await.unwrap();
    assert!(!part.exists());
}
