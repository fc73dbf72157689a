//! `phonefleet recording download`: a video into a file: whole and checked, or not at all.
//!
//! Bytes go into `FILE.part`, which is renamed when all of them are there and their SHA-256
//! is the one that the host took. A connection that breaks is made again, and goes on
//! behind what has come, as long as the video is still the same (`If-Range`).

use crate::client::address::path;
use crate::client::call::Call;
use crate::failure::Failure;
use crate::models::Recording;
use crate::output::page::Page;
use crate::output::progress::Progress;
use crate::output::time::bytes;
use crate::output::{Shown, note};
use crate::session::Session;
use clap::Args;
use http::header;
use ring::digest::{Context, SHA256};
use serde_json::json;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// Longest time without a single byte.
const SILENCE: Duration = Duration::from_secs(30);
/// Connections that may break, one after the other, without a byte between them.
const BREAKS: u32 = 5;

/// What to save, and where.
#[derive(Debug, Args)]
pub struct Download {
    /// Its id, or a device's name, for its newest recording
    recording: String,
    /// The file, or - for standard output [default: RECORDING.mp4]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
    /// Wait for the recording's end first
    #[arg(long)]
    wait: bool,
    /// Longest time to wait for the recording's end
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = crate::output::time::parse_duration)]
    wait_timeout: Duration,
}

/// Carries it out.
///
/// # Errors
/// Refusals, connections that cannot be made again, and files that cannot be written.
pub async fn run(download: &Download, session: &Session) -> Result<(), Failure> {
    let id = session.resolver().recording_id(&download.recording).await?;
    let value = if download.wait {
        super::recording::ended(session, &id, download.wait_timeout).await?
    } else {
        session.client.data(Call::get(path(&["recordings", &id]))).await?
    };
    let recording: Recording = session.client.read(&value)?;
    if recording.status == "CORRUPT" {
        note(&format!("recording {id} is CORRUPT: players may not read all of it, or nothing"));
    }
    let to = download.to.clone().unwrap_or_else(|| PathBuf::from(format!("{id}.mp4")));
    if to.as_os_str() == "-" {
        let mut out = std::io::stdout();
        return fetch(session, &recording, &mut Sink::Stream(&mut out)).await.map(|_| ());
    }
    if !download.force && to.symlink_metadata().is_ok() {
        return Err(Failure::Usage(format!("{} exists; replace it: --force", to.display())));
    }
    let size = save(session, &recording, &to).await?;
    let page = Page::line(format!("{}: {}", to.display(), bytes(size)));
    let sha256 = &recording.sha256;
    session
        .show(&Shown { value: json!({"recordingId": id, "file": to, "bytes": size, "sha256": sha256}), page })
}

/// Saves a video to a file, in place of what is there; returns its size.
///
/// # Errors
/// Videos that cannot be had whole, and files that cannot be written.
pub async fn save(session: &Session, recording: &Recording, to: &Path) -> Result<u64, Failure> {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let refuse =
        |error: std::io::Error| Failure::Failed(format!("{} cannot be written: {error}", part.display()));
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(&part).map_err(refuse)?;
    let fetched = fetch(session, recording, &mut Sink::File(&mut file)).await;
    let finish = |size: u64| -> Result<u64, Failure> {
        check(&mut file, recording)?;
        file.sync_all().map_err(refuse)?;
        std::fs::rename(&part, to)
            .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", to.display())))?;
        Ok(size)
    };
    let saved = fetched.and_then(finish);
    if saved.is_err() {
        // Half a video is of no use, and its name would stand in the way of the next try.
        let _ = std::fs::remove_file(&part);
    }
    saved
}

/// Where bytes go. A file can be begun again where the video has changed meanwhile.
enum Sink<'a> {
    File(&'a mut File),
    Stream(&'a mut dyn Write),
}

impl Sink<'_> {
    fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        match self {
            Self::File(file) => file
                .write_all(piece)
                .map_err(|error| Failure::Failed(format!("the file cannot be written: {error}"))),
            Self::Stream(out) => Ok(out.write_all(piece)?),
        }
    }

    fn begin_again(&mut self) -> Result<(), Failure> {
        match self {
            Self::File(file) => file
                .set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .map(|_| ())
                .map_err(|error| Failure::Failed(format!("the file cannot be written: {error}"))),
            Self::Stream(_) => Err(Failure::Failed(
                "the connection broke and the video cannot be had from there on: take it again".to_owned(),
            )),
        }
    }
}

/// Takes the whole video; returns its size.
async fn fetch(session: &Session, recording: &Recording, sink: &mut Sink<'_>) -> Result<u64, Failure> {
    let address = path(&["recordings", &recording.id, "content"]);
    let mut progress = Progress::new();
    let (mut taken, mut tag, mut breaks) = (0_u64, None::<String>, 0);
    loop {
        let mut headers = vec![(header::ACCEPT_ENCODING, "identity".to_owned())];
        if let Some(tag) = tag.clone().filter(|_| taken > 0) {
            headers.push((header::RANGE, format!("bytes={taken}-")));
            headers.push((header::IF_RANGE, tag));
        }
        let mut content = session.client.content(&address, &headers).await?;
        if taken > 0 && !content.is_rest() {
            sink.begin_again()?;
            taken = 0;
        }
        tag = content.tag().map(str::to_owned);
        let whole = content.length().map(|rest| taken + rest);
        let why = loop {
            match timeout(SILENCE, content.piece()).await {
                Ok(None) if whole.is_none_or(|whole| whole == taken) => return Ok(taken),
                Ok(None) => break "it ended early".to_owned(),
                Ok(Some(Ok(piece))) => {
                    sink.write(&piece)?;
                    taken += piece.len() as u64;
                    breaks = 0;
                    let of = whole.map(|whole| format!(" of {}", bytes(whole))).unwrap_or_default();
                    progress.live(&format!("{}{of}", bytes(taken)));
                }
                Ok(Some(Err(error))) => break error.to_string(),
                Err(_) => break format!("nothing came for {} s", SILENCE.as_secs()),
            }
        };
        breaks += 1;
        if breaks > BREAKS {
            return Err(Failure::Unreachable(format!(
                "the video broke off again and again at {}: {why}; try again",
                bytes(taken)
            )));
        }
        progress.line(&format!("the connection broke at {}: {why}; taking the rest", bytes(taken)));
    }
}

/// Compares the file with what the host knows of the video.
fn check(file: &mut File, recording: &Recording) -> Result<(), Failure> {
    let Some(expected) = &recording.sha256 else { return Ok(()) };
    let read = |error: std::io::Error| Failure::Failed(format!("the file cannot be read again: {error}"));
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    let mut digest = String::new();
    for byte in context.finish().as_ref() {
        // Writing into a String cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    if digest.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "what came is not the video that the host has (SHA-256 {digest}, expected {expected}): take it again"
    )))
}
