//! What the whole-system tests stand on.
//!
//! | module | what lives there |
//! |---|---|
//! | [`fleet`] | controller and agents in one thread, on virtual time |
//! | [`real`] | a world of real programs, broker, engine and adb, for one test |
//! | [`simulation`] | simulated engine, adb, kernel, clock and ids, for fleets in memory |

pub mod fleet;
pub mod real;
pub mod simulation;
