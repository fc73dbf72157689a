//! Changes inputs at random, from a seed. It does not look at what its inputs reach, as a
//! real fuzzer does; it finds what lies near the committed inputs, everywhere and at once.

use crate::simulation::time::SeededIds;
use phonefleet_protocol::id::IdSource;

/// Inputs longer than this are cut.
const MOST_BYTES: usize = 64 * 1024;

/// A stream of changed inputs.
#[derive(Debug)]
pub struct Mutator {
    random: SeededIds,
    inputs: Vec<Vec<u8>>,
    words: &'static [&'static str],
}

impl Mutator {
    /// Changes of these inputs, which must not be none, all of them following from `seed`.
    pub fn new(seed: u64, inputs: Vec<Vec<u8>>, words: &'static [&'static str]) -> Self {
        Self { random: SeededIds::new(seed), inputs, words }
    }

    /// Another input: one of the first ones with one to eight changes.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.inputs[self.below(self.inputs.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input.truncate(MOST_BYTES);
        input
    }

    fn change(&self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(16)).min(input.len());
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.byte(),
            2 => input.insert(at, self.byte()),
            3 if at < end => drop(input.drain(at..end)),
            4 if at < end => {
                let piece = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            5 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())].bytes();
                // In the place of something, or between.
                let end = if self.below(2) == 0 { at } else { end.max(at) };
                input.splice(at..end, word);
            }
            6 => input.truncate(at),
            7 => {
                let other = &self.inputs[self.below(self.inputs.len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                // A number becomes an extreme one.
                let digit = |byte: &u8| byte.is_ascii_digit();
                if let Some(start) = (at..input.len()).find(|at| digit(&input[*at])) {
                    let end = (start..input.len()).find(|at| !digit(&input[*at])).unwrap_or(input.len());
                    let extremes = [
                        "0",
                        "1",
                        "255",
                        "65536",
                        "4294967296",
                        "9223372036854775808",
                        "18446744073709551615",
                    ];
                    input.splice(start..end, extremes[self.below(extremes.len())].bytes());
                }
            }
        }
    }

    fn byte(&self) -> u8 {
        self.random.random() as u8
    }

    fn below(&self, bound: usize) -> usize {
        (self.random.random() % bound.max(1) as u64) as usize
    }
}
