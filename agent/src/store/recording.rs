//! The row of a recording. One row is read and written as a whole.

use super::{Notice, Tx, unreadable, unwritable};
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::{
    DesiredRecording, EndCause, RecordingFacts, RecordingPhase, RecordingWish,
};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::{self, Connection, OptionalExtension, Row, params};

/// A process of a phone. The pid is that of the phone's own namespace; the start time, in
/// clock ticks since the machine's boot, makes it one process for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhoneProcess {
    /// Its pid in the phone.
    pub pid: u32,
    /// `/proc/PID/stat`, field 22.
    pub start_time: u64,
}

/// A signal that ends a recorder, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopSignal {
    /// Asks it to finish its file.
    Interrupt,
    /// Asks it again, by the other signal that it listens to.
    HangUp,
    /// Ends it as it is.
    Kill,
}

impl StopSignal {
    /// The name that `kill` takes, also that of the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::HangUp => "HUP",
            Self::Kill => "KILL",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Interrupt, Self::HangUp, Self::Kill].into_iter().find(|signal| signal.name() == name)
    }
}

/// The reason of a recording whose video is on its phone still.
pub const COLLECT_FAILED: &str = "COLLECT_FAILED";

/// Everything the agent knows of one recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingRow {
    /// What the controller asked for last.
    pub desired: DesiredRecording,
    /// Where it stands.
    pub phase: RecordingPhase,
    /// Its folder on the phone.
    pub folder: String,
    /// Which data of the phone the folder is in.
    pub data_epoch: u32,
    /// Written before the process is begun: without it there is none. Once the process is
    /// seen, when it began.
    pub launched_at: Option<Timestamp>,
    /// Start time of the phone's init at the launch: another one is another boot.
    pub boot_mark: Option<u64>,
    /// Its process.
    pub process: Option<PhoneProcess>,
    /// The newest signal and when it was noted, which is before it was sent.
    pub signal: Option<(StopSignal, Timestamp)>,
    /// Why it ends, as far as that is known.
    pub end_cause: Option<EndCause>,
    /// When its end was first asked for.
    pub ending_since: Option<Timestamp>,
    /// When its process was found gone.
    pub ended_at: Option<Timestamp>,
    /// Length of the video.
    pub duration_ms: Option<u64>,
    /// Size of the kept file.
    pub bytes: Option<u64>,
    /// SHA-256 of the kept file.
    pub sha256: Option<String>,
    /// Why there is no good video.
    pub reason: Option<Reason>,
    /// Since when it is over.
    pub finished_at: Option<Timestamp>,
}

impl RecordingRow {
    /// A recording that was never heard of.
    pub fn new(desired: DesiredRecording, folder: String) -> Self {
        Self {
            desired,
            phase: RecordingPhase::Starting,
            folder,
            data_epoch: 0,
            launched_at: None,
            boot_mark: None,
            process: None,
            signal: None,
            end_cause: None,
            ending_since: None,
            ended_at: None,
            duration_ms: None,
            bytes: None,
            sha256: None,
            reason: None,
            finished_at: None,
        }
    }

    /// Which recording.
    pub fn id(&self) -> RecordingId {
        self.desired.recording_id
    }

    /// Of which device.
    pub fn device(&self) -> DeviceId {
        self.desired.device_id
    }

    /// Its recorder was launched, and its file may become larger.
    pub fn may_grow(&self) -> bool {
        self.launched_at.is_some() && self.ended_at.is_none() && !self.phase.is_terminal()
    }

    /// It is not waited for any more, though its process was not seen to end: only then a
    /// recording that is not over has a reason.
    pub fn was_given_up(&self) -> bool {
        self.ended_at.is_some() && self.reason.is_some()
    }

    /// What there was of it on its phone was taken, or there was nothing.
    pub fn is_taken(&self) -> bool {
        let left = self.reason.as_ref().is_some_and(|reason| reason.code == COLLECT_FAILED);
        self.phase.is_terminal() && self.launched_at.is_some() && !left
    }

    /// The recording as the controller hears of it.
    pub fn facts(&self) -> RecordingFacts {
        RecordingFacts {
            recording_id: self.desired.recording_id,
            device_id: self.desired.device_id,
            phase: self.phase,
            started_at: self.launched_at.filter(|_| self.process.is_some() || self.ended_at.is_some()),
            ended_at: self.ended_at,
            end_cause: self.end_cause,
            duration_ms: self.duration_ms,
            bytes: self.bytes,
            sha256: self.sha256.clone(),
            reason: self.reason.clone(),
        }
    }
}

const COLUMNS: &str = "recording_id, device_id, wish, not_after, spec, phase, folder, data_epoch, \
    launched_at, boot_mark, pid, start_time, signal, signalled_at, end_cause, ending_since, ended_at, \
    duration_ms, bytes, sha256, reason_code, reason_detail, finished_at";

// Word for word the conditions of partial indexes.
const ACTIVE: &str = "phase IN ('starting', 'recording', 'stopping')";
const UNTOLD: &str = "told = 0";

fn listed(condition: &str) -> String {
    format!("SELECT {COLUMNS} FROM recording WHERE {condition} ORDER BY recording_id")
}

/// The row of one recording.
pub fn get(connection: &Connection, recording: RecordingId) -> Result<Option<RecordingRow>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM recording WHERE recording_id = ?1"))?
        .query_row([recording.to_string()], read)
        .optional()
}

/// The recording of a device that is not over.
pub fn active_of(connection: &Connection, device: DeviceId) -> Result<Option<RecordingRow>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM recording WHERE device_id = ?1 AND {ACTIVE}"))?
        .query_row([device.to_string()], read)
        .optional()
}

/// Every recording that is not over.
pub fn active(connection: &Connection) -> Result<Vec<RecordingRow>, rusqlite::Error> {
    connection.prepare_cached(&listed(ACTIVE))?.query_map([], read)?.collect()
}

/// Every recording that is not over, or whose end the controller is not known to have heard.
pub fn open(connection: &Connection) -> Result<Vec<RecordingRow>, rusqlite::Error> {
    connection.prepare_cached(&listed(UNTOLD))?.query_map([], read)?.collect()
}

/// Writes a row.
pub fn put(tx: &mut Tx<'_>, row: &RecordingRow) -> Result<(), rusqlite::Error> {
    let desired = &row.desired;
    tx.prepare_cached(&format!(
        "INSERT INTO recording({COLUMNS}, told)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
            ?21, ?22, ?23, 0)
         ON CONFLICT(recording_id) DO UPDATE SET wish = ?3, phase = ?6, data_epoch = ?8, launched_at = ?9,
            boot_mark = ?10, pid = ?11, start_time = ?12, signal = ?13, signalled_at = ?14, end_cause = ?15,
            ending_since = ?16, ended_at = ?17, duration_ms = ?18, bytes = ?19, sha256 = ?20,
            reason_code = ?21, reason_detail = ?22, finished_at = ?23"
    ))?
    .execute(params![
        desired.recording_id.to_string(),
        desired.device_id.to_string(),
        desired.wish.name(),
        desired.not_after.0,
        serde_json::to_string(&desired.spec).map_err(unwritable)?,
        row.phase.name(),
        row.folder,
        row.data_epoch,
        row.launched_at.map(|at| at.0),
        row.boot_mark.map(|mark| mark as i64),
        row.process.map(|process| process.pid),
        row.process.map(|process| process.start_time as i64),
        row.signal.map(|(signal, _)| signal.name()),
        row.signal.map(|(_, at)| at.0),
        row.end_cause.map(EndCause::name),
        row.ending_since.map(|at| at.0),
        row.ended_at.map(|at| at.0),
        row.duration_ms.map(|value| value as i64),
        row.bytes.map(|value| value as i64),
        row.sha256,
        row.reason.as_ref().map(|reason| &reason.code),
        row.reason.as_ref().map(|reason| &reason.detail),
        row.finished_at.map(|at| at.0),
    ])?;
    tx.announce(Notice::Recording(row.id()));
    Ok(())
}

/// Remembers under which outbox number the newest event about the end went.
pub fn set_event_number(tx: &mut Tx<'_>, recording: RecordingId, number: u64) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("UPDATE recording SET event_number = ?2, told = 0 WHERE recording_id = ?1")?
        .execute(params![recording.to_string(), number as i64])
        .map(|_| ())
}

/// After a fork of the own log: ends that nobody is known to have heard wait for the
/// snapshot's last item instead.
pub fn renumber_untold(tx: &mut Tx<'_>, number: u64) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("UPDATE recording SET event_number = ?1 WHERE told = 0 AND finished_at IS NOT NULL")?
        .execute([number as i64])
        .map(|_| ())
}

/// The controller has every event up to this one.
pub fn told(tx: &mut Tx<'_>, through: u64) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "UPDATE recording SET told = 1
         WHERE told = 0 AND finished_at IS NOT NULL AND event_number <= ?1",
    )?
    .execute([through as i64])
    .map(|_| ())
}

/// Some recordings that are over since before `before` and that the controller knows to be,
/// the oldest first.
pub fn expired(
    connection: &Connection,
    before: Timestamp,
    most: u32,
) -> Result<Vec<(DeviceId, RecordingId)>, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT device_id, recording_id FROM recording
             WHERE finished_at IS NOT NULL AND finished_at < ?1 AND told = 1 ORDER BY finished_at LIMIT ?2",
        )?
        .query_map(params![before.0, most], ids)?
        .collect()
}

/// Some recordings that are over and were deleted by order.
pub fn deleted(connection: &Connection, most: u32) -> Result<Vec<(DeviceId, RecordingId)>, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT device_id, recording_id FROM recording
             WHERE wish = 'deleted' AND finished_at IS NOT NULL ORDER BY recording_id LIMIT ?1",
        )?
        .query_map([most], ids)?
        .collect()
}

/// Forgets a recording that is over.
pub fn forget(tx: &mut Tx<'_>, recording: RecordingId) -> Result<(), rusqlite::Error> {
    tx.prepare_cached("DELETE FROM recording WHERE recording_id = ?1 AND finished_at IS NOT NULL")?
        .execute([recording.to_string()])
        .map(|_| ())
}

fn ids(row: &Row<'_>) -> Result<(DeviceId, RecordingId), rusqlite::Error> {
    let (device, recording): (String, String) = (row.get(0)?, row.get(1)?);
    Ok((
        device.parse().map_err(|error| unreadable(0, error))?,
        recording.parse().map_err(|error| unreadable(1, error))?,
    ))
}

fn read(row: &Row<'_>) -> Result<RecordingRow, rusqlite::Error> {
    let text = |column: usize| row.get::<_, String>(column);
    let maybe = |column: usize| row.get::<_, Option<String>>(column);
    let moment = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp));
    let number = |column: usize| {
        Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(|value| value as u64))
    };
    let pid: Option<u32> = row.get(10)?;
    let signal = maybe(12)?
        .map(|name| StopSignal::from_name(&name).ok_or_else(|| unreadable(12, "unknown signal")))
        .transpose()?;
    let end_cause = maybe(14)?
        .map(|name| EndCause::from_name(&name).ok_or_else(|| unreadable(14, "unknown cause")))
        .transpose()?;
    Ok(RecordingRow {
        desired: DesiredRecording {
            recording_id: text(0)?.parse().map_err(|error| unreadable(0, error))?,
            device_id: text(1)?.parse().map_err(|error| unreadable(1, error))?,
            wish: RecordingWish::from_name(&text(2)?).ok_or_else(|| unreadable(2, "unknown wish"))?,
            not_after: Timestamp(row.get(3)?),
            spec: serde_json::from_str(&text(4)?).map_err(|error| unreadable(4, error))?,
        },
        phase: RecordingPhase::from_name(&text(5)?).ok_or_else(|| unreadable(5, "unknown phase"))?,
        folder: text(6)?,
        data_epoch: row.get(7)?,
        launched_at: moment(8)?,
        boot_mark: number(9)?,
        process: pid.zip(number(11)?).map(|(pid, start_time)| PhoneProcess { pid, start_time }),
        signal: signal.zip(moment(13)?),
        end_cause,
        ending_since: moment(15)?,
        ended_at: moment(16)?,
        duration_ms: number(17)?,
        bytes: number(18)?,
        sha256: maybe(19)?,
        reason: maybe(20)?.map(|code| Reason { code, detail: maybe(21).ok().flatten().unwrap_or_default() }),
        finished_at: moment(22)?,
    })
}

#[cfg(test)]
mod tests;
