//! What the whole-system tests stand on.
//!
//! | module | what lives there |
//! |---|---|
//! | [`fleet`] | controller and agents in one thread, on virtual time |
//! | [`simulation`] | simulated engine, adb, kernel, clock and ids, for fleets in memory |

pub mod fleet;
pub mod simulation;
