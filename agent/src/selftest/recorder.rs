//! What `screenrecord` does: on signals, at its limits, to its files. Launched, watched and
//! signalled by the recorder of real recordings.

use super::Options;
use super::report::Report;
use super::subject::Subject;
use crate::adb::Adb;
use crate::recording::confined::Folder;
use crate::recording::device::AdbRecorder;
use crate::recording::mp4::{Flaw, Movie};
use crate::recording::{PHONE_FOLDER, Phone, Place, Recorded, Recorder, inspection};
use crate::store::recording::{PhoneProcess, StopSignal};
use phonefleet_protocol::id::{IdSource, RecordingId, SystemIds};
use phonefleet_protocol::recording::RecordingSpec;
use phonefleet_protocol::time::{Clock, SystemClock};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// As long as each recording runs before it is ended.
const RECORDED: Duration = Duration::from_millis(1500);
/// From a signal to the end of the process.
const ENDING: Duration = Duration::from_secs(10);
/// How many seconds the short recording has.
const SHORT: u64 = 2;
/// The longest that old ones take, and the default of all.
const LONGEST: u64 = 180;

/// What became of a recording.
struct Outcome {
    ended: bool,
    video: Result<Movie, String>,
    truncated: bool,
}

impl Outcome {
    fn seen(&self) -> String {
        let process = if self.ended { "ended" } else { "goes on" };
        match &self.video {
            Ok(movie) => format!("{process}; a whole video of {} ms", movie.duration_ms),
            Err(why) => format!("{process}; {why}"),
        }
    }
}

pub(super) async fn check(subject: &Subject, options: &Options, report: &mut Report<'_>) {
    let bench = Bench::new(subject);
    if !bench.begins(report).await {
        return;
    }
    bench.signals(report).await;
    bench.short(report).await;
    bench.longer(report).await;
    bench.two(report).await;
    if options.long {
        bench.longest(report).await;
    }
}

struct Bench<'a> {
    subject: &'a Subject,
    recorder: AdbRecorder,
    phone: Phone,
}

impl<'a> Bench<'a> {
    fn new(subject: &'a Subject) -> Self {
        let adb: Arc<dyn Adb> = Arc::new(subject.adb.clone());
        let phone = Phone { device: subject.device, address: subject.address };
        Self { subject, recorder: AdbRecorder::new(adb), phone }
    }

    fn place() -> Place {
        let recording = RecordingId(SystemIds.uuid(SystemClock.now()));
        Place { recording, folder: format!("{PHONE_FOLDER}/{recording}") }
    }

    /// Launches a recorder; its process, or why there is none.
    async fn launch(&self, place: &Place) -> Result<PhoneProcess, String> {
        let spec = RecordingSpec { max_duration_seconds: 60, ..RecordingSpec::default() };
        let sighting =
            self.recorder.launch(self.phone, place, &spec).await.map_err(|error| error.to_string())?;
        match sighting.recorder {
            Recorded::Runs(process) => Ok(process),
            other => Err(format!("{other:?}; it said: {}", self.words(place))),
        }
    }

    fn words(&self, place: &Place) -> String {
        self.folder(place).map(|folder| folder.words("words", 300)).unwrap_or_default()
    }

    fn folder(&self, place: &Place) -> std::io::Result<Folder> {
        let below = place.folder.strip_prefix("/data/").unwrap_or(&place.folder);
        Folder::root(&self.subject.data)?.below(below)
    }

    /// The file as it is on the host.
    fn video(&self, place: &Place) -> (Result<Movie, String>, bool) {
        let look = || {
            let file = self.folder(place)?.file("video.mp4")?;
            let bytes = file.metadata()?.len();
            inspection::examine(&file, bytes)
        };
        match look() {
            Ok(Ok(movie)) => (Ok(movie), false),
            Ok(Err(flaw)) => (Err(flaw.to_string()), flaw == Flaw::Truncated),
            Err(error) => (Err(error.to_string()), false),
        }
    }

    async fn outcome(&self, place: &Place, process: PhoneProcess) -> Outcome {
        let sighting = self.recorder.wait(self.phone, place, process, ENDING).await;
        let ended = sighting.is_ok_and(|sighting| sighting.recorder == Recorded::Ended);
        let (video, truncated) = self.video(place);
        Outcome { ended, video, truncated }
    }

    /// A recorder in a session of its own outlives the shell that launched it.
    async fn begins(&self, report: &mut Report<'_>) -> bool {
        let place = Self::place();
        let fact = "a recording begins: there is a video encoder, and the file grows";
        let launched = self.launch(&place).await;
        let holds = launched.is_ok();
        let seen = launched.as_ref().map_or_else(Clone::clone, |process| format!("process {}", process.pid));
        report.must("record.begins", fact, "a process of its own", seen, holds);
        let Ok(process) = launched else { return false };
        sleep(RECORDED).await;
        let sighting = self.recorder.look(self.phone, &place, Some(process)).await;
        let holds = sighting
            .as_ref()
            .is_ok_and(|sighting| sighting.recorder == Recorded::Runs(process) && sighting.bytes > 0);
        let seen = match sighting {
            Ok(sighting) => format!("{:?}, {} bytes", sighting.recorder, sighting.bytes),
            Err(error) => error.to_string(),
        };
        let fact = "a recorder outlives the shell that launched it";
        report.must("record.outlives-shell", fact, "the same process, more bytes", seen, holds);
        self.end(&place, process).await;
        true
    }

    async fn end(&self, place: &Place, process: PhoneProcess) {
        // What does not end by this is gone with the phone.
        let _ = self.recorder.signal(self.phone, process, StopSignal::Kill).await;
        let _ = self.recorder.wait(self.phone, place, process, ENDING).await;
    }

    /// Records for a moment, does `how`, and looks at what became of it.
    async fn ended_by(&self, how: Ending) -> Result<Outcome, String> {
        let place = Self::place();
        let process = self.launch(&place).await?;
        sleep(RECORDED).await;
        match how {
            Ending::Signal(signal) => {
                let sent = self.recorder.signal(self.phone, process, signal).await;
                sent.map_err(|error| error.to_string())?;
            }
            Ending::Terminate => {
                self.subject.say(&format!("kill -TERM {}", process.pid)).await;
            }
        }
        let outcome = self.outcome(&place, process).await;
        if !outcome.ended {
            self.end(&place, process).await;
        }
        Ok(outcome)
    }

    async fn signals(&self, report: &mut Report<'_>) {
        let whole = "ended; a whole video";
        for (id, fact, signal) in [
            (
                "record.interrupt",
                "SIGINT ends a recording and makes its file whole, however it was launched",
                StopSignal::Interrupt,
            ),
            ("record.hangup", "SIGHUP does the same", StopSignal::HangUp),
        ] {
            let outcome = self.ended_by(Ending::Signal(signal)).await;
            let holds = outcome.as_ref().is_ok_and(|outcome| outcome.ended && outcome.video.is_ok());
            report.must(id, fact, whole, outcome.map_or_else(|why| why, |outcome| outcome.seen()), holds);
        }
        let torn = "ended; a file without its index";
        for (id, fact, how) in [
            ("record.terminate", "SIGTERM tears the file, so it is never sent", Ending::Terminate),
            ("record.kill", "SIGKILL tears the file", Ending::Signal(StopSignal::Kill)),
        ] {
            let outcome = self.ended_by(how).await;
            let holds = outcome.as_ref().is_ok_and(|outcome| outcome.ended && outcome.truncated);
            report.should(id, fact, torn, outcome.map_or_else(|why| why, |outcome| outcome.seen()), holds);
        }
    }

    /// Runs it in the foreground; exit status, seconds and file.
    async fn foreground(&self, options: &str, seconds: u64) -> (Result<(u8, Duration), String>, Place) {
        let place = Self::place();
        let folder = &place.folder;
        let began = Instant::now();
        let command = format!("mkdir -p {folder} && screenrecord {options} {folder}/video.mp4");
        let output = self.subject.shell(&command, Duration::from_secs(seconds)).await;
        let ran = output.map(|output| (output.status, began.elapsed())).map_err(|error| error.to_string());
        (ran, place)
    }

    async fn short(&self, report: &mut Report<'_>) {
        let (ran, place) = self.foreground(&format!("--time-limit {SHORT}"), SHORT + 20).await;
        let (video, _) = self.video(&place);
        let holds = ran.as_ref().is_ok_and(|(status, took)| *status == 0 && took.as_secs() >= SHORT - 1)
            && video.is_ok();
        let fact = "a recording ends by itself at its limit, with 0 and a whole file";
        let expected = format!("exit status 0 after {SHORT} s; a whole video");
        report.must("record.limit", fact, &expected, told(&ran, &video), holds);
    }

    async fn longer(&self, report: &mut Report<'_>) {
        let script = format!(
            "mkdir -p {PHONE_FOLDER}/longer && cd {PHONE_FOLDER}/longer || exit 9
screenrecord --time-limit {} video.mp4 >words 2>&1 &
p=$!; n=0; while kill -0 $p 2>/dev/null && [ $n -lt 20 ]; do sleep 0.1; n=$((n+1)); done
if kill -0 $p 2>/dev/null; then kill -INT $p; wait $p; echo accepted; else wait $p; echo \"refused with $?\"; fi",
            LONGEST + 1
        );
        let seen = self.subject.say(&script).await;
        let holds = seen.ends_with("refused with 2") || seen.ends_with("accepted");
        let fact = "more than 180 s is refused with 2 before Android 14, and taken from then on";
        report.should("record.longer", fact, "refused with 2, or accepted", seen, holds);
    }

    async fn two(&self, report: &mut Report<'_>) {
        let places = [Self::place(), Self::place()];
        let mut launched = Vec::new();
        for place in &places {
            launched.push(self.launch(place).await);
        }
        sleep(RECORDED).await;
        let mut videos = Vec::new();
        for (place, process) in places.iter().zip(&launched) {
            match process {
                Ok(process) => {
                    let signal = self.recorder.signal(self.phone, *process, StopSignal::Interrupt).await;
                    let outcome = self.outcome(place, *process).await;
                    videos.push(signal.map_or_else(|error| error.to_string(), |()| outcome.seen()));
                }
                Err(why) => videos.push(why.clone()),
            }
        }
        let holds = videos.iter().all(|seen| seen.contains("a whole video"));
        let fact = "a phone can record twice at once; orders may not, so this is for later";
        report.should("record.two", fact, "two whole videos", videos.join(" | "), holds);
    }

    async fn longest(&self, report: &mut Report<'_>) {
        let (ran, place) = self.foreground("", LONGEST + 30).await;
        let (video, _) = self.video(&place);
        let holds = ran.as_ref().is_ok_and(|(status, took)| {
            *status == 0 && (LONGEST - 2..=LONGEST + 10).contains(&took.as_secs())
        }) && video.is_ok();
        let fact = "without a limit a recording ends after 180 s, with 0 and a whole file";
        report.must("record.default-limit", fact, "exit status 0 after 180 s", told(&ran, &video), holds);
    }
}

/// How a recording is ended.
#[derive(Clone, Copy)]
enum Ending {
    Signal(StopSignal),
    Terminate,
}

fn told(ran: &Result<(u8, Duration), String>, video: &Result<Movie, String>) -> String {
    let ran = match ran {
        Ok((status, took)) => format!("exit status {status} after {:.1} s", took.as_secs_f64()),
        Err(why) => why.clone(),
    };
    match video {
        Ok(movie) => format!("{ran}; a whole video of {} ms", movie.duration_ms),
        Err(why) => format!("{ran}; {why}"),
    }
}
