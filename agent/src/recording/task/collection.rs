//! The last steps of a recording: its file is fetched, checked and kept, and what is left of it
//! on the phone goes.

use super::{Next, RecordingTask, View};
use crate::phone::context::Hindrance;
use crate::recording::plan::PhoneState;
use crate::recording::transition;
use crate::recording::{KeptVideo, Source, VideoError};
use crate::store::recording::{self, COLLECT_FAILED};
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::facts::Reason;
use phonefleet_protocol::recording::{EndCause, RecordingPhase};
use std::time::Duration;
use tokio::time::Instant;

/// How long a file that cannot be fetched is tried for.
const COLLECT_PATIENCE: Duration = Duration::from_mins(1);
/// The same when it is this host's disk that refuses: the phone has the file meanwhile.
const DISK_PATIENCE: Duration = Duration::from_hours(6);
/// A file may be so many times larger than its bit rate and time say, and so many bytes more.
const LARGEST_FACTOR: u64 = 4;
const LARGEST_MORE: u64 = 64 << 20;

impl View {
    /// Somebody waits for its data to be removed.
    fn is_to_be_erased(&self) -> bool {
        self.device.as_ref().is_none_or(|device| {
            matches!(device.desired.wish, Wish::Absent | Wish::Reserved)
                || device.desired.data_epoch > self.row.data_epoch
        })
    }
}

impl RecordingTask {
    pub(super) async fn collect(&mut self, view: &View) -> Result<Next, Hindrance> {
        let row = &view.row;
        let source = Source {
            recording: row.id(),
            device: row.device(),
            data_epoch: row.data_epoch,
            folder: row.folder.clone(),
            phone: view.reach.filter(|_| view.device.is_some()),
            // With its container it would be gone.
            may_be_written: row.was_given_up() && view.phone != PhoneState::Down { container_runs: false },
        };
        let limit = row.desired.spec.expected_bytes() * LARGEST_FACTOR + LARGEST_MORE;
        let collected = match self.context.videos.collect(&source, limit).await {
            Ok(collected) => collected,
            Err(VideoError::Refused(why)) => {
                self.fail(view, Reason::new("REFUSED", why)).await?;
                self.clear(&source).await;
                return Ok(Next::Now);
            }
            Err(error @ (VideoError::Trouble(_) | VideoError::Disk(_))) => {
                let since = *self.collecting_since.get_or_insert_with(Instant::now);
                let disk = matches!(error, VideoError::Disk(_)) && !view.is_to_be_erased();
                let patience = if disk { DISK_PATIENCE } else { COLLECT_PATIENCE };
                if since.elapsed() < patience {
                    return Err(Hindrance::trouble("VIDEO_UNAVAILABLE", &error));
                }
                self.fail(view, Reason::new(COLLECT_FAILED, error.to_string())).await?;
                return Ok(Next::Now);
            }
        };
        let (id, now, signals) = (self.recording, self.context.now(), self.signals);
        let (kept, ended_at) = (collected.video.clone(), row.ended_at.unwrap_or(now));
        let outcome = self
            .context
            .write(move |tx| {
                let phase = transition::collected(tx, id, &collected, signals, now)?;
                Ok((phase, recording::get(tx, id)?.and_then(|row| row.end_cause)))
            })
            .await?;
        if let (Some(phase), cause) = outcome {
            self.count(phase, cause, kept.as_ref(), now.since(ended_at));
        }
        self.clear(&source).await;
        Ok(Next::Now)
    }

    /// Its folder is not needed any more; but without it, nobody would find a recorder that
    /// may still run there.
    async fn clear(&self, source: &Source) {
        if source.may_be_written {
            self.context.sweeps.order(source.device);
        } else {
            self.context.videos.clear(source).await;
        }
    }

    fn count(
        &self,
        phase: RecordingPhase,
        cause: Option<EndCause>,
        kept: Option<&KeptVideo>,
        took: Duration,
    ) {
        let length = kept.and_then(|video| video.movie.as_ref().ok()).map_or(0, |movie| movie.duration_ms);
        let bytes = kept.map_or(0, |video| video.bytes);
        self.context.tally.ended(phase, cause);
        self.context.tally.collected(took, bytes, Duration::from_millis(length));
        tracing::info!(
            recording = %self.recording, phase = phase.name(), cause = cause.map_or("", EndCause::name),
            bytes, milliseconds = length, "over"
        );
    }
}
