//! What a frame means to a receiver whose cursor is known. Pure.

use super::chain::Chain;
use super::message::{Epoch, Frame, Position};
use crate::mutant::{Mutant, planted};

/// What to do with the items of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No items: only the acknowledgement counts, and no answer is due.
    NoItems,
    /// Apply the items from index `skip` on; the cursor then stands at `end`.
    Apply {
        /// How many items were applied before.
        skip: usize,
        /// The cursor after the last item.
        end: Position,
        /// The epoch that is left for good, when a new one begins.
        leaves: Option<Epoch>,
    },
    /// All of it was applied before: acknowledge again.
    Duplicate,
    /// Something is missing, or the logs differ: answer with the cursor, the sender decides.
    Gap,
    /// This epoch was left for good: ask for a new one.
    Retired,
}

/// Judges a frame. `retired` tells whether an epoch was left for good.
pub fn judge(cursor: Option<&Position>, retired: bool, frame: &Frame) -> Verdict {
    if frame.items.is_empty() {
        return Verdict::NoItems;
    }
    let known = cursor.filter(|cursor| cursor.epoch == frame.epoch);
    if known.is_none() && retired {
        return Verdict::Retired;
    }
    let through = known.map_or(0, |cursor| cursor.through);
    if planted(Mutant::ApplyGap) && known.is_some() && frame.first > through + 1 {
        let chain = frame.items.iter().fold(frame.chain, |chain, item| chain.then(item.get()));
        let end = Position { epoch: frame.epoch, through: frame.last(), chain };
        return Verdict::Apply { skip: 0, end, leaves: None };
    }
    let expected = known.map_or_else(|| Chain::genesis(frame.epoch), |cursor| cursor.chain);
    if frame.first > through + 1 {
        return Verdict::Gap;
    }
    if planted(Mutant::ApplyTwice) && known.is_some() && frame.last() <= through {
        let chain = frame.items.iter().fold(frame.chain, |chain, item| chain.then(item.get()));
        let end = Position { epoch: frame.epoch, through: frame.last(), chain };
        return Verdict::Apply { skip: 0, end, leaves: None };
    }
    if known.is_some() && frame.last() <= through {
        return Verdict::Duplicate;
    }
    // first <= through + 1 <= last: the number of overlapping items fits.
    let skip = usize::try_from(through + 1 - frame.first).unwrap_or(usize::MAX);
    let mut chain = frame.chain;
    for (index, item) in frame.items.iter().enumerate() {
        if index == skip && chain != expected {
            return Verdict::Gap;
        }
        chain = chain.then(item.get());
    }
    let leaves = match (known, cursor) {
        (None, Some(left)) => Some(left.epoch),
        _ => None,
    };
    Verdict::Apply { skip, end: Position { epoch: frame.epoch, through: frame.last(), chain }, leaves }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn json(text: &str) -> String {
        format!("\"{text}\"")
    }

    fn frame(epoch: u64, before: &[&str], items: &[&str]) -> Frame {
        let epoch = Epoch(epoch);
        let chain = before.iter().fold(Chain::genesis(epoch), |chain, item| chain.then(&json(item)));
        let items = items.iter().map(|text| RawValue::from_string(json(text)).unwrap()).collect();
        Frame { epoch, first: before.len() as u64 + 1, chain, items, ack: None, resend: false, refused: None }
    }

    fn cursor(epoch: u64, items: &[&str]) -> Position {
        let epoch = Epoch(epoch);
        let chain = items.iter().fold(Chain::genesis(epoch), |chain, item| chain.then(&json(item)));
        Position { epoch, through: items.len() as u64, chain }
    }

    #[test]
    fn what_continues_is_applied_and_overlap_is_trimmed() {
        let end = cursor(1, &["1", "2", "3"]);
        let apply = |skip| Verdict::Apply { skip, end, leaves: None };
        assert_eq!(judge(None, false, &frame(1, &[], &["1", "2", "3"])), apply(0));
        assert_eq!(judge(Some(&cursor(1, &["1"])), false, &frame(1, &["1"], &["2", "3"])), apply(0));
        assert_eq!(judge(Some(&cursor(1, &["1", "2"])), false, &frame(1, &[], &["1", "2", "3"])), apply(2));
        assert_eq!(judge(Some(&end), false, &frame(1, &["1"], &["2", "3"])), Verdict::Duplicate);
        assert_eq!(judge(Some(&end), false, &frame(1, &["1"], &[])), Verdict::NoItems);
    }

    #[test]
    fn gaps_and_other_histories_are_answered_not_applied() {
        assert_eq!(judge(Some(&cursor(1, &["1"])), false, &frame(1, &["1", "2"], &["3"])), Verdict::Gap);
        assert_eq!(judge(None, false, &frame(1, &["1"], &["2"])), Verdict::Gap);
        // Same numbers, another item 1: with and without overlap.
        assert_eq!(judge(Some(&cursor(1, &["1"])), false, &frame(1, &["x"], &["2"])), Verdict::Gap);
        assert_eq!(judge(Some(&cursor(1, &["1"])), false, &frame(1, &[], &["x", "2"])), Verdict::Gap);
    }

    #[test]
    fn a_new_epoch_begins_at_its_first_item_and_an_old_one_never_returns() {
        let old = cursor(1, &["1", "2"]);
        let new = judge(Some(&old), false, &frame(2, &[], &["a"]));
        assert_eq!(new, Verdict::Apply { skip: 0, end: cursor(2, &["a"]), leaves: Some(Epoch(1)) });
        assert_eq!(judge(Some(&old), false, &frame(2, &["a"], &["b"])), Verdict::Gap);
        assert_eq!(judge(Some(&cursor(2, &["a"])), true, &frame(1, &["1", "2"], &["3"])), Verdict::Retired);
    }
}
