//! A fleet simulated from one seed: the real daemons on virtual time, random orders, random
//! faults, and checkers that look at every instant and at the end.
//!
//! ```text
//!   seed ─▶ scenario ─▶ world: plays it ─▶ heals ─▶ comes to rest ─▶ observation ─▶ checkers
//!              ▲             └─ watch: after every commit, at every container's change
//!              └── shrink: leaves entries out while it still fails
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`scenario`] | orders and faults of one run, and how a seed draws them |
//! | [`world`] | daemons, machines, network, users, faults |
//! | [`watch`], [`ports`] | what must hold at every instant |
//! | [`moment`] | what still moves, and what must hold whenever all was told |
//! | [`observe`] | what is there in the end |
//! | [`history`] | what users asked and were told |
//! | [`check`] | the checkers, one file each |
//! | [`run`] | one run, from seed to findings |
//! | [`shrink`] | a smaller scenario that fails the same way |
//! | [`campaign`] | many seeds, on all cores |
//! | [`mutants`] | faults planted in the product, which must be found |
//! | [`trace`], [`random`] | what happened, to the byte; numbers from a seed |
//!
//! How to add a fault, a checker or an order: `docs/reliability.md`.

pub mod campaign;
pub mod check;
pub mod history;
pub mod moment;
pub mod mutants;
pub mod observe;
pub mod ports;
pub mod random;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod trace;
pub mod watch;
pub mod world;
