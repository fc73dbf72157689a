//! `phonefleet recording`: videos of phones.

use super::Once;
use super::recording_download::{self as download, Download};
use crate::client::address::{path, with_query};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::follow::{self, Look, Wait, Watch};
use crate::models::Recording;
use crate::output::Shown;
use crate::output::page::{Cell, Page, Style};
use crate::output::progress::Progress;
use crate::output::time::{age, bytes, span};
use crate::session::Session;
use clap::{Args, Subcommand};
use phonefleet_protocol::time::Timestamp;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What to do with recordings.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List recordings, the oldest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show everything about a recording
    Get(Get),
    /// Record a running phone, until a stop or the time limit
    Start(Start),
    /// End recordings; what they have is made whole
    Stop(Stop),
    /// Save a recording's video to a file
    Download(Download),
    /// Delete videos of ended recordings; what they took of the quota is given back
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

/// Which recordings to list.
#[derive(Debug, Args)]
pub struct List {
    /// Of all users, whatever the context says
    #[arg(long, short)]
    all_users: bool,
    /// Of this device only: its name, USER/NAME, or id
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// With this status only, such as RECORDING or FINAL
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Those only that have not ended
    #[arg(long)]
    active: bool,
    #[command(flatten)]
    watch: Watch,
}

/// Which recording to show.
#[derive(Debug, Args)]
pub struct Get {
    /// Its id, or a device's name, for its active or newest recording
    recording: String,
    #[command(flatten)]
    watch: Watch,
}

/// What to record.
#[derive(Debug, Args)]
pub struct Start {
    /// The phone: its name, USER/NAME, or id
    device: String,
    /// Longest time, up to 180s [default: the controller's]
    #[arg(long, value_name = "DURATION", value_parser = crate::output::time::parse_duration)]
    duration: Option<Duration>,
    /// Bits a second [default: the controller's]
    #[arg(long, value_name = "BITS")]
    bit_rate: Option<u64>,
    /// Size of the video, such as 720x1280 [default: the phone's screen]
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    size: Option<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    once: Once,
}

/// Which recordings to end.
#[derive(Debug, Args)]
pub struct Stop {
    /// Their ids, or devices' names, for their active recordings
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    once: Once,
}

/// Which videos to delete.
#[derive(Debug, Args)]
pub struct Delete {
    /// The ids of their recordings; a device's name is not enough
    #[arg(required = true, value_name = "RECORDING_ID")]
    recordings: Vec<String>,
}

/// Carries it out.
///
/// # Errors
/// Refusals, and recordings that do not end as videos.
pub async fn run(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::List(list) => run_list(&list, session).await,
        Command::Get(get) => {
            let id = session.resolver().recording_id(&get.recording).await?;
            follow::watch(session, &get.watch, async || {
                let value = session.client.data(Call::get(path(&["recordings", &id]))).await?;
                shown(session, value)
            })
            .await
        }
        Command::Start(start) => run_start(&start, session).await,
        Command::Stop(stop) => run_stop(&stop, session).await,
        Command::Download(download) => download::run(&download, session).await,
        Command::Delete(delete) => run_delete(&delete, session).await,
    }
}

async fn run_list(list: &List, session: &Session) -> Result<(), Failure> {
    let device = match &list.device {
        Some(device) => Some(session.resolver().device_id(device).await?),
        None => None,
    };
    let status = list.status.as_ref().map(|status| status.to_ascii_uppercase());
    let parameters = [
        ("userId", session.user().filter(|_| !list.all_users && device.is_none())),
        ("deviceId", device.as_deref()),
        ("status", status.as_deref()),
        ("active", list.active.then_some("true")),
    ];
    follow::watch(session, &list.watch, async || {
        let items = session.client.list("/recordings", &parameters).await?;
        let recordings: Vec<Recording> =
            items.iter().map(|item| session.client.read(item)).collect::<Result<_, _>>()?;
        let mut page = table(&recordings, session.now());
        // Numbers of the whole fleet, which every page of the list carries.
        let first =
            session.client.data(Call::get(with_query("/recordings", &[("limit", Some("1"))]))).await?;
        page.append(summary(&first["summary"]));
        Ok(Shown { value: Value::Array(items), page })
    })
    .await
}

fn summary(summary: &Value) -> Page {
    let Some(active) = summary["active"].as_u64() else { return Page::default() };
    let orphans = summary["orphans"].as_u64().unwrap_or(0);
    let mean = summary["meanDurationSeconds"]
        .as_f64()
        .map_or_else(String::new, |mean| format!(", {mean:.1} s long on average"));
    let mut page = Page::default();
    page.add(Cell::new(format!("in the fleet: {active} active, {orphans} orphans{mean}"), Style::Faint));
    page
}

fn shown(session: &Session, value: Value) -> Result<Shown, Failure> {
    let recording: Recording = session.client.read(&value)?;
    Ok(Shown { page: fields(&recording, session.now()), value })
}

async fn run_start(start: &Start, session: &Session) -> Result<(), Failure> {
    let device = session.resolver().device_id(&start.device).await?;
    let mut body = Map::new();
    if let Some(duration) = start.duration {
        // The API counts whole seconds; a part of one is recorded too.
        body.insert("maxDurationSeconds".to_owned(), json!(duration.as_millis().div_ceil(1000) as u64));
    }
    if let Some(rate) = start.bit_rate {
        body.insert("bitRate".to_owned(), json!(rate));
    }
    if let Some(size) = &start.size {
        body.insert("size".to_owned(), json!(size));
    }
    let body = (!body.is_empty()).then_some(Value::Object(body));
    let started = session
        .client
        .data(Call::post(path(&["devices", &device, "recordings"]), body, start.once.key()))
        .await?;
    let id = started["recordingId"].as_str().unwrap_or_default().to_owned();
    if start.wait.wait {
        let value = ended(session, &id, start.wait.wait_timeout).await?;
        return session.show(&shown(session, value)?);
    }
    let mut page = Page::line(format!("recording {id} begins"));
    page.add_line(format!("end it: phonefleet recording stop {id}"));
    session.show(&Shown { value: started, page })
}

async fn run_stop(stop: &Stop, session: &Session) -> Result<(), Failure> {
    let key = stop.once.key();
    let resolver = session.resolver();
    let end = async |name: &str| {
        let id = resolver.recording_id(name).await?;
        let call = Call::post(path(&["recordings", &id, "stop"]), None, key.clone());
        let answer = session.client.data(call).await?;
        let value = if stop.wait.wait { ended(session, &id, stop.wait.wait_timeout).await? } else { answer };
        Ok((id, value))
    };
    let (done, result) = session.each(&stop.recordings, end).await;
    show_each(session, stop.recordings.len(), done, |recording| format!("is {}", recording.status), result)
}

async fn run_delete(delete: &Delete, session: &Session) -> Result<(), Failure> {
    let one = async |id: &str| {
        let answer = session.client.data(Call::delete(path(&["recordings", id]))).await?;
        Ok((id.to_owned(), answer))
    };
    let (done, result) = session.each(&delete.recordings, one).await;
    show_each(session, delete.recordings.len(), done, |_| "has no video any more".to_owned(), result)
}

/// Shows what was done: of one recording its own answer, of several a list; then `result`.
fn show_each(
    session: &Session,
    asked: usize,
    done: Vec<(String, Value)>,
    says: impl Fn(&Recording) -> String,
    result: Result<(), Failure>,
) -> Result<(), Failure> {
    let mut page = Page::default();
    let mut values = Vec::new();
    for (id, value) in done {
        let inner = value.get("recording").unwrap_or(&value);
        let recording: Recording = session.client.read(inner)?;
        page.add_line(format!("recording {id} {}", says(&recording)));
        values.push(value);
    }
    if let Some(last) = values.pop() {
        let value = if asked == 1 {
            last
        } else {
            values.push(last);
            Value::Array(values)
        };
        // What went wrong goes before nobody reading of it.
        return result.and(session.show(&Shown { value, page }));
    }
    result
}

/// Waits until a recording has ended.
///
/// # Errors
/// Recordings that are no whole video then, and the end of the time.
pub async fn ended(session: &Session, id: &str, limit: Duration) -> Result<Value, Failure> {
    let mut progress = Progress::new();
    let mut last = String::new();
    let what = format!("it goes on: phonefleet recording get {id} --watch");
    follow::until(limit, &mut progress, &what, async |progress| {
        let value = session.client.data(Call::get(path(&["recordings", id]))).await?;
        let recording: Recording = session.client.read(&value)?;
        if recording.status != last {
            progress.line(&format!("recording {id} is {}", recording.status));
            recording.status.clone_into(&mut last);
        }
        match recording.status.as_str() {
            "FINAL" => Ok(Look::Ended(value)),
            "CORRUPT" | "FAILED" => {
                let why = recording.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                Err(Failure::Failed(format!("recording {id} is {}{why}", recording.status)))
            }
            _ => {
                let size = recording.bytes.map(bytes).unwrap_or_default();
                Ok(Look::GoesOn(format!("{} {size}", recording.status)))
            }
        }
    })
    .await
}

fn length(recording: &Recording) -> Option<String> {
    recording.duration_ms.map(|millis| span(Duration::from_millis(millis)))
}

fn table(recordings: &[Recording], now: Timestamp) -> Page {
    let rows = recordings
        .iter()
        .map(|recording| {
            vec![
                Cell::from(recording.id.as_str()),
                Cell::status(&recording.status),
                recording.host_id.as_str().into(),
                Cell::or_dash(recording.started_at.map(|at| age(now, at))),
                Cell::or_dash(length(recording)),
                Cell::or_dash(recording.bytes.map(bytes)),
                Cell::or_dash(recording.end_cause.as_ref()),
                Cell::new(&recording.device_id, Style::Faint),
            ]
        })
        .collect();
    let head = ["ID", "STATUS", "HOST", "AGE", "LENGTH", "SIZE", "ENDED BY", "DEVICE"];
    Page::table(&head, rows, "no recordings; make one: phonefleet recording start DEVICE")
}

fn fields(recording: &Recording, now: Timestamp) -> Page {
    let when = |at: Option<Timestamp>| Cell::or_dash(at.map(|at| format!("{at} ({} ago)", age(now, at))));
    let mut page = Page::default();
    page.add_fields(vec![
        ("id", Cell::from(recording.id.as_str())),
        ("status", Cell::status(&recording.status)),
        ("reason", Cell::or_dash(recording.reason.as_ref())),
        ("device", recording.device_id.as_str().into()),
        ("user", recording.user_id.as_str().into()),
        ("host", recording.host_id.as_str().into()),
        ("began", when(recording.started_at)),
        ("ended", when(recording.ended_at)),
        ("ended by", Cell::or_dash(recording.end_cause.as_ref())),
        ("length", Cell::or_dash(length(recording))),
        ("size", Cell::or_dash(recording.bytes.map(bytes))),
        ("sha256", Cell::or_dash(recording.sha256.as_ref())),
    ]);
    if recording.deleted {
        page.add_line("its video was deleted");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let recordings: Vec<Recording> = serde_json::from_value(json!([
            {"id": "0199", "deviceId": "0198", "status": "FINAL", "hostId": "host-1", "durationMs": 12_500,
             "startedAt": "2025-11-21T11:00:00Z", "bytes": 1_572_864, "endCause": "STOPPED"},
            {"id": "019a", "deviceId": "0198", "status": "STARTING", "hostId": "host-1"},
        ]))
        .unwrap();
        assert_eq!(
            table(&recordings, Timestamp(1_763_722_860_000)).render(false),
            "ID    STATUS    HOST    AGE  LENGTH  SIZE     ENDED BY  DEVICE\n\
             0199  FINAL     host-1  60s  12s     1.5 MiB  STOPPED   0198\n\
             019a  STARTING  host-1  -    -       -        -         0198\n"
        );
        let numbers = summary(&json!({"active": 1, "orphans": 0, "meanDurationSeconds": 12.34}));
        assert_eq!(numbers.render(false), "in the fleet: 1 active, 0 orphans, 12.3 s long on average\n");
        assert_eq!(summary(&Value::Null).render(false), "");
    }
}
