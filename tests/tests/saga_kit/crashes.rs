//! Death of the controller at each commit of each saga, and another release in between.

use crate::scenario::{Begun, SCENARIOS, Scenario};
use crate::verdict::{Essence, clean_slate, name_of, places};
use phonefleet_controller::order::Verb;
use phonefleet_controller::store::saga::SagaStatus;
use phonefleet_tests::saga_kit::fault::{self, Direction, Fault, Place};
use phonefleet_tests::saga_kit::world::Crash;

/// The ways that a saga may take: undisturbed, and turned round at each of its steps.
fn ways(scenario: &Scenario) -> Vec<Option<(Place, Fault)>> {
    let forward = places(scenario.definition(), Direction::Forward).into_iter();
    let faults =
        forward.flat_map(|place| [Fault::FailsAfter, Fault::HangsAfter].map(|fault| Some((place, fault))));
    std::iter::once(None).chain(faults).collect()
}

fn describe(scenario: &Scenario, way: Option<(Place, Fault)>) -> String {
    let way = way.map_or("undisturbed".to_owned(), |(place, fault)| {
        format!("{fault:?} at {}", name_of(scenario.definition(), place))
    });
    format!("{} of {}, {way}", scenario.saga_type, scenario.name)
}

fn begin(scenario: &Scenario, way: Option<(Place, Fault)>) -> Begun {
    scenario.begin_after(|_| fault::order(way.as_slice()))
}

/// An operator's part, where a saga asks for one or waits for ever.
fn help(begun: &mut Begun) {
    begun.world.settle();
    begun.world.heal();
    if begun.world.saga(&begun.saga).status == SagaStatus::NeedsAttention {
        begun.world.resume(&begun.saga);
    }
    begun.world.settle();
}

/// Whatever is lost in memory at whatever commit: the saga ends as it would have.
#[test]
fn a_controller_may_die_at_each_commit_of_each_saga() {
    let mut deaths = 0;
    for scenario in SCENARIOS {
        for way in ways(scenario) {
            let what = describe(scenario, way);
            let undisturbed = {
                let mut begun = begin(scenario, way);
                help(&mut begun);
                Essence::of(&begun)
            };
            for crash in [Crash::Before, Crash::After] {
                for nth in 1.. {
                    let what = format!("{what}: died {crash:?} commit {nth}");
                    let mut begun = begin(scenario, way);
                    begun.world.crash_at(nth, crash);
                    begun.world.settle();
                    if begun.world.is_pending() {
                        break;
                    }
                    deaths += 1;
                    help(&mut begun);
                    assert_eq!(
                        Essence::of(&begun),
                        undisturbed,
                        "{what}: {:#?}",
                        begun.world.story(&begun.saga)
                    );
                    if nth % 5 == 0 {
                        clean_slate(scenario, &mut begun, &what);
                    } else {
                        assert_eq!(begun.world.inconsistencies(), Vec::<String>::new(), "{what}");
                    }
                }
            }
        }
    }
    println!("died {deaths} times");
    assert!(deaths > 500, "{deaths}");
}

/// Another release in which the definition has another version: a running saga stops for an
/// operator and says why, its device can still be deleted, and the old release ends it.
#[test]
fn an_upgrade_between_any_two_commits_strands_nothing() {
    let mut stopped = 0;
    for scenario in SCENARIOS {
        for way in ways(scenario) {
            let what = describe(scenario, way);
            let undisturbed = {
                let mut begun = begin(scenario, way);
                help(&mut begun);
                Essence::of(&begun)
            };
            for nth in 1.. {
                let what = format!("{what}: another release behind commit {nth}");
                let mut begun = begin(scenario, way);
                begun.world.upgrade_at(nth);
                begun.world.settle();
                if begun.world.is_pending() {
                    break;
                }
                if begun.world.saga(&begun.saga).status == SagaStatus::Running {
                    // It hangs for ever: nobody has woken it yet.
                    begun.world.heal();
                    begun.world.settle();
                }
                let saga = begun.world.saga(&begun.saga);
                if saga.status != SagaStatus::NeedsAttention {
                    assert!(saga.status.is_terminal(), "{what}: {saga:#?}");
                    continue;
                }
                stopped += 1;
                let why = saga.error_message.as_deref().unwrap_or_default();
                let version = scenario.definition().version.to_string();
                let stopped_before = why.starts_with(fault::ORDERED);
                let named = why.contains(scenario.saga_type) && why.contains(&version);
                assert!(stopped_before || named, "{what}: {why}");
                if nth % 2 == 0 && scenario.saga_type != "DEVICE_DELETION" {
                    // The new release deletes the device all the same.
                    fault::order(&[]);
                    let deletion = begun.world.verb(begun.device, Verb::Delete).saga_id;
                    begun.world.settle();
                    let end = begun.world.saga(&deletion);
                    assert_eq!(end.status, SagaStatus::Completed, "{what}: {end:#?}");
                    assert_eq!(begun.world.saga(&begun.saga).status, SagaStatus::Abandoned, "{what}");
                    assert_eq!(begun.world.inconsistencies(), Vec::<String>::new(), "{what}");
                    continue;
                }
                // Back to the old release, which goes on where it was. The deadline begins anew.
                begun.world.run_release(0);
                for saga in begun.world.unfinished() {
                    begun.world.resume(&saga.saga_id);
                }
                help(&mut begun);
                assert_eq!(Essence::of(&begun), undisturbed, "{what}: {:#?}", begun.world.story(&begun.saga));
                assert_eq!(begun.world.inconsistencies(), Vec::<String>::new(), "{what}");
            }
        }
    }
    assert!(stopped > 100, "{stopped}");
}
