//! How a loop shows that it comes round.
//!
//! A loop that waits for work does not come round by itself, so it is asked: each question is
//! a number that the loop hands back. Where it waits for something outside that may take its
//! time, [`Pulse::through`] answers for it, for as long as that may take and no longer.

use crate::proof::Proof;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The loop's end.
#[derive(Debug)]
pub struct Pulse {
    asked: watch::Receiver<u64>,
    answered: watch::Sender<u64>,
}

/// A pulse for a loop, and the proof that it comes round.
pub fn pulse(name: &'static str) -> (Pulse, Proof) {
    let (ask, asked) = watch::channel(0);
    let (answered, answers) = watch::channel(0);
    let proof = Proof::new(name, move || {
        let mut question = 0;
        ask.send_modify(|last| {
            *last += 1;
            question = *last;
        });
        let mut answers = answers.clone();
        // An error means that the loop is gone: it will not come round.
        async move { answers.wait_for(|answer| *answer >= question).await.is_ok() }
    });
    (Pulse { asked, answered }, proof)
}

impl Pulse {
    /// A pulse that nobody takes.
    pub fn unheard() -> Self {
        pulse("nobody").0
    }

    /// Waits to be asked, and answers: an arm of the loop's `select!`. Never returns when
    /// nobody asks any more. Dropping it before it returns loses nothing.
    pub async fn asked(&mut self) {
        if self.asked.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.answer();
    }

    /// Waits for `work`, which is known to end within `limit`, and answers meanwhile; not
    /// beyond the limit: what takes longer hangs.
    pub async fn through<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let end = Instant::now() + limit;
        // No timer where nobody asks: simulated time must not stop for it.
        let mut answering = self.asked.has_changed().is_ok();
        loop {
            tokio::select! {
                done = &mut work => return done,
                asked = timeout_at(end, self.asked()), if answering => answering = asked.is_ok(),
            }
        }
    }

    fn answer(&self) {
        self.answered.send_replace(*self.asked.borrow());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{sleep, timeout};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_comes_round_proves_it_and_one_that_hangs_does_not() {
        let (mut pulse, proof) = pulse("loop");
        let looping = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sleep(3600 * SECOND) => {}
                    () = pulse.asked() => {}
                }
            }
        });
        for _ in 0..3 {
            assert_eq!(timeout(SECOND, proof.ask()).await, Ok(true));
        }
        looping.abort();
        let _ = looping.await;
        assert_eq!(timeout(SECOND, proof.ask()).await, Ok(false), "a loop that is gone");

        let (_hanging, proof) = super::pulse("loop");
        assert!(timeout(SECOND, proof.ask()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn work_may_take_its_time_but_no_more() {
        let (mut pulse, proof) = pulse("loop");
        tokio::spawn(async move { pulse.through(10 * SECOND, pending::<()>()).await });
        sleep(SECOND).await;
        assert_eq!(timeout(SECOND, proof.ask()).await, Ok(true), "within the limit");
        sleep(10 * SECOND).await;
        assert!(timeout(10 * SECOND, proof.ask()).await.is_err(), "beyond the limit");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unheard_pulse_is_silent_and_sets_no_timer() {
        let mut pulse = Pulse::unheard();
        assert!(timeout(SECOND, pulse.asked()).await.is_err());
        let before = Instant::now();
        assert_eq!(pulse.through(SECOND, async { 7 }).await, 7);
        assert_eq!(before, Instant::now());
    }
}
