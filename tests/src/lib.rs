//! What the whole-system tests stand on.
//!
//! | module | what lives there |
//! |---|---|
//! | [`simulation`] | simulated engine, adb, kernel, clock and ids, for fleets in memory |

pub mod simulation;
