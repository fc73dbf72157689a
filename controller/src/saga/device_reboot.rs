//! DEVICE_REBOOT: a phone stops and starts once.

use super::definition::{Definition, OnFailure, Step};
use super::device_step::{ensure, set_status};
use crate::recording::finalize::finalize_recordings;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::mutant::{Mutant, planted};
use std::time::Duration;

/// Its name in the database and the API.
pub const TYPE: &str = "DEVICE_REBOOT";
/// The step that raises the boot count.
pub const REBOOT: &str = "REBOOT_DEVICE";

/// The definition.
pub const DEFINITION: Definition = Definition {
    saga_type: TYPE,
    version: 1,
    timeout: Some(Duration::from_secs(600)),
    on_failure: OnFailure::TurnRound,
    steps: &[
        Step { name: "FINALIZE_RECORDINGS", execute: finalize_recordings, compensate: None },
        Step {
            name: REBOOT,
            execute: |context| {
                ensure(context, Wish::Running, |device| {
                    device.boot_count += u32::from(!planted(Mutant::RebootDoesNothing));
                })
            },
            compensate: None,
        },
    ],
    at_end: |context| set_status(context, None),
};
