//! How the phone of a recording is, as far as its row tells.

use super::plan::PhoneState;
use crate::store::device::DeviceRow;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::facts::Phase;

/// How a phone is, by its row alone.
pub fn phone_state(row: Option<&DeviceRow>) -> PhoneState {
    let Some(row) = row else { return PhoneState::Down { container_runs: false } };
    if row.parked || row.desired.wish != Wish::Running || row.phase != Phase::Running {
        // Only what the row rules out: the engine knows better.
        let none = matches!(row.phase, Phase::Absent | Phase::Reserved);
        return PhoneState::Down { container_runs: !none };
    }
    if row.answer.is_none() || row.applied_boot_count < row.desired.boot_count {
        return PhoneState::Unsettled;
    }
    PhoneState::Ready
}
