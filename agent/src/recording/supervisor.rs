//! One task for each recording that is not over. A task that panics harms no other and is
//! started again.

use super::task::RecordingTask;
use super::{deletion, housekeeping};
use crate::phone::context::Context;
use crate::phone::memory::Wake;
use crate::store::recording;
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::RecordingWish;
use phonefleet_service::Pulse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;

/// First wait before a task that panicked is started again; doubles up to [`AGAIN_MOST`].
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_mins(1);

/// Something that a recording may depend on has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Its row.
    Recording(RecordingId),
    /// Its phone.
    Device(DeviceId),
}

struct Slot {
    wake: Arc<Wake>,
    device: DeviceId,
    panics: u32,
}

/// Every recording's task, and who wakes it.
pub(crate) struct Supervisor {
    context: Arc<Context>,
    tasks: JoinSet<Result<(), String>>,
    slots: BTreeMap<RecordingId, Slot>,
    recordings: HashMap<Id, RecordingId>,
    /// There may be a video to delete.
    deletion: Arc<Wake>,
    pulse: Pulse,
}

impl Supervisor {
    pub fn new(context: Arc<Context>, pulse: Pulse) -> Self {
        Self {
            context,
            tasks: JoinSet::new(),
            slots: BTreeMap::new(),
            recordings: HashMap::new(),
            deletion: Arc::default(),
            pulse,
        }
    }

    /// Starts a task for every recording that is not over, then follows the hints.
    ///
    /// # Errors
    /// The text of a database failure that the agent cannot go on after.
    pub async fn run(mut self, mut hints: mpsc::UnboundedReceiver<Hint>) -> Result<(), String> {
        for row in self.context.read_in_the_end(recording::active).await? {
            self.begin(row.id(), row.device(), 0);
        }
        self.keep_house(Duration::ZERO);
        loop {
            // What comes seldom goes first, so that the hints hold up nothing; always in one
            // order, so that a simulation goes one way.
            tokio::select! {
                biased;
                () = self.pulse.asked() => {}
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended).await?,
                hint = hints.recv() => match hint {
                    Some(Hint::Recording(recording)) => self.wake(recording).await?,
                    Some(Hint::Device(device)) => self.wake_device(device),
                    None => return Ok(()),
                },
            }
        }
    }

    /// The tasks that belong to no recording.
    fn keep_house(&mut self, wait: Duration) {
        let (context, deletion) = (Arc::clone(&self.context), Arc::clone(&self.deletion));
        self.tasks.spawn(async move {
            sleep(wait).await;
            let deletions = deletion::run(Arc::clone(&context), deletion);
            tokio::try_join!(deletions, housekeeping::run(context)).map(|_| ())
        });
    }

    fn wake_device(&self, device: DeviceId) {
        for slot in self.slots.values().filter(|slot| slot.device == device) {
            slot.wake.raise();
        }
    }

    async fn wake(&mut self, recording: RecordingId) -> Result<(), String> {
        if let Some(slot) = self.slots.get(&recording) {
            slot.wake.raise();
            return Ok(());
        }
        match self.context.read_in_the_end(move |connection| recording::get(connection, recording)).await? {
            Some(row) if !row.phase.is_terminal() => self.begin(recording, row.device(), 0),
            Some(row) if row.desired.wish == RecordingWish::Deleted => self.deletion.raise(),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, recording: RecordingId, device: DeviceId, panics: u32) {
        let wake = Arc::new(Wake::default());
        let task = RecordingTask::new(Arc::clone(&self.context), recording, Arc::clone(&wake));
        let wait = AGAIN_FIRST.saturating_mul(1 << panics.min(6)).min(AGAIN_MOST);
        let handle = self.tasks.spawn(async move {
            if panics > 0 {
                sleep(wait).await;
            }
            task.run().await
        });
        self.recordings.insert(handle.id(), recording);
        self.slots.insert(recording, Slot { wake, device, panics });
    }

    async fn ended(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) -> Result<(), String> {
        let (id, panicked) = match ended {
            Ok((id, result)) => {
                result?;
                (id, false)
            }
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some(recording) = self.recordings.remove(&id) else {
            if panicked {
                tracing::error!("housekeeping of recordings panicked; starting it again");
                self.keep_house(AGAIN_MOST);
            }
            return Ok(());
        };
        let Some(slot) = self.slots.remove(&recording) else { return Ok(()) };
        if panicked {
            tracing::error!(%recording, panics = slot.panics + 1, "the recording's task panicked; starting it again");
            self.begin(recording, slot.device, slot.panics.saturating_add(1));
        } else {
            // Its last look may have taken the hint: begun again meanwhile, or deleted.
            self.wake(recording).await?;
        }
        Ok(())
    }
}
