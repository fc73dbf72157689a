//! Durable multi-step transactions.
//!
//! | module | what lives there |
//! |---|---|
//! | [`definition`] | what a saga is: steps, outcomes, what follows a failure |
//! | [`engine`] | one transition of one saga, inside a transaction |
//! | [`runner`] | wakes sagas: the timer, recovery, one bad saga never stops the others |
//! | [`device_step`] | the step that most sagas share: a wish, and its host's answer |
//! | `device_creation` … `device_deletion` | one file for each saga |

pub mod definition;
pub mod device_creation;
pub mod device_deletion;
pub mod device_reboot;
pub mod device_reset;
pub mod device_start;
pub mod device_step;
pub mod device_stop;
pub mod engine;
pub mod runner;

pub use definition::{Definition, OnFailure, Registry, Step, StepContext, StepOutcome};
pub use engine::{Engine, Next, RetryPolicy, VerbError};
pub use runner::Runner;

use phonefleet_protocol::id::{IdSource, SagaId};
use phonefleet_protocol::time::Timestamp;
use std::time::Duration;

/// Every saga of the controller.
pub const REGISTRY: Registry = Registry(&[
    &device_creation::DEFINITION,
    &device_start::DEFINITION,
    &device_stop::DEFINITION,
    &device_reboot::DEFINITION,
    &device_reset::DEFINITION,
    &device_deletion::DEFINITION,
]);

/// The same definitions with other deadlines, by type. Called once, at the daemon's start:
/// definitions live as long as the process, so the changed ones are leaked.
pub fn registry_with_deadlines(deadlines: &[(&str, Duration)]) -> Registry {
    let definitions: Vec<&'static Definition> = REGISTRY
        .0
        .iter()
        .map(|definition| {
            let mut changed = **definition;
            if let Some((_, deadline)) = deadlines.iter().find(|(name, _)| *name == definition.saga_type) {
                changed.timeout = Some(*deadline);
            }
            &*Box::leak(Box::new(changed))
        })
        .collect();
    Registry(Box::leak(definitions.into_boxed_slice()))
}

/// A fresh saga id: `saga_<unix-ms>_<random>`. Ids sort by age.
pub fn new_saga_id(ids: &dyn IdSource, now: Timestamp) -> SagaId {
    let id = format!("saga_{:013}_{:016x}", now.0.max(0), ids.random());
    SagaId::try_from(id).expect("letters, digits and underscores are a saga id")
}
