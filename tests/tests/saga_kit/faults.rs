//! Failure, unknown outcome, timeout and repetition at each step, on both ways.

use crate::scenario::{SCENARIOS, Scenario};
use crate::verdict::{self, Essence, Expected, assert_attention, clean_slate, name_of, places};
use phonefleet_controller::store::saga::{Cause, SagaStatus};
use phonefleet_tests::saga_kit::fault::{self, Direction, Fault, Place};
use std::collections::BTreeMap;

const FORWARD: &[Fault] = &[
    Fault::Twice,
    Fault::FailsBefore,
    Fault::FailsAfter,
    Fault::Retries(3),
    Fault::Retries(6),
    Fault::HangsBefore,
    Fault::HangsAfter,
    Fault::Panics,
    Fault::Unreadable,
    Fault::HostRefuses,
    Fault::HostRetries(3),
    Fault::HostRetries(6),
    Fault::HostDeaf,
    Fault::HostMute,
    Fault::HostAhead,
];

const BACK: &[Fault] = &[
    Fault::Twice,
    Fault::FailsBefore,
    Fault::FailsAfter,
    Fault::Retries(6),
    Fault::HangsBefore,
    Fault::HangsAfter,
    Fault::Panics,
    Fault::Unreadable,
    Fault::HostRefuses,
    Fault::HostRetries(6),
    Fault::HostDeaf,
    Fault::HostMute,
    Fault::HostAhead,
];

/// What each step waited for in an undisturbed saga.
fn waits(scenario: &Scenario) -> BTreeMap<String, String> {
    let mut begun = scenario.begin();
    begun.world.settle();
    let story = begun.world.story(&begun.saga);
    let waits = story.into_iter().filter(|line| line.kind == "waits");
    waits.map(|line| (line.step, line.detail.unwrap_or_default())).collect()
}

#[test]
fn an_undisturbed_saga_completes() {
    for scenario in SCENARIOS {
        let mut begun = scenario.begin();
        begun.world.settle();
        let what = format!("{} of {}", scenario.saga_type, scenario.name);
        let saga = begun.world.saga(&begun.saga);
        assert_eq!(saga.status, SagaStatus::Completed, "{what}: {saga:#?}");
        let same = |other: &&Scenario| other.saga_type == scenario.saga_type;
        let by_host = |other: &Scenario| waits(other).values().any(|what| what == "HOST_ANSWER");
        assert!(SCENARIOS.iter().filter(same).any(by_host), "{what}: no step is done by the host");
        clean_slate(scenario, &mut begun, &what);
    }
}

#[test]
fn each_step_may_fail_hang_or_run_twice() {
    for scenario in SCENARIOS {
        let definition = scenario.definition();
        let waits = waits(scenario);
        let undisturbed = {
            let mut begun = scenario.begin();
            begun.world.settle();
            Essence::of(&begun)
        };
        for place in places(definition, Direction::Forward) {
            for fault in FORWARD {
                let step = name_of(definition, place);
                let what = format!("{} of {}: {fault:?} at {step}", scenario.saga_type, scenario.name);
                let mut begun = scenario.begin_after(|_| fault::order(&[(place, *fault)]));
                begun.world.settle();
                let expected = Expected::of(definition, *fault, waits.get(step).map(String::as_str));
                verdict::end(&mut begun, definition, place, expected, &what);
                if *fault == Fault::Twice {
                    assert_eq!(Essence::of(&begun), undisturbed, "{what}");
                }
                clean_slate(scenario, &mut begun, &what);
            }
        }
    }
}

/// Every step from which a saga turns round, with everything that may befall each step of
/// its way back.
#[test]
fn each_compensation_may_fail_hang_or_run_twice() {
    let mut runs = 0;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.definition().can_compensate()) {
        let definition = scenario.definition();
        for turns in places(definition, Direction::Forward) {
            for back in places(definition, Direction::Back).into_iter().filter(|back| back.step <= turns.step)
            {
                for fault in BACK {
                    one_way_back(scenario, turns, back, *fault);
                    runs += 1;
                }
            }
        }
    }
    assert!(runs > 100, "{runs}");
}

fn one_way_back(scenario: &Scenario, turns: Place, back: Place, fault: Fault) {
    let definition = scenario.definition();
    let (failed, step) = (name_of(definition, turns), name_of(definition, back));
    let what = format!("{} fails at {failed}: {fault:?} on the way back at {step}", scenario.saga_type);
    let faults = [(turns, Fault::FailsAfter), (back, fault)];
    let mut begun = scenario.begin_after(|_| fault::order(&faults));
    begun.world.settle();
    let saga = begun.world.saga(&begun.saga);
    let told = format!("{what}: {saga:#?}\n{:#?}", begun.world.story(&begun.saga));
    match fault {
        Fault::Panics | Fault::Unreadable | Fault::FailsBefore | Fault::FailsAfter => {
            assert_attention(&saga, step, &told);
        }
        // Whether the host has to do with this step is not known here: both are right.
        Fault::HostRefuses if saga.status == SagaStatus::NeedsAttention => {
            assert_attention(&saga, step, &told);
        }
        Fault::HangsBefore | Fault::HangsAfter => {
            assert_eq!((saga.status, saga.current_step.as_str()), (SagaStatus::Compensating, step), "{told}");
        }
        Fault::HostDeaf | Fault::HostMute if saga.status == SagaStatus::Compensating => {
            assert_eq!(saga.current_step, step, "{told}");
            assert!(saga.wait_reason.is_some(), "{told}");
        }
        _ => assert_eq!(saga.status, SagaStatus::Compensated, "{told}"),
    }
    begun.world.heal();
    if saga.status == SagaStatus::NeedsAttention {
        begun.world.resume(&begun.saga);
    }
    begun.world.settle();
    let saga = begun.world.saga(&begun.saga);
    assert_eq!(saga.status, SagaStatus::Compensated, "{what}: {saga:#?}");
    assert_eq!((saga.cause, saga.failed_step.as_deref()), (Some(Cause::Failed), Some(failed)), "{what}");
    clean_slate(scenario, &mut begun, &what);
}

/// A host that never comes back is given up: whatever the saga, it ends, and nothing is held.
#[test]
fn a_saga_whose_host_is_forgotten_ends() {
    for scenario in SCENARIOS {
        let definition = scenario.definition();
        for place in places(definition, Direction::Forward) {
            let step = name_of(definition, place);
            let what = format!("{} of {}: host forgotten at {step}", scenario.saga_type, scenario.name);
            let mut begun = scenario.begin_after(|_| fault::order(&[(place, Fault::HangsBefore)]));
            while !place.is_of(&begun.world.saga(&begun.saga)) && begun.world.turn() {}
            begun.world.forget_host();
            fault::order(&[]);
            begun.world.settle();
            let saga = begun.world.saga(&begun.saga);
            assert!(saga.status.is_terminal(), "{what}: {saga:#?}");
            assert!(begun.world.device(begun.device).deleted_at.is_some(), "{what}");
            assert_eq!(begun.world.inconsistencies(), Vec::<String>::new(), "{what}");
        }
    }
}
