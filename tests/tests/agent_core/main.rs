//! One real agent on a simulated machine, on virtual time, steered by a scripted controller
//! over the real stream.
//!
//! | module | what lives there |
//! |---|---|
//! | `controller` | says what the test says, and keeps what it hears |
//! | `world` | machine, broker, controller and an agent that can be killed |
//! | `ladder` | wishes, answers, generations and attempts |
//! | `faults` | engines, ports and phones that fail |
//! | `crashes` | the agent killed at every commit and every effect |
//! | `recordings` | recordings: begun, stopped, ended by their phones |
//! | `recording_crashes` | recordings whose agent is killed at every step, or was away |
//! | `findings` | lost databases, restored controllers, parked devices |
//! | `outbox` | events that wait, as they are told |
//! | `orphans` | what belongs to no device, found without being asked |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod controller;
mod crashes;
mod faults;
mod findings;
mod ladder;
mod orphans;
mod outbox;
mod recording_crashes;
mod recording_mishaps;
mod recordings;
mod world;
