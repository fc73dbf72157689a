//! What fuzzing has found stays found, and some of what it would find is found on stable too:
//! every committed input of every target, then changes of them for a while.
//!
//! `PHONEFLEET_FUZZ_SECONDS` is how long each target is tried (half a second by default), and
//! `PHONEFLEET_FUZZ_SEED` what the changes follow from. An input that fails is printed, ready
//! to be committed to `fuzz/corpus/TARGET/`.

#![allow(clippy::unwrap_used, reason = "tests")]

use phonefleet_tests::fuzz::mutation::Mutator;
use phonefleet_tests::fuzz::{TARGETS, Target, corpus};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs one input; what it panics with is reported with the input.
fn run(target: &Target, input: &[u8], origin: &str) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let octal = input.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:03o}");
            text
        });
        panic!(
            "{}: {origin} fails; keep it:\nprintf '{octal}' > fuzz/corpus/{}/NAME",
            target.name, target.name
        );
    }
}

#[test]
fn every_committed_input_is_read_without_harm() {
    for target in TARGETS {
        for (name, input) in corpus::inputs(target.name) {
            run(target, &input, &name);
        }
    }
}

#[test]
fn changes_of_the_committed_inputs_are_read_without_harm() {
    let seed = variable("PHONEFLEET_FUZZ_SEED").unwrap_or(1);
    let time = variable("PHONEFLEET_FUZZ_SECONDS").map_or(Duration::from_millis(500), Duration::from_secs);
    for target in TARGETS {
        let inputs = corpus::inputs(target.name).into_iter().map(|(_, input)| input).collect();
        let mut mutator = Mutator::new(seed, inputs, target.words);
        let began = Instant::now();
        let mut tried = 0_u64;
        // Some on the slowest machine, too.
        while began.elapsed() < time || tried < 20 {
            run(target, &mutator.next_input(), &format!("input {tried} of seed {seed}"));
            tried += 1;
        }
        println!("{}: {tried} inputs from seed {seed}", target.name);
    }
}

/// A mutator that changed nothing, or always the same, would find nothing.
#[test]
fn the_mutator_changes_much_and_repeats_itself_from_its_seed() {
    let inputs = || vec![b"{\"kind\":\"snapshot.begin\",\"data\":{}}".to_vec(), b"12".to_vec()];
    let stream = |seed| {
        let mut mutator = Mutator::new(seed, inputs(), &["word"]);
        (0..200).map(|_| mutator.next_input()).collect::<Vec<_>>()
    };
    let first = stream(1);
    assert_eq!(first, stream(1));
    assert_ne!(first, stream(2));
    let different: std::collections::BTreeSet<_> = first.iter().collect();
    assert!(different.len() > 150, "{}", different.len());
    assert!(first.iter().any(|input| input.windows(4).any(|window| window == b"word")));
}
