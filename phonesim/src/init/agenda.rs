//! What is to happen later: a list of times and events, for one loop that sleeps until the
//! next of them.

use std::time::Instant;

/// Events with their times; of two at the same time the one entered first comes first.
#[derive(Debug)]
pub struct Agenda<E> {
    /// Ordered by time.
    entries: Vec<(Instant, E)>,
}

impl<E> Agenda<E> {
    /// Nothing to do.
    pub fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Enters an event.
    pub fn enter(&mut self, at: Instant, event: E) {
        let place = self.entries.partition_point(|(time, _)| *time <= at);
        self.entries.insert(place, (at, event));
    }

    /// When the next event is due, if there is any.
    pub fn next_at(&self) -> Option<Instant> {
        self.entries.first().map(|(at, _)| *at)
    }

    /// Takes the next event if it is due.
    pub fn take_due(&mut self, now: Instant) -> Option<E> {
        if self.next_at()? > now {
            return None;
        }
        Some(self.entries.remove(0).1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn events_come_by_time_then_by_entry() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut agenda = Agenda::new();
        agenda.enter(later, "third");
        agenda.enter(start, "first");
        agenda.enter(start, "second");
        assert_eq!(agenda.take_due(start), Some("first"));
        assert_eq!(agenda.take_due(start), Some("second"));
        assert_eq!(agenda.take_due(start), None);
        assert_eq!(agenda.next_at(), Some(later));
        assert_eq!(agenda.take_due(later), Some("third"));
        assert_eq!(agenda.next_at(), None);
    }
}
