//! What demos left that were killed (`kill -9`, out of memory): found by their own folders,
//! and taken down before another begins.
//!
//! Their daemons went with them, the kernel saw to that. Left are what outlives an agent on
//! purpose (phones, its adb server), the bridge and control groups of an engine of their own,
//! and the folder. Only what names that folder, or carries its name as a label, is touched.

use super::engine_socket::EngineSocket;
use super::lodging::{Lodging, abandoned};
use super::own_engine;
use super::voice::Voice;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From SIGKILL to the end, and for the kernel to give everything back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// With one of these a demo, or its agent, tells a process about a place in the folder.
const OPTIONS: [&str; 5] = ["--config", "-c", "--config-file", "--folder", "-L"];

/// Takes down what killed demos left, and says so.
pub async fn take_down(voice: &mut Voice) {
    for mut lodging in abandoned() {
        voice.live("something of a killed demo is taken down");
        let place = lodging.place().display().to_string();
        match one(&mut lodging).await {
            Ok(what) => voice.line(&format!("A demo was killed and left {place}{what}: it is taken down")),
            Err(why) => voice.line(&format!(
                "A demo was killed and left {place}; not all of it can be taken down: {why}. \
                 The next demo tries again, until that folder is removed"
            )),
        }
    }
}

async fn one(lodging: &mut Lodging) -> Result<String, String> {
    let processes = processes(lodging.place()).await?;
    let mut containers = 0;
    if let Some(socket) = &lodging.record.engine {
        let engine = EngineSocket::new(socket);
        for id in engine.containers(&lodging.host()).await.map_err(|failure| failure.to_string())? {
            engine.remove(&id).await.map_err(|failure| failure.to_string())?;
            containers += 1;
        }
    }
    let bridge = lodging.record.own_engine_in.is_some()
        && lodging.record.own_engine_in == own_engine::network()
        && !own_engine::runs_here();
    let left = own_engine::remove_traces(lodging.name(), bridge).await;
    if !left.is_empty() {
        return Err(left.join(", "));
    }
    let began = Instant::now();
    while let Err(error) = lodging.leave() {
        if began.elapsed() > PATIENCE {
            return Err(error.to_string());
        }
        sleep(LOOK).await;
    }
    let what: Vec<String> = [(processes, "processes"), (containers, "containers")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, name)| format!(", {name}: {number}"))
        .collect();
    Ok(what.concat())
}

/// A process as long as it is the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    started: u64,
}

/// Ends what runs in the folder; how many these were.
async fn processes(folder: &Path) -> Result<usize, String> {
    let began = Instant::now();
    let mut ended: Vec<Process> = Vec::new();
    loop {
        let left = running_in(folder);
        if left.is_empty() {
            return Ok(ended.len());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("process {} does not end", left[0].pid));
        }
        for one in left {
            if started(one.pid) == Some(one.started) {
                let _ = kill(Pid::from_raw(one.pid), Signal::SIGKILL);
            }
            if !ended.contains(&one) {
                ended.push(one);
            }
        }
        sleep(LOOK).await;
    }
}

fn running_in(folder: &Path) -> Vec<Process> {
    let mut found = phones(&folder.join("agent/processes"));
    let own = nix::unistd::geteuid().as_raw();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(started) = started(pid) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let one = Process { pid, started };
        if entry.metadata().is_ok_and(|data| data.uid() == own)
            && was_told(&line, folder)
            && !found.contains(&one)
        {
            found.push(one);
        }
    }
    found
}

/// Whether these arguments have an option of ours with a place in the folder.
fn was_told(line: &[u8], folder: &Path) -> bool {
    let arguments: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    arguments.windows(2).any(|pair| {
        let value = pair[1].strip_prefix("localfilesystem:").unwrap_or(&pair[1]);
        OPTIONS.contains(&&*pair[0]) && Path::new(value).starts_with(folder)
    })
}

/// First processes of phones that are processes, by the numbers and times that were noted.
fn phones(folder: &Path) -> Vec<Process> {
    let places = fs::read_dir(folder).into_iter().flatten().flatten();
    let noted = places.filter_map(|place| {
        let text = fs::read_to_string(place.path().join("init")).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Process { pid: pid.parse().ok().filter(|pid| *pid > 1)?, started: started.parse().ok()? })
    });
    noted.filter(|one| started(one.pid) == Some(one.started)).collect()
}

/// Field 22 of `stat` of a process that is not dead; the name in the second may hold anything.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_a_place_in_the_folder_is_of_the_demo() {
        let folder = Path::new("/tmp/phonefleet-demo-1");
        for (line, ours) in [
            ("adb\0-L\0localfilesystem:/tmp/phonefleet-demo-1/agent/adb/s\0nodaemon\0server\0", true),
            ("phonesim\0supervise\0--folder\0/tmp/phonefleet-demo-1/agent/processes/a\0", true),
            ("mosquitto\0-c\0/tmp/phonefleet-demo-1/mosquitto.conf\0", true),
            ("mosquitto\0-c\0/tmp/phonefleet-demo-12/mosquitto.conf\0", false),
            ("tail\0-f\0/tmp/phonefleet-demo-1/agent.log\0", false),
            ("phonefleet\0demo\0", false),
            ("", false),
        ] {
            assert_eq!(was_told(line.as_bytes(), folder), ours, "{line:?}");
        }
    }

    #[test]
    fn a_number_that_another_process_has_by_now_is_nobody_s() {
        let folder = tempfile::tempdir().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let since = started(own).unwrap();
        for (name, text) in [
            ("a", format!("{own} {since}\n")),
            ("b", format!("{own} {}\n", since + 1)),
            ("c", "1 0\n".to_owned()),
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("init"), text).unwrap();
        }
        assert_eq!(phones(folder.path()), [Process { pid: own, started: since }]);
    }
}
