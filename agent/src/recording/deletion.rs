//! Videos that were deleted by order: the file goes, and then the row, so that no file is left
//! without one.

use crate::phone::context::{Context, Hindrance};
use crate::phone::memory::Wake;
use crate::store::recording;
use phonefleet_protocol::id::RecordingId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A disk that refuses is asked again so soon.
const AGAIN: Duration = Duration::from_secs(30);
/// Recordings that go in one go.
const CHUNK: u32 = 100;
/// As many that cannot be deleted are the disk's fault, and no others are tried.
const STUCK: usize = 100;

/// Runs for ever, and looks at its start and whenever it is woken.
///
/// # Errors
/// The text of a database failure that the agent cannot go on after.
pub(super) async fn run(context: Arc<Context>, wake: Arc<Wake>) -> Result<(), String> {
    // Those whose files could not be deleted in this round.
    let mut stuck = BTreeSet::new();
    loop {
        match delete(&context, &mut stuck).await {
            Ok(true) => continue,
            Ok(false) if stuck.is_empty() => wake.raised().await,
            Ok(false) => {
                tracing::warn!(count = stuck.len(), "videos that were deleted by order are still there");
                let _ = timeout(AGAIN, wake.raised()).await;
            }
            Err(Hindrance::Fatal(why)) => return Err(why),
            Err(Hindrance::Trouble(reason)) => {
                tracing::warn!(%reason, "videos that were deleted by order may still be there; trying again");
                sleep(AGAIN).await;
            }
        }
        stuck.clear();
        wake.take();
    }
}

/// Deletes some. `false`: there is no more, but for those that are stuck.
async fn delete(context: &Context, stuck: &mut BTreeSet<RecordingId>) -> Result<bool, Hindrance> {
    let most = CHUNK + u32::try_from(stuck.len()).unwrap_or(CHUNK);
    let some = context.read(move |connection| recording::deleted(connection, most)).await?;
    let mut more = false;
    for (device, id) in some {
        if stuck.contains(&id) {
            continue;
        }
        if let Err(error) = context.videos.delete(device, id).await {
            tracing::warn!(%device, recording = %id, %error, "its video cannot be deleted");
            stuck.insert(id);
            if stuck.len() >= STUCK {
                return Ok(false);
            }
            continue;
        }
        context.write(move |tx| recording::forget(tx, id)).await?;
        tracing::info!(recording = %id, "its video is deleted");
        more = true;
    }
    Ok(more)
}
