//! The claims, over random histories.

use crate::channel::Side;
use crate::history::{Action, History, Outcome};
use crate::planted::Fault;
use crate::world::World;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use std::time::Duration;

/// How long a healed world may take to come to rest: the longest waits for a hello and for an
/// acknowledgement, one after the other, and some.
pub const REST: Duration = Duration::from_secs(90);

/// Messages that a healed world may need to come to rest, for so many kept rows and so many
/// messages that are on their way when it begins.
fn messages(rows: u64, waiting: u64) -> u64 {
    20 + 6 * rows + 4 * waiting
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Agent), Just(Side::Controller)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        8 => Just(Outcome::Commits),
        1 => Just(Outcome::CommitFails),
        1 => (0u32..20).prop_map(Outcome::DiskFails),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let which = any::<u8>;
    prop_oneof![
        10 => (side(), which(), 0u8..12, prop_oneof![9 => 1u8..4, 1 => 1u8..40], proptest::bool::weighted(0.2))
            .prop_map(|(side, which, key, times, remove)| Action::Write { side, which, key, times, remove }),
        24 => (side(), prop::collection::vec((any::<u16>(), proptest::bool::weighted(0.2)), 1..4), outcome())
            .prop_map(|(to, picks, outcome)| Action::Deliver { to, picks, outcome }),
        4 => (side(), any::<u16>()).prop_map(|(to, pick)| Action::Lose { to, pick }),
        2 => side().prop_map(|to| Action::Forget { to }),
        2 => (side(), any::<bool>()).prop_map(|(to, partitioned)| Action::Partition { to, partitioned }),
        5 => (1u32..5000).prop_map(|milliseconds| Action::Wait { milliseconds }),
        6 => (1u32..5000).prop_map(|milliseconds| Action::Flow { milliseconds }),
        1 => (30_000u32..90_000).prop_map(|milliseconds| Action::Wait { milliseconds }),
        2 => (side(), which()).prop_map(|(side, which)| Action::Crash { side, which }),
        1 => (side(), which()).prop_map(|(side, which)| Action::Disconnect { side, which }),
        2 => (side(), which()).prop_map(|(side, which)| Action::Connect { side, which }),
        3 => (side(), which()).prop_map(|(side, which)| Action::Backup { side, which }),
        2 => (side(), which(), any::<u8>()).prop_map(|(side, which, pick)| Action::Restore { side, which, pick }),
        1 => (side(), which()).prop_map(|(side, which)| Action::Empty { side, which }),
        1 => (side(), any::<bool>()).prop_map(|(side, backup)| Action::Clone { side, backup }),
        1 => (side(), which()).prop_map(|(side, which)| Action::Kill { side, which }),
        4 => (side(), which(), 0u8..6).prop_map(|(side, which, keep)| Action::Prune { side, which, keep }),
        1 => (side(), which(), 1u8..4).prop_map(|(side, which, reads)| Action::ReadsFail { side, which, reads }),
    ]
}

/// Whether a history leaves the databases their own.
fn is_honest(action: &Action) -> bool {
    !matches!(action, Action::Restore { .. } | Action::Empty { .. } | Action::Clone { .. })
}

/// A random history; one in three of them without restored, emptied and cloned databases.
pub fn history() -> impl Strategy<Value = History> {
    let actions = (prop::collection::vec(action(), 5..80), prop::bool::weighted(0.33));
    let actions = actions.prop_map(|(mut actions, honest)| {
        if honest {
            actions.retain(is_honest);
        }
        actions
    });
    (actions, 1usize..4, any::<bool>(), any::<bool>(), any::<u8>()).prop_map(
        |(actions, page, remembers, reconnects, survivor)| History {
            actions,
            page,
            remembers,
            reconnects,
            survivor,
        },
    )
}

/// Runs a history, heals the world and tests every claim.
pub fn run(history: &History, fault: Option<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::new(history.page, history.remembers, fault);
    for action in &history.actions {
        world.act(action);
        whole(&world)?;
    }
    world.heal(history.survivor, history.reconnects);
    whole(&world)?;
    come_to_rest(&mut world)?;
    // What a late message told of a database that is no more is found out by the next item or
    // the next connection.
    if history.reconnects || !world.tampered {
        world.test_at_rest();
        whole(&world)?;
    }
    world.write_afresh();
    come_to_rest(&mut world)?;
    world.test_at_rest();
    whole(&world)
}

fn come_to_rest(world: &mut World) -> Result<(), TestCaseError> {
    let waiting = world.waiting();
    // A fork gives up rows that were sent before the other end could say so.
    let before = world.rows();
    let (said, took) = world.settle(REST);
    whole(world)?;
    let bound = messages(world.rows().max(before), waiting);
    prop_assert!(
        said <= bound,
        "{} messages in {:?} for {} rows, {} on their way",
        said,
        took,
        world.rows(),
        waiting
    );
    Ok(())
}

fn whole(world: &World) -> Result<(), TestCaseError> {
    match world.violations().first() {
        None => Ok(()),
        Some(violation) => Err(TestCaseError::fail(violation.clone())),
    }
}

#[test]
fn every_claim_holds_in_every_history() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stream/regressions.txt");
    let config = Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds))),
        source_file: Some(file!()),
        ..Config::default()
    };
    TestRunner::new(config).run(&history(), |history| run(&history, None)).unwrap_or_else(|error| {
        panic!("{error}");
    });
}
