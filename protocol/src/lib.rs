//! What agent and controller say to each other.
//!
//! | module | what lives there |
//! |---|---|
//! | [`id`], [`time`] | the names of things, and when things happen |
//! | [`spec`], [`desired`], [`facts`] | what a device should be, and what it is |
//! | [`recording`] | what a recording should be, and what it is |
//! | [`command`], [`event`], [`item`] | what travels down and up, and its common form |
//! | [`host`] | what a host tells of itself: report, heartbeat, presence |
//! | [`byte_range`] | which bytes of a video are asked for, of either |
//! | [`topic`], [`limits`] | where messages go, and how large they may be |
//! | [`mutant`] | faults planted on purpose, for the simulation |
//! | [`stream`] | the reliable stream that carries items over an unreliable broker |
//!
//! Nothing here does IO, sleeps, reads a clock or draws a random number: all of
//! that is passed in. Unknown fields are ignored on the wire, so that an older
//! program can read what a newer one wrote.

pub mod byte_range;
pub mod command;
pub mod desired;
pub mod event;
pub mod facts;
pub mod host;
pub mod id;
pub mod item;
pub mod limits;
pub mod mutant;
pub mod recording;
pub mod spec;
pub mod stream;
pub mod time;
pub mod topic;
