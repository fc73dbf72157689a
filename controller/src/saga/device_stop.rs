//! DEVICE_STOP: a phone stops; container, data and ports stay. The right to run is given
//! back when the host says that it stopped, also if that comes after the deadline.

use super::definition::{Definition, OnFailure, Step};
use super::device_step::{ensure, set_status};
use crate::recording::finalize::finalize_recordings;
use phonefleet_protocol::desired::Wish;
use std::time::Duration;

/// The definition.
pub const DEFINITION: Definition = Definition {
    saga_type: "DEVICE_STOP",
    version: 1,
    timeout: Some(Duration::from_secs(300)),
    on_failure: OnFailure::TurnRound,
    steps: &[
        Step { name: "FINALIZE_RECORDINGS", execute: finalize_recordings, compensate: None },
        Step {
            name: "STOP_DEVICE",
            execute: |context| ensure(context, Wish::Stopped, |_| {}),
            compensate: None,
        },
    ],
    at_end: |context| set_status(context, None),
};
