//! What the whole-system tests stand on.
//!
//! | module | what lives there |
//! |---|---|
//! | [`database_copy`] | backups of a daemon at rest |
//! | [`fleet`] | controller and agents in one thread, on virtual time |
//! | [`fuzz`] | whatever reads bytes of others, as functions from bytes |
//! | [`golden`] | texts that an earlier release may have stored or sent |
//! | [`real`] | a world of real programs, broker, engine and adb, for one test |
//! | [`saga_kit`] | faults at each step of each saga, against a host that is a table |
//! | [`simulation`] | simulated engine, adb, kernel, clock and ids, for fleets in memory |

pub mod database_copy;
pub mod fleet;
pub mod fuzz;
pub mod golden;
pub mod real;
pub mod saga_kit;
pub mod simulation;
