//! A simulated machine: container engine, phones behind adb, kernel ports, data on disk.
//!
//! It is shared by reference and outlives every agent that is killed on it, as a real
//! machine does. All of its time is tokio's: on a paused runtime it is virtual. It can be
//! asked what is left: that, and not what the agent believes, is what tests look at.
//!
//! | module | what lives there |
//! |---|---|
//! | [`crash`] | stops a daemon for good at the n-th thing that it does |
//! | [`machine`] | containers, phones, ports and data of one machine |
//! | [`engine`], [`adb`], [`kernel`], [`recorder`] | the agent's traits over a machine |
//! | [`agent`] | an agent over them: its settings and parts |
//! | [`time`] | wall clock and random ids from a seed |

pub mod adb;
pub mod agent;
pub mod crash;
pub mod engine;
pub mod kernel;
pub mod machine;
pub mod recorder;
pub mod time;

pub use crash::CrashPoint;
pub use machine::{EngineFault, Machine};
