//! How the world heals, and the claims of a world at rest.

use crate::channel::Side;
use crate::history::Outcome;
use crate::world::World;
use std::time::Duration;

impl World {
    /// Nothing hostile happens from here on: one end on each side, connected, over a channel
    /// that behaves. What was on its way still arrives; then, with `reconnects`, both sides
    /// connect anew.
    pub fn heal(&mut self, survivor: u8, reconnects: bool) {
        for side in Side::BOTH {
            self.channel.partition(side, false);
            self.kill(side, survivor);
        }
        for side in Side::BOTH {
            for _ in 0..self.channel.waiting(side) {
                let parcel = self.channel.take(side, 0, false).expect("counted");
                self.deliver(side, &[parcel.payload], Outcome::Commits);
            }
        }
        for side in Side::BOTH {
            if reconnects || !self.ends[side.index()][0].connected {
                self.connect(side, 0);
            }
        }
    }

    /// Something new happens on both sides.
    pub fn write_afresh(&mut self) {
        for side in Side::BOTH {
            self.write(side, 0, 0, 1, false);
        }
    }

    /// Lets a healed world come to rest. Returns the messages and the time that took.
    pub fn settle(&mut self, limit: Duration) -> (u64, Duration) {
        let (said, began) = (self.channel.said, self.now);
        if !self.flow(began + limit) {
            self.ledger.violated(format!("no rest after {limit:?}"));
        }
        (self.channel.said - said, self.now.saturating_sub(began))
    }

    /// Claims of a healed world at rest: everything is applied and acknowledged, and each side
    /// believes of the other what that one knows of itself.
    pub fn test_at_rest(&mut self) {
        for side in Side::BOTH {
            let (own, other) = (&self.ends[side.index()][0], &self.ends[side.other().index()][0]);
            let head = own.database.log_head();
            let cursor = other.database.position();
            let whole = cursor.is_some_and(|cursor| {
                (cursor.epoch, cursor.through, cursor.chain) == (head.epoch, head.last, head.chain)
            });
            let acknowledged = (own.database.acknowledged, own.endpoint.acknowledged());
            if !own.endpoint.is_open() {
                self.ledger.violated(format!("{side:?} never heard the other end"));
            } else if !whole {
                self.ledger.violated(format!("{side:?} has {head:?}, the other end has {cursor:?}"));
            } else if acknowledged != (head.last, head.last) {
                self.ledger.violated(format!("{side:?} has {head:?}, acknowledged {acknowledged:?}"));
            } else if own.database.state != other.database.view.state {
                let (state, view) = (&own.database.state, &other.database.view.state);
                self.ledger.violated(format!("{side:?} knows {state:?}, the other end believes {view:?}"));
            }
        }
    }
}
