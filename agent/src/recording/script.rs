//! What a phone's shell is asked to do, and how its answers are read. Pure.
//!
//! Android's shell is mksh, with toybox beside it. The scripts use built-in commands where
//! they loop, so that waiting starts no processes, and only words that were in Android 9.
//! Whatever is put into them is a number or an id: nothing can break out.
//!
//! ```text
//!   <folder>/process     "PID START-TIME INIT-START-TIME", written before the recorder runs
//!   <folder>/video.mp4   what it records
//!   <folder>/words       what it says
//! ```

use super::{Leftover, PHONE_FOLDER, Recorded, Sighting};
use crate::store::recording::{PhoneProcess, StopSignal};
use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::recording::RecordingSpec;
use std::fmt::Write as _;
use std::time::Duration;

/// Clock ticks of start times; Linux shows 100 on every machine (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// The last line of a script that ran to its end.
const END: &str = "phonefleet-end";
/// Said by a phone that is another one.
const STRANGER: &str = "phonefleet-stranger";

/// Folders named in one list: the answer has to fit into what is kept of an output.
const LISTED: u32 = 200;
/// Only names that may be a recording's count, or others would hide ours.
const NAMED: &str = "????????-????-????-????-????????????";

/// `since PID` sets `$s` to its start time, to nothing when it is dead or a zombie. The name
/// in the second field of `stat` may hold anything; the last bracket ends it.
const SINCE: &str = "since() { s=; l=; { read -r l </proc/$1/stat; } 2>/dev/null; [ -n \"$l\" ] || return 0; \
    set -- ${l##*\") \"}; case $1 in Z|X|x) return 0;; esac; [ $# -ge 20 ] || return 0; shift 19; s=$1; }";

/// A script that runs only on the phone with that serial number, and says when it has ended.
fn on_phone(serial: &str, body: &str) -> String {
    format!(
        "[ \"$(getprop ro.boot.serialno)\" = {serial} ] || {{ echo {STRANGER}; exit 0; }}\n{SINCE}\n{body}\necho {END}"
    )
}

/// Tells how the recording in `$D` is. `$p` and `$t` name its process; without them the
/// file does. A launch writes that file at once: what is without it for a second has none.
/// A process that is known is looked for wherever its folder is: somebody may have deleted that.
fn tell() -> &'static str {
    "since 1; echo \"init $s\"
{ read -r u l </proc/uptime && echo \"uptime $u\"; } 2>/dev/null
if [ -d $D ]; then
echo launched
if [ -z \"$p\" ]; then
n=0; while [ ! -s $D/process ] && [ $n -lt 10 ]; do sleep 0.1; n=$((n+1)); done
{ read -r p t b <$D/process; } 2>/dev/null && echo \"boot $b\"
fi
[ -f $D/video.mp4 ] && echo \"size $(stat -c %s $D/video.mp4)\"
fi
if [ -n \"$p\" ]; then since $p; [ -n \"$s\" ] && [ \"$s\" = \"$t\" ] && echo \"runs $p $t\"; fi"
}

fn named(known: Option<PhoneProcess>) -> String {
    known
        .map_or_else(|| "p=; t=".to_owned(), |process| format!("p={}; t={}", process.pid, process.start_time))
}

/// Launches the recorder and waits up to two seconds for its file. It belongs to nobody: a
/// session of its own, no terminal, no pipe. `HUP` is ignored meanwhile, so that a broken
/// connection does not stop it half-way; the recorder sets that signal for itself.
pub fn launch(serial: &str, folder: &str, spec: &RecordingSpec) -> String {
    let mut options = format!("--time-limit {} --bit-rate {}", spec.max_duration_seconds, spec.bit_rate);
    if let Some(size) = spec.size {
        let _ = write!(options, " --size {}x{}", size.width, size.height);
    }
    let tell = tell();
    on_phone(
        serial,
        &format!(
            "trap '' HUP
D={folder}
mkdir -p {PHONE_FOLDER} || {{ echo refused; exit 0; }}
if mkdir $D 2>/dev/null; then
export D
setsid sh -c '{SINCE}; since 1; b=$s; since $$; \
echo \"$$ $s $b\" >$D/process.new && mv $D/process.new $D/process && \
exec screenrecord {options} $D/video.mp4' </dev/null >$D/words 2>&1 &
fi
[ -d $D ] || {{ echo refused; exit 0; }}
n=0; while [ $n -lt 20 ] && [ ! -s $D/video.mp4 ]; do
sleep 0.1; n=$((n+1))
if [ -s $D/process ]; then read -r p t b <$D/process; since $p; [ \"$s\" = \"$t\" ] || n=20; fi
done
p=; t=
{tell}"
        ),
    )
}

/// Looks at it.
pub fn look(serial: &str, folder: &str, known: Option<PhoneProcess>) -> String {
    on_phone(serial, &format!("D={folder}; {}\n{}", named(known), tell()))
}

/// Does nothing but tell whether it is that phone.
pub fn nothing(serial: &str) -> String {
    on_phone(serial, ":")
}

/// Waits until the process is gone, for `quarters` of a second at most, then looks.
pub fn wait(serial: &str, folder: &str, process: PhoneProcess, quarters: u32) -> String {
    let (named, tell) = (named(Some(process)), tell());
    on_phone(
        serial,
        &format!(
            "D={folder}; {named}
n=0; since $p; while [ \"$s\" = \"$t\" ] && [ $n -lt {quarters} ]; do sleep 0.25; n=$((n+1)); since $p; done
{tell}"
        ),
    )
}

/// Sends a signal to this very process.
pub fn signal(serial: &str, process: PhoneProcess, signal: StopSignal) -> String {
    let PhoneProcess { pid, start_time } = process;
    on_phone(serial, &format!("since {pid}; [ \"$s\" = {start_time} ] && kill -{} {pid}", signal.name()))
}

/// Makes the folder, without which nothing is launched. That it cannot be made is told apart
/// from that it is there.
pub fn forbid(serial: &str, folder: &str) -> String {
    on_phone(
        serial,
        &format!(
            "mkdir -p {PHONE_FOLDER}
if mkdir {folder} 2>/dev/null; then echo forbidden
elif [ ! -d {folder} ]; then echo refused; exit 0
fi"
        ),
    )
}

/// Names what is in our folder, as much as fits into an answer.
pub fn list(serial: &str) -> String {
    on_phone(
        serial,
        &format!(
            "n=0; for D in {PHONE_FOLDER}/{NAMED}; do
[ -d \"$D\" ] || continue
n=$((n+1)); [ $n -le {LISTED} ] || break
p=; t=; [ -f \"$D/process\" ] && {{ read -r p t b <\"$D/process\"; }} 2>/dev/null
s=; case $p in ''|*[!0-9]*) ;; *) since $p ;; esac
if [ -n \"$s\" ] && [ \"$s\" = \"$t\" ]; then echo \"left ${{D##*/}} $p $t\"; else echo \"left ${{D##*/}}\"; fi
done"
        ),
    )
}

/// Ends a process: gently for ten seconds, then at once.
pub fn end(serial: &str, process: PhoneProcess) -> String {
    let PhoneProcess { pid, start_time } = process;
    on_phone(
        serial,
        &format!(
            "since {pid}; [ \"$s\" = {start_time} ] && kill -INT {pid}
n=0; while [ \"$s\" = {start_time} ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); since {pid}; done
[ \"$s\" = {start_time} ] && kill -KILL {pid}"
        ),
    )
}

/// Removes a recording's folder.
pub fn remove(serial: &str, recording: RecordingId) -> String {
    on_phone(serial, &format!("rm -rf {PHONE_FOLDER}/{recording}"))
}

/// What a phone answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The script ran to its end; its lines.
    Told(Vec<&'a str>),
    /// It could not make its folder.
    Refused,
    /// Another phone answers at this port.
    Stranger,
    /// It broke off.
    Cut,
}

/// Reads what a script printed.
pub fn answer(stdout: &str) -> Answer<'_> {
    let mut lines: Vec<&str> = stdout.lines().map(str::trim).collect();
    match lines.pop() {
        Some(END) => Answer::Told(lines),
        Some("refused") => Answer::Refused,
        Some(STRANGER) => Answer::Stranger,
        _ => Answer::Cut,
    }
}

/// Reads what [`launch`], [`look`] and [`wait`] told. Lines that are none of theirs, and
/// numbers that are none, count for nothing.
pub fn sighting(lines: &[&str]) -> Sighting {
    let after = |word: &str| {
        lines.iter().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).unwrap_or_default()
    };
    let recorder = match (process(after("runs")), lines.contains(&"launched")) {
        (Some(process), _) => Recorded::Runs(process),
        (None, true) => Recorded::Ended,
        (None, false) => Recorded::Never,
    };
    let age = match recorder {
        Recorded::Runs(process) => age(process, after("uptime")),
        Recorded::Never | Recorded::Ended => None,
    };
    Sighting {
        recorder,
        age,
        launched_in: after("boot").parse().ok(),
        runs_in: after("init").parse().ok(),
        bytes: after("size").parse().unwrap_or(0),
    }
}

/// How long a process has been there, by the machine's uptime in seconds with a fraction.
/// An uptime that is the phone's own makes no sense beside start times, which never are.
fn age(process: PhoneProcess, uptime: &str) -> Option<Duration> {
    let (seconds, fraction) = uptime.split_once('.')?;
    let hundredths = seconds.parse::<u64>().ok()?.checked_mul(TICKS_PER_SECOND)?;
    let hundredths = hundredths.checked_add(fraction.get(..2)?.parse::<u64>().ok()?)?;
    let age = hundredths.checked_sub(process.start_time)?;
    Some(Duration::from_millis(age.checked_mul(1000 / TICKS_PER_SECOND)?))
}

/// Reads what [`list`] told.
pub fn leftovers(lines: &[&str]) -> Vec<Leftover> {
    let read = |line: &&str| {
        let rest = line.strip_prefix("left ")?;
        let (name, named) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Leftover { recording: name.parse().ok()?, process: process(named) })
    };
    lines.iter().filter_map(read).collect()
}

/// Pids up to 1 would be "everybody in my group" and the phone itself.
fn process(text: &str) -> Option<PhoneProcess> {
    let (pid, start_time) = text.split_once(' ')?;
    let process = PhoneProcess { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? };
    (process.pid > 1 && i32::try_from(process.pid).is_ok()).then_some(process)
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
