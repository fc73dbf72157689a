//! One seed is one run, to the byte; and some seeds, in every build.

use phonefleet_simulation::campaign::{Campaign, campaign, regressions};
use phonefleet_simulation::run::run;
use phonefleet_simulation::scenario::Seed;
use phonefleet_simulation::scenario::generate::scenario;
use phonefleet_simulation::trace::Detail;
use phonefleet_simulation::world;

#[test]
fn one_seed_gives_one_trace_to_the_byte() {
    let templates = world::templates().unwrap();
    for seed in [2, 3, 5, 7, 11, 13] {
        let scenario = scenario(Seed::new(seed));
        let once = run(&scenario, templates.path(), Detail::Everything);
        let again = run(&scenario, templates.path(), Detail::Everything);
        assert!(once.story.lines().count() > 100, "seed {seed} tells next to nothing");
        for (number, (one, other)) in once.story.lines().zip(again.story.lines()).enumerate() {
            assert_eq!(one, other, "seed {seed}, line {number}");
        }
        assert_eq!((once.hash, once.story.len()), (again.hash, again.story.len()), "seed {seed}");
    }
}

#[test]
fn another_seed_is_another_run() {
    let templates = world::templates().unwrap();
    let hashes = [1, 2].map(|seed| run(&scenario(Seed::new(seed)), templates.path(), Detail::Hash).hash);
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn promises_hold_in_some_seeds() {
    let templates = world::templates().unwrap();
    let seeds: Vec<Seed> = (1..=30).map(Seed::new).chain(regressions()).collect();
    let runs = seeds.len();
    let plan = Campaign { seeds, jobs: 2, within: None, until_found: false };
    let report = campaign(&plan, templates.path(), || {});
    assert_eq!(report.runs, runs);
    assert!(report.failed.is_empty(), "{:#?}", report.failed);
}
