//! Videos that were deleted by order: the file goes, and then the row, so that no file is left
//! without one.

use crate::phone::context::{Context, Hindrance};
use crate::phone::memory::Wake;
use crate::store::recording;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// A disk that refuses is asked again so soon.
const AGAIN: Duration = Duration::from_secs(30);
/// Recordings that go in one go.
const CHUNK: u32 = 100;

/// Runs for ever, and looks at its start and whenever it is woken.
///
/// # Errors
/// The text of a database failure that the agent cannot go on after.
pub(super) async fn run(context: Arc<Context>, wake: Arc<Wake>) -> Result<(), String> {
    loop {
        match delete(&context).await {
            Ok(true) => continue,
            Ok(false) => wake.raised().await,
            Err(Hindrance::Fatal(why)) => return Err(why),
            Err(Hindrance::Trouble(reason)) => {
                tracing::warn!(%reason, "a video that was deleted by order is still there; trying again");
                sleep(AGAIN).await;
            }
        }
        wake.take();
    }
}

/// Deletes some. `false`: there is no more.
async fn delete(context: &Context) -> Result<bool, Hindrance> {
    let some = context.read(|connection| recording::deleted(connection, CHUNK)).await?;
    for (device, id) in &some {
        let (device, id) = (*device, *id);
        let deleted = context.videos.delete(device, id).await;
        deleted.map_err(|error| Hindrance::trouble("DISK_UNAVAILABLE", &error))?;
        context.write(move |tx| recording::forget(tx, id)).await?;
        tracing::info!(recording = %id, "its video is deleted");
    }
    Ok(!some.is_empty())
}
