//! Changes of phones, reduced to "look at this device": what this engine does says so itself,
//! the end of a phone is told by the kernel (a pidfd of its supervisor), and everything else,
//! such as a phone that somebody stops, is found by a look now and then.

use super::kernel;
use super::record::{Found, Records};
use crate::host::process::ProcessId;
use crate::runtime::{ContainerState, EngineError, EngineEvent, LABEL_DEVICE};
use phonefleet_protocol::id::{DeviceId, HostId};
use phonefleet_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Between two looks that nothing gave reason for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Events that may wait before the watcher is told to look at everything instead.
const WAITING: usize = 256;

/// One phone, as far as a change shows.
type Sight = (DeviceId, ContainerState);

struct Watcher {
    records: Records,
    host: HostId,
    seen: BTreeMap<String, Sight>,
    /// Supervisors whose end is waited for.
    awaited: BTreeSet<(u32, u64)>,
    ends: mpsc::UnboundedSender<ProcessId>,
}

/// Follows the changes until the watcher goes away or the folder cannot be read.
pub(super) async fn watch(
    records: Records,
    host: HostId,
    since: Timestamp,
    mut changes: broadcast::Receiver<()>,
) -> Result<mpsc::Receiver<EngineEvent>, EngineError> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (ends, mut ended) = mpsc::unbounded_channel();
    let mut watcher = Watcher { records, host, seen: BTreeMap::new(), awaited: BTreeSet::new(), ends };
    let all = watcher.look().await?;
    // What the watcher has listed before it asked for events may have changed in between.
    let missed: Vec<DeviceId> =
        all.iter().filter(|found| found.changed_at() >= since.0).filter_map(device).collect();
    watcher.compare(all);
    tokio::spawn(async move {
        if !tell(&sender, missed).await {
            return;
        }
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                () = sender.closed() => return,
                change = changes.recv() => match change {
                    Ok(()) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                Some(process) = ended.recv() => {
                    watcher.awaited.remove(&(process.pid, process.start_time));
                }
                _ = look.tick() => {}
            }
            let changed = match watcher.look().await {
                Ok(all) => watcher.compare(all),
                Err(error) => break error,
            };
            if !tell(&sender, changed).await {
                return;
            }
        };
        tracing::info!(%why, "phones cannot be watched any more");
    });
    Ok(receiver)
}

/// Whether somebody still listens.
async fn tell(sender: &mpsc::Sender<EngineEvent>, devices: Vec<DeviceId>) -> bool {
    for device in devices {
        match sender.try_send(EngineEvent::Container(device)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
            // This waits, and what is not told meanwhile happened before the watcher takes
            // the word to look at everything.
            Err(mpsc::error::TrySendError::Full(_)) => return sender.send(EngineEvent::Resync).await.is_ok(),
        }
    }
    true
}

fn device(found: &Found) -> Option<DeviceId> {
    found.record.labels.get(LABEL_DEVICE)?.parse().ok()
}

impl Watcher {
    async fn look(&self) -> Result<Vec<Found>, EngineError> {
        let (records, host) = (self.records.clone(), self.host.clone());
        let looked = tokio::task::spawn_blocking(move || records.all(&host)).await;
        looked.unwrap_or_else(|error| Err(EngineError::Unavailable(error.to_string())))
    }

    /// Devices whose phones are not as they were; ends of phones that run are waited for.
    fn compare(&mut self, all: Vec<Found>) -> Vec<DeviceId> {
        let mut now = BTreeMap::new();
        for found in all {
            let Some(device) = device(&found) else { continue };
            if let Some(supervisor) = found.supervisor {
                self.wait_for(supervisor);
            }
            now.insert(found.record.id, (device, found.state));
        }
        let came = now.iter().filter(|(id, sight)| self.seen.get(*id) != Some(sight));
        let went = self.seen.iter().filter(|(id, _)| !now.contains_key(*id));
        let changed: BTreeSet<DeviceId> = came.chain(went).map(|(_, (device, _))| *device).collect();
        self.seen = now;
        changed.into_iter().collect()
    }

    fn wait_for(&mut self, process: ProcessId) {
        if !self.awaited.insert((process.pid, process.start_time)) {
            return;
        }
        let ends = self.ends.clone();
        tokio::spawn(async move {
            if let Err(error) = kernel::ended(process).await {
                // The look now and then finds it; what fails at once is not tried again at once.
                tracing::debug!(pid = process.pid, %error, "cannot be waited for");
                sleep(LOOK_EVERY).await;
            }
            let _ = ends.send(process);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn an_end_that_cannot_be_waited_for_is_not_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (ends, mut ended) = mpsc::unbounded_channel();
        let mut watcher = Watcher {
            records: Records::new(folder.path()),
            host: "h1".parse().unwrap(),
            seen: BTreeMap::new(),
            awaited: BTreeSet::new(),
            ends,
        };
        // No process has this number, so that asking for it fails.
        let nobody = ProcessId { pid: 0, start_time: 1 };
        watcher.wait_for(nobody);
        assert!(timeout(LOOK_EVERY / 2, ended.recv()).await.is_err());
        assert_eq!(timeout(LOOK_EVERY, ended.recv()).await.unwrap(), Some(nobody));
    }
}
