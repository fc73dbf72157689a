//! The daemon as a service: rounds of questions, and what the manager is told of them.
//!
//! A round asks every proof at once. When all have answered, the start is complete, or the
//! watchdog is fed; then the next round begins. A round that does not end feeds nothing, and
//! the status line names who is silent, for whoever looks after the manager has acted.

use crate::notification::{Message, Notifier, watchdog_period};
use crate::proof::Proof;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two looks at the status line, and after an answer that proved nothing.
const LOOK: Duration = Duration::from_millis(500);
/// Rounds in one period of the watchdog: a slow round or a lost message is no reason yet.
const ROUNDS: u32 = 4;
/// A round that takes longer is told of.
const SLOW: Duration = Duration::from_secs(5);

/// What runs this daemon as a service, if anything does. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Service {
    manager: Option<Arc<Notifier>>,
    watchdog: Option<Duration>,
}

impl Service {
    /// The service manager that started this process.
    pub fn from_environment() -> Self {
        Self { manager: Notifier::from_environment().map(Arc::new), watchdog: watchdog_period() }
    }

    /// A manager of one's own.
    pub fn new(manager: Notifier, watchdog: Option<Duration>) -> Self {
        Self { manager: Some(Arc::new(manager)), watchdog }
    }

    /// Tells the manager that the daemon ends in order.
    pub fn stopping(&self) {
        self.tell(Message::Stopping);
    }

    /// Tells the manager everything else, until it is dropped. `status` is what the daemon
    /// does or waits for, in one line. The start is complete when the proofs have come and
    /// each was given once.
    pub async fn run(self, status: impl Fn() -> String, mut proofs: oneshot::Receiver<Vec<Proof>>) {
        if self.manager.is_none() {
            return;
        }
        let mut status_line = StatusLine { service: &self, told: String::new() };
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let proofs = loop {
            tokio::select! {
                came = &mut proofs => match came {
                    Ok(proofs) => break proofs,
                    // The daemon ended before it was up.
                    Err(_) => return,
                },
                _ = looks.tick() => status_line.show(&format!("starting; {}", status())),
            }
        };
        let mut ready = false;
        let mut round = Round::begin(&proofs);
        loop {
            tokio::select! {
                Some(answer) = round.answers.join_next() => round.take(answer.ok()),
                _ = looks.tick() => round.ask_again(&proofs),
            }
            if round.is_complete() && !round.told {
                round.told = self.tell(if ready { Message::Watchdog } else { Message::Ready });
                ready |= round.told;
            }
            if round.told && self.watchdog.is_some_and(|period| round.began.elapsed() >= period / ROUNDS) {
                round = Round::begin(&proofs);
            }
            let line = if ready { status() } else { format!("starting; {}", status()) };
            status_line.show(&match round.slow(&proofs) {
                Some(silent) => format!("{silent}; {line}"),
                None => line,
            });
        }
    }

    fn tell(&self, message: Message<'_>) -> bool {
        let Some(manager) = &self.manager else { return false };
        manager.tell(message).inspect_err(|error| tracing::warn!(%error, %message, "not told")).is_ok()
    }
}

/// Tells the status when it changes.
struct StatusLine<'a> {
    service: &'a Service,
    told: String,
}

impl StatusLine<'_> {
    fn show(&mut self, line: &str) {
        if self.told != line && self.service.tell(Message::Status(line)) {
            line.clone_into(&mut self.told);
        }
    }
}

/// One question to every proof; proofs go by their place in the list.
struct Round {
    began: Instant,
    answers: JoinSet<(usize, bool)>,
    open: BTreeSet<usize>,
    /// Answered, and proved nothing.
    fruitless: Vec<usize>,
    /// Whether the manager knows of it.
    told: bool,
    complained: bool,
}

impl Round {
    fn begin(proofs: &[Proof]) -> Self {
        let all = 0..proofs.len();
        let mut round = Self {
            began: Instant::now(),
            answers: JoinSet::new(),
            open: all.clone().collect(),
            fruitless: all.collect(),
            told: false,
            complained: false,
        };
        round.ask_again(proofs);
        round
    }

    fn ask_again(&mut self, proofs: &[Proof]) {
        for place in self.fruitless.drain(..) {
            let answer = proofs[place].ask();
            self.answers.spawn(async move { (place, answer.await) });
        }
    }

    fn take(&mut self, answer: Option<(usize, bool)>) {
        match answer {
            Some((place, true)) => _ = self.open.remove(&place),
            Some((place, false)) => self.fruitless.push(place),
            // It panicked, and stays unanswered: the manager starts the daemon again.
            None => {}
        }
    }

    fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Who is silent, if the round takes long.
    fn slow(&mut self, proofs: &[Proof]) -> Option<String> {
        if self.is_complete() || self.began.elapsed() < SLOW {
            return None;
        }
        let names: Vec<_> = self.open.iter().map(|place| proofs[*place].name()).collect();
        let silent = format!("no progress: {}", names.join(", "));
        if !self.complained {
            tracing::error!(seconds = SLOW.as_secs(), "{silent}");
            self.complained = true;
        }
        Some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pulse::pulse;
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::time::sleep;

    const PERIOD: Duration = Duration::from_secs(60);

    struct Manager {
        socket: UnixDatagram,
        _folder: tempfile::TempDir,
    }

    impl Manager {
        fn new() -> (Self, Service) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let notifier = Notifier::to(path.as_os_str()).unwrap();
            (Self { socket, _folder: folder }, Service::new(notifier, Some(PERIOD)))
        }

        /// Everything since the last look.
        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 1000];
            std::iter::from_fn(|| {
                let length = self.socket.recv(&mut buffer).ok()?;
                Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
            })
            .collect()
        }
    }

    fn fed(heard: &[String]) -> usize {
        heard.iter().filter(|message| *message == "WATCHDOG=1").count()
    }

    #[tokio::test(start_paused = true)]
    async fn ready_only_after_every_proof_and_fed_only_by_all_of_them() {
        let (manager, service) = Manager::new();
        let (give, proofs) = oneshot::channel();
        let running = tokio::spawn(service.clone().run(|| "waiting for broker".to_owned(), proofs));
        sleep(PERIOD).await;
        assert_eq!(manager.heard(), ["STATUS=starting; waiting for broker"]);

        let good = Arc::new(AtomicBool::new(false));
        let (mut pulse, comes_round) = pulse("loop");
        let answer = Arc::clone(&good);
        let store = Proof::new("store", move || std::future::ready(answer.load(Ordering::Relaxed)));
        give.send(vec![store, comes_round]).unwrap();
        pulse.asked().await;
        sleep(PERIOD).await;
        let heard = manager.heard();
        assert_eq!(heard, ["STATUS=no progress: store; starting; waiting for broker"]);
        good.store(true, Ordering::Relaxed);
        sleep(2 * LOOK).await;
        assert_eq!(manager.heard(), ["READY=1", "STATUS=waiting for broker"]);

        let looping = tokio::spawn(async move {
            loop {
                pulse.asked().await;
            }
        });
        sleep(PERIOD).await;
        let heard = manager.heard();
        assert!((3..=5).contains(&fed(&heard)), "{heard:?}");

        // One that is silent is as bad as all, from the round after.
        good.store(false, Ordering::Relaxed);
        sleep(PERIOD).await;
        manager.heard();
        sleep(10 * PERIOD).await;
        assert_eq!(fed(&manager.heard()), 0);
        good.store(true, Ordering::Relaxed);
        sleep(PERIOD).await;
        assert_ne!(fed(&manager.heard()), 0);

        looping.abort();
        sleep(PERIOD).await;
        let heard = manager.heard();
        assert!(heard.contains(&"STATUS=no progress: loop; waiting for broker".to_owned()), "{heard:?}");
        sleep(10 * PERIOD).await;
        assert_eq!(fed(&manager.heard()), 0);

        service.stopping();
        assert_eq!(manager.heard(), ["STOPPING=1"]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_manager_nothing_is_asked() {
        let service = Service { manager: None, watchdog: None };
        let (_give, proofs) = oneshot::channel();
        service.run(|| unreachable!("nobody reads it"), proofs).await;
    }
}
