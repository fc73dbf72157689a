//! A test kit for sagas: the controller's own transactions, one after the other, against a
//! host that is a table, without a thread and without time passing.
//!
//! | module | what lives there |
//! |---|---|
//! | [`fault`] | what may go wrong at a step, and how it gets into every definition |
//! | [`host`] | a host as a table: takes commands, answers with events |
//! | [`world`] | the controller's database, its wakes and its timer; crashes and upgrades |
//!
//! It knows no saga by name. What it does to a saga follows from the definition alone, so
//! that a saga that is added is tested as soon as it has a scenario to start from. What it
//! cannot show is what the real runner, link and agent do with the same rows: that is what
//! the fleet in memory is for.

pub mod fault;
pub mod host;
pub mod world;

pub use fault::{Direction, Fault, Place};
pub use world::World;
