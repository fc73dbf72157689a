//! Which phones are to be looked through soon for recorders and folders that no row knows.
//! Whoever leaves some behind says so; [`super::housekeeping`] looks.

use phonefleet_protocol::id::DeviceId;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Phones that are to be swept soon.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    phones: Mutex<BTreeSet<DeviceId>>,
    ordered: Notify,
}

impl Sweeps {
    /// Something that is not needed may run on this phone.
    pub fn order(&self, device: DeviceId) {
        self.phones.lock().unwrap_or_else(PoisonError::into_inner).insert(device);
        self.ordered.notify_one();
    }

    /// Resolves when one was ordered since the last [`Self::take`] or soon after.
    pub(super) async fn ordered(&self) {
        self.ordered.notified().await;
    }

    /// Those ordered since the last call.
    pub(super) fn take(&self) -> BTreeSet<DeviceId> {
        std::mem::take(&mut *self.phones.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
