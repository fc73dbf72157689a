//! The sending half: what may be sent now, and what an acknowledgement means.
//!
//! Holds only what may be forgotten: a restart begins with nothing in flight and
//! learns the acknowledged number from the other end's hello.

use super::chain::Chain;
use super::durable::ForkCause;
use super::message::{Epoch, LogHead, Position};
use crate::limits::FRAMES_IN_FLIGHT;
use crate::mutant::{Mutant, planted};
use std::collections::VecDeque;
use std::time::Duration;

/// First wait for an acknowledgement before going back; doubles up to [`GO_BACK_MOST`].
pub const GO_BACK_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before going back again.
pub const GO_BACK_MOST: Duration = Duration::from_secs(30);

/// Where a cursor of the other end came from: it decides whether it may move back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorSource {
    /// A hello: the truth at a connection, also when it is lower than before.
    Hello,
    /// The acknowledgement inside a frame; an older one is a late message.
    Frame,
    /// An answer to a gap: go back to it.
    Resend,
}

/// What a cursor meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorMeaning {
    /// Nothing new.
    Unchanged,
    /// Items up to this number are now applied and committed at the other end.
    Advanced(u64),
    /// The other end has this much and no more: sent again from there.
    WentBack(u64),
    /// The log does not continue from there.
    Fork(ForkCause),
}

/// How the log answers a receiver that is behind what it once acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regression {
    /// Send the kept rows again: right for a history of events.
    Replay,
    /// Open a new epoch with a snapshot: right for wishes, of which only the newest count.
    Snapshot,
}

/// The volatile state of a sender.
#[derive(Clone, Debug)]
pub struct Sender {
    regression: Regression,
    epoch: Option<Epoch>,
    acknowledged: u64,
    next: u64,
    in_flight: VecDeque<u64>,
    more: bool,
    go_back_at: Option<Duration>,
    go_back_wait: Duration,
}

impl Sender {
    /// A sender that begins behind `acknowledged`, the last number known to be applied.
    pub fn new(acknowledged: u64, regression: Regression) -> Self {
        Self {
            regression,
            epoch: None,
            acknowledged,
            next: acknowledged + 1,
            in_flight: VecDeque::new(),
            more: true,
            go_back_at: None,
            go_back_wait: GO_BACK_FIRST,
        }
    }

    /// The last number known to be applied and committed at the other end.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The log's epoch, as it is read: another one than before has other numbers.
    pub fn follow(&mut self, epoch: Epoch) {
        if self.epoch.replace(epoch).is_some_and(|before| before != epoch) {
            self.restart();
        }
    }

    /// A connection stands: nothing is in flight on it, and nothing was silent yet.
    pub fn connected(&mut self) {
        self.go_back_wait = GO_BACK_FIRST;
        self.go_back();
    }

    /// The log may hold more than was sent.
    pub fn log_grew(&mut self) {
        self.more = true;
    }

    /// The number after which the next frame begins, when one may be sent.
    pub fn wants_page_after(&self) -> Option<u64> {
        (self.more && self.in_flight.len() < FRAMES_IN_FLIGHT).then_some(self.next - 1)
    }

    /// A page was asked for and the log held nothing more.
    pub fn log_is_drained(&mut self) {
        self.more = false;
    }

    /// A frame up to `last` was handed to the link.
    pub fn sent(&mut self, now: Duration, last: u64) {
        self.next = last + 1;
        if planted(Mutant::AcknowledgeOnPublish) {
            self.acknowledged = last;
            return;
        }
        self.in_flight.push_back(last);
        if self.go_back_at.is_none() {
            self.go_back_at = Some(now + self.go_back_wait);
        }
    }

    /// When silence means going back; `None` with nothing in flight.
    pub fn deadline(&self) -> Option<Duration> {
        self.go_back_at.filter(|_| !planted(Mutant::NeverGoBack))
    }

    /// Goes back to the acknowledged item when the silence was too long.
    pub fn tick(&mut self, now: Duration) -> bool {
        let due = self.go_back_at.is_some_and(|at| at <= now) && !planted(Mutant::NeverGoBack);
        if due {
            self.go_back_wait = (self.go_back_wait * 2).min(GO_BACK_MOST);
            self.go_back();
        }
        due
    }

    /// Sends again from behind the acknowledged item.
    pub fn go_back(&mut self) {
        self.next = self.acknowledged + 1;
        self.in_flight.clear();
        self.go_back_at = None;
        self.more = true;
    }

    /// The log begins anew: a new epoch of which nothing is acknowledged.
    pub fn restart(&mut self) {
        self.acknowledged = 0;
        self.go_back_wait = GO_BACK_FIRST;
        self.go_back();
    }

    /// Takes in the other end's cursor. `chain_at` gives the log's own chain after an
    /// item, `None` where that item is no longer kept.
    ///
    /// # Errors
    /// Those of `chain_at`, which reads the log.
    pub fn cursor<E>(
        &mut self,
        now: Duration,
        source: CursorSource,
        cursor: Option<Position>,
        head: &LogHead,
        chain_at: &mut dyn FnMut(u64) -> Result<Option<Chain>, E>,
    ) -> Result<CursorMeaning, E> {
        self.follow(head.epoch);
        let Some(cursor) = cursor.filter(|cursor| cursor.epoch == head.epoch) else {
            return Ok(self.unknown_epoch(source, head));
        };
        if cursor.through > head.last {
            return Ok(CursorMeaning::Fork(ForkCause::BeyondEnd));
        }
        let chain = if cursor.through == head.last { Some(head.chain) } else { chain_at(cursor.through)? };
        match chain {
            Some(chain) if chain != cursor.chain => return Ok(CursorMeaning::Fork(ForkCause::OtherHistory)),
            None if cursor.through + 1 < head.oldest && source != CursorSource::Frame => {
                return Ok(CursorMeaning::Fork(ForkCause::TooOld));
            }
            _ => {}
        }
        let before = self.acknowledged;
        match source {
            CursorSource::Frame if cursor.through <= before => return Ok(CursorMeaning::Unchanged),
            CursorSource::Hello | CursorSource::Resend
                if cursor.through < before && self.regression == Regression::Snapshot =>
            {
                return Ok(CursorMeaning::Fork(ForkCause::ReceiverWentBack));
            }
            CursorSource::Hello | CursorSource::Resend => {
                self.acknowledged = cursor.through;
                self.go_back();
            }
            CursorSource::Frame => {
                self.acknowledged = cursor.through;
                self.next = self.next.max(cursor.through + 1);
                while self.in_flight.front().is_some_and(|last| *last <= cursor.through) {
                    self.in_flight.pop_front();
                }
            }
        }
        if self.acknowledged <= before {
            return Ok(CursorMeaning::WentBack(self.acknowledged));
        }
        self.go_back_wait = GO_BACK_FIRST;
        self.go_back_at = (!self.in_flight.is_empty()).then(|| now + self.go_back_wait);
        Ok(CursorMeaning::Advanced(self.acknowledged))
    }

    /// The other end has never seen this epoch, or has lost it.
    fn unknown_epoch(&mut self, source: CursorSource, head: &LogHead) -> CursorMeaning {
        if source == CursorSource::Frame {
            return CursorMeaning::Unchanged;
        }
        if head.oldest > 1 || (self.acknowledged > 0 && self.regression == Regression::Snapshot) {
            return CursorMeaning::Fork(ForkCause::ReceiverForgot);
        }
        self.acknowledged = 0;
        self.go_back();
        CursorMeaning::WentBack(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_forgotten_with_the_connection() {
        let second = Duration::from_secs(1);
        let mut sender = Sender::new(0, Regression::Replay);
        sender.sent(second, 3);
        assert!(sender.tick(second * 2), "a second later");
        sender.sent(second * 2, 3);
        assert_eq!(sender.deadline(), Some(second * 4), "twice as long");
        sender.connected();
        sender.sent(second * 10, 3);
        assert_eq!(sender.deadline(), Some(second * 11), "a second again");
    }

    #[test]
    fn another_epoch_begins_at_its_first_item() {
        let mut sender = Sender::new(5, Regression::Replay);
        sender.follow(Epoch(1));
        assert_eq!((sender.acknowledged(), sender.wants_page_after()), (5, Some(5)));
        sender.follow(Epoch(2));
        assert_eq!((sender.acknowledged(), sender.wants_page_after()), (0, Some(0)));
    }
}
