//! The saga kit: for every saga of the controller, from its definition alone, everything
//! that may go wrong at each of its steps.
//!
//! | module | what lives there |
//! |---|---|
//! | [`scenario`] | where each saga starts from |
//! | [`verdict`] | how a saga with a fault must end, and the clean slate behind it |
//! | [`faults`] | failure, unknown outcome, timeout, repetition at each step, on both ways |
//! | [`crashes`] | death at each commit, and another release in between |
//! | [`definitions`] | what is stored of sagas: steps and versions, what they keep, what they tell |

#![allow(clippy::unwrap_used, reason = "tests")]

mod crashes;
mod definitions;
mod faults;
mod scenario;
mod verdict;
