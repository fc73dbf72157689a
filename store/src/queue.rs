//! Jobs that wait for the writer, in two lanes: those whose caller can be told to come back,
//! because a person waits for the answer, and the daemon's own. While both wait they take
//! turns, so neither holds up the other: an order does not queue behind the steps of the
//! thousand sagas before it, and those go on under any number of orders.

use crate::job::Job;
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// Jobs that may wait. A caller that finds the queue full waits in line for each free place,
/// which takes as much of a processor as a small job itself: measured by `benches/events`.
pub(crate) const QUEUE_JOBS: usize = 4096;

/// A job, and whether somebody waits for its answer.
pub(crate) struct Queued<N> {
    pub job: Box<dyn Job<N>>,
    pub is_urgent: bool,
}

/// The writer's end of the queue.
pub(crate) struct Queue<N> {
    arriving: mpsc::Receiver<Queued<N>>,
    urgent: VecDeque<Box<dyn Job<N>>>,
    ordinary: VecDeque<Box<dyn Job<N>>>,
    /// The lane that took its turn last.
    was_urgent: bool,
}

/// A queue, and where jobs are put in.
pub(crate) fn queue<N>() -> (mpsc::Sender<Queued<N>>, Queue<N>) {
    let (sender, arriving) = mpsc::channel(QUEUE_JOBS);
    let (urgent, ordinary) = (VecDeque::new(), VecDeque::new());
    (sender, Queue { arriving, urgent, ordinary, was_urgent: false })
}

impl<N> Queue<N> {
    /// Waits for the next job; `None` when no more can come.
    pub fn wait(&mut self) -> Option<Box<dyn Job<N>>> {
        if let Some(job) = self.next() {
            return Some(job);
        }
        let first = self.arriving.blocking_recv()?;
        self.sort_in(first);
        self.next()
    }

    /// The next job, if one waits.
    pub fn next(&mut self) -> Option<Box<dyn Job<N>>> {
        // What is in the lanes counts, too, or the bound would be none.
        while self.urgent.len() + self.ordinary.len() < QUEUE_JOBS {
            let Ok(arrived) = self.arriving.try_recv() else { break };
            self.sort_in(arrived);
        }
        self.was_urgent = !self.urgent.is_empty() && (!self.was_urgent || self.ordinary.is_empty());
        if self.was_urgent { self.urgent.pop_front() } else { self.ordinary.pop_front() }
    }

    fn sort_in(&mut self, Queued { job, is_urgent }: Queued<N>) {
        let lane = if is_urgent { &mut self.urgent } else { &mut self.ordinary };
        lane.push_back(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::queued;
    use crate::tail::Tails;
    use crate::transaction::Tx;
    use rusqlite::Connection;

    fn put(sender: &mpsc::Sender<Queued<u32>>, is_urgent: bool, number: u32) {
        let announce = move |tx: &mut Tx<'_, u32>| {
            tx.announce(number);
            Ok::<_, rusqlite::Error>(())
        };
        let (job, _answer) = queued(announce);
        sender.try_send(Queued { job, is_urgent }).map_err(|_| "the queue is full").unwrap();
    }

    fn taken(queue: &mut Queue<u32>, most: usize) -> Vec<u32> {
        let connection = Connection::open_in_memory().unwrap();
        let mut notices = Vec::new();
        for _ in 0..most {
            let Some(mut job) = queue.next() else { break };
            assert!(job.run(&mut Tx::new(&connection, &mut notices, &mut Tails::default())));
        }
        notices
    }

    #[test]
    fn lanes_take_turns_and_keep_their_order() {
        let (sender, mut queue) = queue();
        (0..6).for_each(|number| put(&sender, false, number));
        (100..103).for_each(|number| put(&sender, true, number));
        assert_eq!(taken(&mut queue, 4), [100, 0, 101, 1]);
        put(&sender, true, 103);
        assert_eq!(taken(&mut queue, 99), [102, 2, 103, 3, 4, 5]);
        put(&sender, true, 104);
        put(&sender, true, 105);
        assert_eq!(taken(&mut queue, 99), [104, 105], "alone, a lane has every turn");
        assert!(queue.next().is_none());
    }

    /// What was taken out of the channel still counts, or there would be no bound.
    #[test]
    fn what_waits_is_bounded() {
        let (sender, mut queue) = queue();
        let mut put_in = 0;
        for _ in 0..3 {
            while sender.capacity() > 0 {
                put(&sender, false, put_in);
                put_in += 1;
            }
            assert_eq!(taken(&mut queue, 1).len(), 1);
        }
        assert!((QUEUE_JOBS..=2 * QUEUE_JOBS + 3).contains(&(put_in as usize)), "{put_in} jobs wait");
    }

    #[test]
    fn it_ends_when_all_is_taken_and_nobody_can_put_in_more() {
        let (sender, mut queue) = queue();
        put(&sender, false, 1);
        drop(sender);
        assert!(queue.wait().is_some());
        assert!(queue.wait().is_none());
    }
}
