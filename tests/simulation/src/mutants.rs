//! Faults planted in the product, one at a time: the checkers must find each of them.

use crate::campaign::{Campaign, campaign};
use crate::scenario::Seed;
use phonefleet_protocol::mutant::Mutant;
use std::path::Path;
use std::time::Instant;

/// The planted fault of this name.
///
/// # Errors
/// There is none, or this build has none; says which there are.
pub fn find(name: &str) -> Result<Mutant, String> {
    if !cfg!(feature = "mutants") {
        return Err("this build has no planted faults; build it with the feature `mutants`".to_owned());
    }
    let known = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
    known.ok_or_else(|| {
        let names: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!("there is no planted fault {name:?}, only {}", names.join(", "))
    })
}

/// Plants a fault in everything that runs on this thread, or none.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    phonefleet_protocol::mutant::plant(mutant);
}

/// Plants nothing: this build cannot.
#[cfg(not(feature = "mutants"))]
pub fn plant(_: Option<Mutant>) {}

/// Each planted fault must be found within so many seeds, from [`first`] on.
pub const WITHIN: u64 = 150;

/// The seed that a hunt begins with: a little before the one that finds it today, where that
/// is a high one. It saves time, and nothing hangs on it.
const fn first(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::NoOutbid => 75,
        Mutant::IgnoreInventory | Mutant::ForgetRecovery => 20,
        Mutant::RebootDoesNothing | Mutant::SnapshotSkips | Mutant::ForgetDirty => 10,
        _ => 1,
    }
}

/// Plants every fault in turn, and says which seed found it. `false` when one survived.
pub fn hunt(jobs: usize, templates: &Path) -> bool {
    if !cfg!(feature = "mutants") {
        eprintln!("simulate: this build has no planted faults; build it with the feature `mutants`");
        return false;
    }
    let mut survivors = Vec::new();
    let start = Instant::now();
    for mutant in Mutant::ALL.iter().copied() {
        let from = first(mutant);
        let plan = Campaign {
            seeds: (from..from + WITHIN).map(Seed::new).collect(),
            jobs,
            within: None,
            until_found: true,
        };
        let report = campaign(&plan, templates, || plant(Some(mutant)));
        let name = mutant.name();
        if let Some((seed, found)) = report.failed.first() {
            let finding = found.first().map_or("", String::as_str);
            let finding = finding.get(..110).unwrap_or(finding);
            println!(
                "{name:26} seed {seed:4} {:5.1} s  {finding}",
                report.took.as_secs_f64(),
                seed = seed.number
            );
        } else {
            println!("{name:26} SURVIVED {} seeds: {}", report.runs, mutant.words());
            survivors.push(name);
        }
    }
    let took = start.elapsed().as_secs();
    println!("{} planted faults in {took} s, {} survived", Mutant::ALL.len(), survivors.len());
    survivors.is_empty()
}
