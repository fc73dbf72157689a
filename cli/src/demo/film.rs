//! Pictures of a phone: a screenshot by `adb`, and a video by the controller's API.

use super::child::Child;
use super::house::{House, Part, text};
use super::phones::Phone;
use super::surroundings::needed;
use super::voice::Voice;
use crate::client::address::path;
use crate::client::call::{Call, Key};
use crate::command::recording_download::save;
use crate::failure::Failure;
use crate::models::Recording;
use crate::output::time::bytes;
use serde_json::json;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Where pictures go, below the current folder.
const OUTPUT: &str = "demo-output";
/// How long one call of adb may take.
const ADB: Duration = Duration::from_secs(20);
/// How long a recording goes on if nobody ends it, seconds.
const LONGEST: u64 = 60;
/// How every PNG file begins.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Where pictures go: below the current folder, or with everything else.
pub fn output_folder(house: &House, voice: &mut Voice) -> PathBuf {
    let here = std::env::current_dir().map(|here| here.join(OUTPUT));
    if let Ok(folder) = here
        && std::fs::create_dir_all(&folder).is_ok()
        && tempfile::tempfile_in(&folder).is_ok()
    {
        return folder;
    }
    voice.line(&format!(
        "  nothing can be written here: pictures are in {}, and go with it unless --keep-dir is given",
        house.folder().display()
    ));
    house.folder().to_owned()
}

/// Writes a file whole, in place of what is there: another demo may save its pictures here.
fn put(file: &Path, content: &mut impl io::Read) -> Result<(), Failure> {
    let mut write = || -> io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let permissions = std::fs::Permissions::from_mode(0o644);
        let mut draft = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
        io::copy(content, &mut draft)?;
        draft.persist(file)?;
        Ok(())
    };
    write().map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", file.display())))
}

/// Saves what is on a phone's screen, with the adb of a user.
///
/// # Errors
/// An adb that is missing or does not reach the phone.
pub async fn screenshot(
    house: &mut House,
    voice: &mut Voice,
    phone: &Phone,
    folder: &Path,
) -> Result<(), Failure> {
    let adb = needed("adb", "adb")?;
    let place = house.folder().to_owned();
    let socket = format!("localfilesystem:{}", place.join("adb.sock").display());
    // A server of its own, on a unix socket, that looks for no other devices.
    let variables: [(&str, OsString); 5] = [
        ("ADB_SERVER_SOCKET", socket.clone().into()),
        ("ADB_EMU", "0".into()),
        ("ADB_USB", "0".into()),
        ("ADB_MDNS", "0".into()),
        ("HOME", place.clone().into()),
    ];
    let command = [adb.clone().into(), "-L".into(), socket.into(), "nodaemon".into(), "server".into()];
    house.add(Part::Adb, Child::start(Part::Adb.name(), &command, &variables, &place)?);
    let run = async |arguments: &[&str]| {
        let run = Command::new(&adb)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .output();
        let output =
            timeout(ADB, run).await.map_err(|_| Failure::TimedOut("adb does not answer".to_owned()))?;
        output.map_err(|error| Failure::Failed(format!("adb cannot be started: {error}")))
    };
    let open = place.join("adb.sock");
    house.until("adb is there", voice, async || Ok(open.exists().then_some(()))).await?;
    house
        .until("adb is connected", voice, async || {
            let told = run(&["connect", &phone.address]).await?;
            Ok(String::from_utf8_lossy(&told.stdout).contains("connected to").then_some(()))
        })
        .await?;
    let picture = run(&["-s", &phone.address, "exec-out", "screencap", "-p"]).await?;
    if !picture.stdout.starts_with(PNG) {
        let why = String::from_utf8_lossy(&picture.stderr).trim().to_owned();
        return Err(Failure::Failed(format!("{} gave no screenshot: {why}", phone.name)));
    }
    let file = folder.join(format!("{}.png", phone.name));
    put(&file, &mut picture.stdout.as_slice())?;
    let size = bytes(picture.stdout.len() as u64);
    voice.line(&format!(
        "  screenshot: {} ({size}, by adb -s {} exec-out screencap -p)",
        file.display(),
        phone.address
    ));
    Ok(())
}

/// Begins to record a phone; returns the recording's id once it runs.
///
/// # Errors
/// Refusals, and recordings that do not begin.
pub async fn begin(house: &mut House, voice: &mut Voice, phone: &Phone) -> Result<String, Failure> {
    let client = house.session()?.client.clone();
    let body = json!({ "maxDurationSeconds": LONGEST });
    let call = Call::post(path(&["devices", &phone.id, "recordings"]), Some(body), Key::given_or_new(None));
    let id = text(&client.data(call).await?, "recordingId").to_owned();
    house
        .until("the recording runs", voice, async || {
            let value = client.data(Call::get(path(&["recordings", &id]))).await?;
            let recording: Recording = client.read(&value)?;
            if recording.has_ended() {
                return Err(spoilt(&recording));
            }
            Ok((recording.status == "RECORDING").then_some(()))
        })
        .await?;
    voice.line(&format!("  {} is recorded (recording {id})", phone.name));
    Ok(id)
}

/// Ends the recording and saves its video, which must be as long as it ran.
///
/// # Errors
/// Videos that are not whole.
pub async fn finish(
    house: &mut House,
    voice: &mut Voice,
    phone: &Phone,
    id: &str,
    away: Duration,
    folder: &Path,
) -> Result<(), Failure> {
    let session = house.session()?.clone();
    let stop = Call::post(path(&["recordings", id, "stop"]), None, Key::given_or_new(None));
    session.client.data(stop).await?;
    let recording = house
        .until("the video is whole", voice, async || {
            let value = session.client.data(Call::get(path(&["recordings", id]))).await?;
            let recording: Recording = session.client.read(&value)?;
            match recording.status.as_str() {
                "FINAL" => Ok(Some(recording)),
                _ if recording.has_ended() => Err(spoilt(&recording)),
                _ => Ok(None),
            }
        })
        .await?;
    let file = folder.join(format!("{}.mp4", phone.name));
    let fetched = house.folder().join("video.mp4");
    let size = save(&session, &recording, &fetched).await?;
    let mut video = std::fs::File::open(&fetched)
        .map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", fetched.display())))?;
    put(&file, &mut video)?;
    let length = Duration::from_millis(recording.duration_ms.unwrap_or_default());
    let (seconds, without) = (length.as_secs_f64(), away.as_secs_f64());
    if length < away {
        return Err(Failure::Failed(format!(
            "the video is {seconds:.1} s long, and the agent alone was away for {without:.1} s: some of it is lost"
        )));
    }
    voice.line(&format!(
        "  video: {} ({}, {seconds:.1} s, of which {without:.1} s without an agent; SHA-256 as on the host)",
        file.display(),
        bytes(size),
    ));
    Ok(())
}

fn spoilt(recording: &Recording) -> Failure {
    let why = recording.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Failure::Failed(format!("recording {} is {}{why}", recording.id, recording.status))
}
