//! Measuring: what the benches share, and the ceilings that they measure against.
//!
//! | module | what lives there |
//! |---|---|
//! | [`report`] | figures by round, their medians, ratios within a round |
//! | [`disk`] | where databases go, and how fast the disk flushes this minute |
//! | [`latency`] | numbered events, from when they were due |
//! | [`processor`] | processor time, which others do not change |
//! | [`load`] | callers that each wait for their own work, with latencies |
//! | [`conversation`] | one end of a conversation over the broker in memory |
//! | [`http`] | a client that keeps its connection |
//! | [`ceiling`] | the least code that keeps the same promises: what the machine could do |
//!
//! A machine that others use moves by a factor within the hour, so a figure alone says
//! nothing. Every round runs every case once, and ratios are taken within a round.

pub mod ceiling;
pub mod conversation;
pub mod disk;
pub mod http;
pub mod latency;
pub mod load;
pub mod processor;
pub mod report;
