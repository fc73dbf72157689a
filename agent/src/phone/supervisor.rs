//! One task for each device. A task that panics harms no other and is started again.

use super::context::Context;
use super::memory::Wake;
use super::task::DeviceTask;
use crate::recording::supervisor::Hint;
use crate::store::{Notice, device};
use phonefleet_protocol::id::DeviceId;
use phonefleet_service::Pulse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;

/// First wait before a task that panicked is started again; doubles up to [`AGAIN_MOST`].
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MOST: Duration = Duration::from_mins(1);

struct Slot {
    wake: Arc<Wake>,
    panics: u32,
}

/// Every device's task, and who wakes it.
pub(crate) struct Supervisor {
    context: Arc<Context>,
    tasks: JoinSet<Result<(), String>>,
    slots: HashMap<DeviceId, Slot>,
    devices: HashMap<Id, DeviceId>,
    pulse: Pulse,
}

impl Supervisor {
    pub fn new(context: Arc<Context>, pulse: Pulse) -> Self {
        Self { context, tasks: JoinSet::new(), slots: HashMap::new(), devices: HashMap::new(), pulse }
    }

    /// Starts a task for every row, then wakes whom a notice names. `grew` is called when
    /// there are new events; recordings are given hints.
    ///
    /// # Errors
    /// The text of a database failure that the agent cannot go on after.
    pub async fn run(
        mut self,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        grew: impl Fn() + Send,
        recordings: mpsc::UnboundedSender<Hint>,
    ) -> Result<(), String> {
        for device in self.context.read_in_the_end(device::ids).await? {
            self.wake(device);
        }
        loop {
            // What comes seldom goes first, so that the notices hold up nothing; always in one
            // order, so that a simulation goes one way.
            tokio::select! {
                biased;
                () = self.pulse.asked() => {}
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended)?,
                notice = notices.recv() => match notice {
                    Some(Notice::OutboxGrew) => grew(),
                    Some(Notice::Device(device)) => {
                        self.wake(device);
                        // They end only together with this.
                        let _ = recordings.send(Hint::Device(device));
                    }
                    Some(Notice::Recording(recording)) => {
                        let _ = recordings.send(Hint::Recording(recording));
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    fn wake(&mut self, device: DeviceId) {
        match self.slots.get(&device) {
            Some(slot) => slot.wake.raise(),
            None => self.begin(device, 0),
        }
    }

    fn begin(&mut self, device: DeviceId, panics: u32) {
        let wake = Arc::new(Wake::default());
        let task = DeviceTask::new(Arc::clone(&self.context), device, Arc::clone(&wake));
        let wait = AGAIN_FIRST.saturating_mul(1 << panics.min(6)).min(AGAIN_MOST);
        let handle = self.tasks.spawn(async move {
            if panics > 0 {
                sleep(wait).await;
            }
            task.run().await
        });
        self.devices.insert(handle.id(), device);
        self.slots.insert(device, Slot { wake, panics });
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) -> Result<(), String> {
        let (id, panicked) = match ended {
            Ok((id, result)) => {
                result?;
                (id, false)
            }
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some(device) = self.devices.remove(&id) else { return Ok(()) };
        let Some(slot) = self.slots.remove(&device) else { return Ok(()) };
        if panicked {
            tracing::error!(%device, panics = slot.panics + 1, "the device's task panicked; starting it again");
            self.begin(device, slot.panics.saturating_add(1));
        } else if slot.wake.take() {
            // It found no row, and there may be one by now.
            self.begin(device, 0);
        }
        Ok(())
    }
}
