//! Bugs put in on purpose, between the world and an honest endpoint: the claims are worth
//! something only if they find them.

use crate::database::Transaction;
use crate::properties::{history, run};
use phonefleet_protocol::stream::durable::LogRead;
use phonefleet_protocol::stream::receiver::{Verdict, judge};
use phonefleet_protocol::stream::{Durable, Endpoint, Frame, Message, Position};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::cell::Cell;
use std::time::Duration;

/// What an implementation may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Speaks inside the transaction, before the disk has it.
    AcknowledgesBeforeCommit,
    /// Takes whatever has the right numbers.
    IgnoresChains,
    /// Applies an overlap again.
    AppliesOverlap,
    /// Lets an epoch come back.
    ForgetsRetiredEpochs,
    /// Never sends again what was lost.
    NeverGoesBack,
}

/// What of `frame` is applied by a receiver that looks at numbers only: rewritten so that an
/// honest one takes it. `None` where the numbers do not fit either.
pub fn ignore_chain(frame: &Frame, cursor: Option<Position>) -> Option<Frame> {
    let cursor = cursor.filter(|cursor| cursor.epoch == frame.epoch)?;
    let fits = !frame.items.is_empty() && frame.first <= cursor.through + 1 && frame.last() > cursor.through;
    fits.then(|| {
        let skip = (cursor.through + 1 - frame.first) as usize;
        Frame {
            first: cursor.through + 1,
            chain: cursor.chain,
            items: frame.items[skip..].to_vec(),
            ..frame.clone()
        }
    })
}

/// The position that `frame` itself claims to end at.
pub fn claimed_end(frame: &Frame) -> Position {
    let chain = frame.items.iter().fold(frame.chain, |chain, item| chain.then(item.get()));
    Position { epoch: frame.epoch, through: frame.last(), chain }
}

/// Puts another acknowledgement into a message.
pub fn with_cursor(message: Message, cursor: Option<Position>) -> Message {
    match message {
        Message::Hello(mut hello) => {
            hello.cursor = cursor;
            Message::Hello(hello)
        }
        Message::Frame(frame) => Message::Frame(Frame { ack: cursor, ..frame }),
    }
}

/// Applies what the receiver is about to trim.
pub fn apply_overlap(frame: &Frame, transaction: &mut Transaction<'_>) {
    let cursor = transaction.work.position();
    if let Verdict::Apply { skip, .. } = judge(cursor.as_ref(), false, frame) {
        for (number, item) in (frame.first..).zip(&frame.items).take(skip) {
            // A failing disk fails the whole transaction a moment later.
            let _ = transaction.apply(frame.epoch, number, item);
        }
    }
}

/// What an endpoint says whose silence timer never runs out: hellos by the clock, frames by a
/// clock that stands still.
pub fn poll_without_going_back<L: LogRead>(
    endpoint: &mut Endpoint,
    now: Duration,
    log: &mut L,
) -> Result<Option<Message>, L::Error> {
    match endpoint.clone().poll(now, log)? {
        Some(Message::Hello(_)) => endpoint.poll(now, log),
        _ => endpoint.poll(Duration::ZERO, log),
    }
}

/// The number of the first random history that breaks a claim, and how.
fn first_failure(fault: Option<Fault>, cases: u32) -> Option<(u32, String)> {
    let config = Config { cases, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let tried = Cell::new(0);
    let outcome = runner.run(&history(), |history| {
        tried.set(tried.get() + 1);
        run(&history, fault)
    });
    match outcome {
        Ok(()) => None,
        Err(TestError::Fail(reason, _) | TestError::Abort(reason)) => Some((tried.get(), reason.to_string())),
    }
}

#[test]
fn planted_faults_are_found() {
    // Each with the most histories that finding it may take.
    for (fault, cases) in [
        (Fault::AcknowledgesBeforeCommit, 100),
        (Fault::IgnoresChains, 500),
        (Fault::AppliesOverlap, 100),
        (Fault::ForgetsRetiredEpochs, 100),
        (Fault::NeverGoesBack, 100),
    ] {
        let (tried, reason) = first_failure(Some(fault), cases)
            .unwrap_or_else(|| panic!("{fault:?} was not found by {cases} histories"));
        println!("{fault:?}: found by history {tried}: {}", reason.lines().next().unwrap_or_default());
    }
}

#[test]
fn the_same_histories_pass_without_a_fault() {
    assert_eq!(first_failure(None, 500), None);
}
