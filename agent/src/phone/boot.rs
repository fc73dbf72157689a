//! A phone whose container runs: its boot, and whether it still answers afterwards.

use super::context::Hindrance;
use super::memory::{Boot, Doubt};
use super::task::{DeviceTask, Next, View};
use super::transition;
use crate::adb::boot_ladder::{BootLadder, Climb, Pulse, pulse};
use crate::runtime::ContainerState;
use crate::runtime::redroid::serial;
use phonefleet_protocol::facts::{Phase, Reason};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Between two tries at one rung.
const BOOT_PAUSE: Duration = Duration::from_millis(300);
/// How long a boot goes on without a look at row and container, should an event be lost.
const BOOT_SLICE: Duration = Duration::from_secs(3);
/// Between two looks at a phone that runs.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// The next look after one that failed.
const PROBE_AGAIN: Duration = Duration::from_secs(5);
/// Failed looks in a row after which it is told.
const MISSES: u32 = 2;

const UNRESPONSIVE: &str = "ADB_UNRESPONSIVE";

impl DeviceTask {
    /// Goes on with the boot, for a while.
    pub(super) async fn boot(&mut self, view: &View) -> Result<Next, Hindrance> {
        let (Some(container), Some(ports)) = (&view.container, view.row.ports) else { return Ok(Next::Now) };
        if !matches!(view.row.phase, Phase::Starting | Phase::Running) {
            let question = view.question;
            self.context
                .write(move |tx| transition::update(tx, question, |row| row.phase = Phase::Starting))
                .await?;
            return Ok(Next::Now);
        }
        let known = self.memory.boot.take().filter(|boot| boot.container == container.id);
        let mut boot = known.unwrap_or_else(|| Boot {
            container: container.id.clone(),
            ladder: BootLadder::new(self.context.adb_address(ports.adb), serial(self.device)),
            deadline: Instant::now() + self.context.settings.boot_timeout,
        });
        let slice_ends = (Instant::now() + BOOT_SLICE).min(boot.deadline);
        let frozen = container.state == ContainerState::Paused;
        if frozen {
            boot.ladder.container_is("its container is paused");
        }
        let mut up = false;
        while !up && Instant::now() < slice_ends {
            if frozen {
                let _ = timeout_at(slice_ends, self.wake.raised()).await;
                break;
            }
            let climb = tokio::select! {
                biased;
                () = self.wake.raised() => break,
                climb = timeout_at(boot.deadline, boot.ladder.climb(&*self.context.adb)) => climb,
            };
            match climb {
                Ok(Climb::Up) => up = true,
                Ok(Climb::Higher) => {}
                Ok(Climb::Waiting) => {
                    let _ = timeout(BOOT_PAUSE, self.wake.raised()).await;
                }
                Err(_) => break,
            }
        }
        if up {
            self.memory.verified = Some(container.id.clone());
            self.memory.doubt = None;
            self.memory.probe_at = Instant::now() + PROBE_EVERY;
            self.memory.misses = 0;
            self.settle(view, Phase::Running).await?;
            if let Some(started) = self.memory.started_at.take() {
                self.context.phones.booted(started.elapsed());
            }
        } else if Instant::now() >= boot.deadline {
            self.boot_is_over(view, &boot).await?;
        } else if !frozen
            && view.row.phase == Phase::Starting
            && !view.row.booted
            && self.boots_in_vain(&boot)
        {
            let (rung, evidence) = boot.ladder.stalled();
            tracing::warn!(device = %self.device, rung = rung.name(), evidence,
                "the engine has not connected it well; the container is made anew");
            self.remove_container(view).await?;
        } else {
            self.memory.boot = Some(boot);
        }
        Ok(Next::Now)
    }

    /// For some time now nothing was heard of a phone whose start is in doubt, or another
    /// phone answers in its place. Within one boot's time of the question only, so that its
    /// answer comes in the end.
    fn boots_in_vain(&self, boot: &Boot) -> bool {
        let whole = self.context.settings.boot_timeout;
        let patience = Doubt::EngineLost.patience(whole);
        let doubted =
            self.memory.doubt.is_some_and(|(doubt, since)| since.elapsed() >= doubt.patience(whole));
        let begun = boot.deadline.saturating_duration_since(Instant::now()) + patience <= whole;
        let in_vain = doubted && boot.ladder.out_of_reach() || begun && boot.ladder.meets_a_stranger();
        in_vain && self.memory.asked_at.elapsed() < whole
    }

    async fn boot_is_over(&mut self, view: &View, boot: &Boot) -> Result<(), Hindrance> {
        let (rung, evidence) = boot.ladder.stalled();
        let seconds = self.context.settings.boot_timeout.as_secs();
        let text = format!("after {seconds} s the boot has not passed `{}`: {evidence}", rung.name());
        let reason = Reason::new("BOOT_TIMEOUT", text);
        if view.row.answer.is_none() {
            self.fail(view, reason, false).await
        } else {
            self.died(view, reason, true).await
        }
    }

    /// One look at a phone that runs. It is told when it does not answer, and left running:
    /// whoever uses it may know better.
    pub(super) async fn probe(&mut self, view: &View) -> Result<(), Hindrance> {
        let Some(ports) = view.row.ports else { return Ok(()) };
        let address = self.context.adb_address(ports.adb);
        let serial = serial(self.device);
        let pulse = tokio::select! {
            biased;
            () = self.wake.raised() => return Ok(()),
            pulse = pulse(&*self.context.adb, address, &serial) => pulse,
        };
        let told = view.row.reason.as_ref().is_some_and(|reason| reason.code == UNRESPONSIVE);
        let wait = match pulse {
            Pulse::Fine => {
                self.memory.misses = 0;
                self.memory.verified = view.container.as_ref().map(|container| container.id.clone());
                if told {
                    self.report(view, None).await?;
                }
                PROBE_EVERY
            }
            Pulse::Unknown(_) => PROBE_AGAIN,
            Pulse::Unresponsive(why) => {
                self.memory.misses = self.memory.misses.saturating_add(1);
                if self.memory.misses >= MISSES && !told {
                    self.report(view, Some(Reason::new(UNRESPONSIVE, why))).await?;
                }
                if self.memory.misses < MISSES { PROBE_AGAIN } else { PROBE_EVERY }
            }
        };
        self.memory.probe_at = Instant::now() + wait;
        Ok(())
    }
}
