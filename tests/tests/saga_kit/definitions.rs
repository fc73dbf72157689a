//! What is stored of sagas: names, order and versions of their steps, what they keep between
//! steps, and what subscribers are told.

use crate::scenario::SCENARIOS;
use phonefleet_controller::saga::REGISTRY;
use phonefleet_controller::saga::device_step::DeviceState;
use phonefleet_tests::golden;
use std::collections::BTreeMap;

const DEFINITIONS: &str = "saga/definitions.txt";

/// One line a definition: type, version, steps; `<` behind those that have a way back.
fn lines() -> BTreeMap<(String, u32), String> {
    REGISTRY
        .0
        .iter()
        .map(|definition| {
            let steps = definition.steps.iter().map(|step| {
                let back = if step.compensate.is_some() { "<" } else { "" };
                format!("{}{back}", step.name)
            });
            let steps: Vec<String> = steps.collect();
            let line = format!(
                "{} {} {:?}: {}",
                definition.saga_type,
                definition.version,
                definition.on_failure,
                steps.join(" ")
            );
            ((definition.saga_type.to_owned(), definition.version), line)
        })
        .collect()
}

/// A running saga knows its step by number and name, and its definition by type and version.
#[test]
fn a_change_of_steps_raises_the_version() {
    let today = lines();
    for (form, golden) in golden::every_form(DEFINITIONS) {
        for line in golden.lines() {
            let mut words = line.split(' ');
            let (Some(saga_type), Some(Ok(version))) = (words.next(), words.next().map(str::parse)) else {
                panic!("{form}: {line}");
            };
            if let Some(now) = today.get(&(saga_type.to_owned(), version)) {
                assert_eq!(
                    now, line,
                    "running sagas of version {version} would go on with other steps: raise the version of \
                     {saga_type}"
                );
            }
        }
    }
    let text = today.values().fold(String::new(), |text, line| text + line + "\n");
    golden::check(DEFINITIONS, &text);
}

/// Everything that sagas kept between their steps while the kit's scenarios ran: today's code
/// keeps the same, and reads what was kept before.
#[test]
fn what_sagas_keep_is_read_by_every_later_release() {
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    for scenario in SCENARIOS {
        let mut begun = scenario.begin();
        loop {
            let saga = begun.world.saga(&begun.saga);
            let key = format!("{} {} {}", scenario.saga_type, scenario.name, saga.current_step);
            kept.entry(format!("{key} {}", saga.state.len())).or_insert(saga.state);
            if !begun.world.turn() {
                break;
            }
        }
        let events: Vec<(String, String)> = begun.world.read(|connection| {
            let mut events =
                connection.prepare("SELECT event_type, payload FROM event_outbox ORDER BY seq")?;
            events.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        });
        for (kind, payload) in events {
            told.entry(kind).or_insert(payload);
        }
    }
    let text = |map: &BTreeMap<String, String>| {
        map.iter().fold(String::new(), |text, (key, value)| format!("{text}{key}: {value}\n"))
    };
    golden::check("saga/state.txt", &text(&kept));
    golden::check("saga/told.txt", &text(&told));
    for (form, golden) in golden::every_form("saga/state.txt") {
        for line in golden.lines() {
            let (_, state) = line.split_once(": ").unwrap_or_else(|| panic!("{form}: {line}"));
            let read: DeviceState =
                serde_json::from_str(state).unwrap_or_else(|error| panic!("{form}: {state}: {error}"));
            assert!(state.contains(&read.device_id.to_string()), "{form}: {state}");
        }
    }
    assert!(kept.len() > 20 && told.len() >= 6, "{} {}", kept.len(), told.len());
}
