//! DEVICE_RESET: a phone gets new, empty data and starts.

use super::definition::{Definition, OnFailure, Step};
use super::device_step::{ensure, set_status};
use crate::recording::finalize::finalize_recordings;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::mutant::{Mutant, planted};
use std::time::Duration;

/// Its name in the database and the API.
pub const TYPE: &str = "DEVICE_RESET";
/// The step that raises the data epoch.
pub const RESET: &str = "RESET_DATA";

/// The definition.
pub const DEFINITION: Definition = Definition {
    saga_type: TYPE,
    version: 1,
    timeout: Some(Duration::from_secs(600)),
    on_failure: OnFailure::TurnRound,
    steps: &[
        Step { name: "FINALIZE_RECORDINGS", execute: finalize_recordings, compensate: None },
        Step {
            name: RESET,
            execute: |context| {
                ensure(context, Wish::Stopped, |device| {
                    device.data_epoch += u32::from(!planted(Mutant::ResetKeepsData));
                })
            },
            compensate: None,
        },
        Step {
            name: "START_DEVICE",
            execute: |context| ensure(context, Wish::Running, |_| {}),
            compensate: None,
        },
    ],
    at_end: |context| set_status(context, None),
};
