//! What a daemon tells the service manager that runs it: that it is ready, what it waits for,
//! that it still makes progress, that it ends.
//!
//! ```text
//!   loop of a part ── Pulse ◀── question ── Proof ─┐
//!   store, …       ◀─────────── any call ── Proof ─┼─▶ Service: a round of all of them
//!   status line    ────────────────────────────────┘     all answered ──▶ READY, then WATCHDOG
//!                                                        one is silent ──▶ nothing: the manager acts
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`notification`] | the manager's socket and its words |
//! | [`pulse`] | how a loop shows that it comes round |
//! | [`proof`] | one thing that must make progress |
//! | [`service`] | the rounds, and what is told when |
//!
//! The watchdog is fed by proof only, and a proof is about the daemon itself: a broker or an
//! engine that is away is no reason to start it again, so no proof may depend on one. Without
//! a service manager nothing is asked and nothing is told.
//!
//! The protocol (`sd_notify(3)`: lines in a datagram) is written out here, as it is shorter
//! than what a library for it brings along.

pub mod notification;
pub mod proof;
pub mod pulse;
pub mod service;

pub use notification::Notifier;
pub use proof::Proof;
pub use pulse::{Pulse, pulse};
pub use service::Service;
