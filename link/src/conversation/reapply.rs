//! Items that an older version of the daemon did not know, applied after an upgrade.

use super::durable::apply_item;
use crate::domain::{Applied, Domain};
use phonefleet_protocol::stream::Epoch;
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_store::stream_log::{Aside, dead_letter, take_now_known};
use phonefleet_store::{Store, Tx, WriteError, rusqlite};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Items of one transaction.
const JOB_ITEMS: u64 = 100;

/// Applies kept items whose kinds are among `kinds` by now, oldest first. Called once at
/// start, before any conversation runs. Returns how many there were.
///
/// An item that is refused, or still called unknown, becomes a dead letter; its epoch and
/// number are 0 there, because they are no longer known.
pub async fn reapply_known<N: Send + 'static, D: Domain<N>>(
    store: &Store<N>,
    domain: &Arc<D>,
    clock: &Arc<dyn Clock>,
    kinds: &'static [&'static str],
) -> Result<u64, WriteError<rusqlite::Error>> {
    let mut total = 0;
    loop {
        let (domain, now) = (Arc::clone(domain), clock.now());
        let job = move |tx: &mut Tx<'_, N>| {
            let mut taken = 0;
            while taken < JOB_ITEMS && reapply_one(tx, &*domain, now, kinds)? {
                taken += 1;
            }
            Ok(taken)
        };
        let taken = store.write(job).await?;
        total += taken;
        if taken < JOB_ITEMS {
            break;
        }
    }
    if total > 0 {
        tracing::info!(items = total, "applied items that the version before did not know");
    }
    Ok(total)
}

fn reapply_one<N, D: Domain<N>>(
    tx: &mut Tx<'_, N>,
    domain: &D,
    now: Timestamp,
    kinds: &[&str],
) -> Result<bool, rusqlite::Error> {
    let Some((peer, payload)) = take_now_known(tx, kinds)? else { return Ok(false) };
    let applied = match RawValue::from_string(payload.clone()) {
        Ok(item) => apply_item(tx, domain, &peer, &item, now)?,
        Err(error) => Applied::Refused { kind: String::new(), reason: format!("not JSON any more: {error}") },
    };
    let (kind, reason) = match applied {
        Applied::Done => return Ok(true),
        Applied::Refused { kind, reason } => (kind, reason),
        Applied::Unknown { kind } => (kind, "its kind was said to be known by now, and is not".to_owned()),
    };
    let aside = Aside { peer: &peer, epoch: Epoch(0), number: 0, kind: &kind, payload: &payload };
    dead_letter(tx, aside, &reason, now)?;
    Ok(true)
}
