//! The reconciler: brings one phone to its desired state.
//!
//! ```text
//!   command ─▶ desire (row) ─▶ task (one a device): look ─▶ plan ─▶ act ─┐
//!   engine event, timer ─────────▶ wakes it ▲                           │ one transaction:
//!                                           └───────── transition ◀─────┘ row + answer or event
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`desire`] | the controller's word becomes a row; findings are parked |
//! | [`plan`] | what to do next; pure |
//! | [`transition`] | what happened becomes a row and an event |
//! | `context` | what all tasks share |
//! | `task` | the loop of one device: look, plan, act, wait |
//! | `act` | how each action is done |
//! | `boot` | boot ladder and liveness of a phone that runs |
//! | `memory` | what a task may forget |
//! | `supervisor` | one task a device, woken, and started again when it panics |
//! | [`tally`] | numbers about boots, deaths and wishes |
//! | `watch` | engine events, full lists, and what they find |

mod act;
mod boot;
pub(crate) mod context;
pub mod desire;
pub(crate) mod memory;
pub mod plan;
pub(crate) mod supervisor;
pub mod tally;
mod task;
pub mod transition;
pub(crate) mod watch;
