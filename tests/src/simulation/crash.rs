//! Stops a daemon for good at the n-th thing that it does: a commit, or an effect outside.

use phonefleet_store::CommitGate;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Counts what passes, and holds the armed one for ever. The harness waits for
/// [`CrashPoint::fired`] and then drops the daemon, as `kill -9` would.
#[derive(Clone, Debug, Default)]
pub struct CrashPoint {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    passed: AtomicU64,
    armed: AtomicU64,
    fired: Notify,
}

impl CrashPoint {
    /// The `nth` pass from now on, counted from 1, never returns.
    pub fn arm(&self, nth: u64) {
        self.inner.armed.store(self.passed() + nth, Ordering::SeqCst);
    }

    /// Nothing is held any more.
    pub fn disarm(&self) {
        self.inner.armed.store(0, Ordering::SeqCst);
    }

    /// How many have passed so far.
    pub fn passed(&self) -> u64 {
        self.inner.passed.load(Ordering::SeqCst)
    }

    /// Resolves once the armed pass has come.
    pub async fn fired(&self) {
        self.inner.fired.notified().await;
    }

    /// Something was done; the doer may go on, or is held for ever.
    pub async fn after_effect(&self) {
        let number = self.inner.passed.fetch_add(1, Ordering::SeqCst) + 1;
        if number == self.inner.armed.load(Ordering::SeqCst) {
            self.inner.fired.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl CommitGate for CrashPoint {
    fn pass(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let point = self.clone();
        Box::pin(async move { point.after_effect().await })
    }
}
