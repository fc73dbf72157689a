//! The reliable stream against a hostile world: two ends with in-memory databases, a channel
//! that drops, repeats, reorders, delays and forgets, crashes, failed transactions, restored,
//! cloned and emptied databases, retention. Virtual time, no IO.
//!
//! * [`model`]: a small level-based domain, so that what an end believes of the other can be compared.
//! * [`database`]: one end's database, with the claims that are checked at every step.
//! * [`channel`]: what is on its way, in both directions.
//! * [`history`]: what can happen. * [`world`]: ends, channel and clock, to which it happens.
//! * [`healing`]: how the world comes to rest, and what must be true of it then.
//! * [`properties`]: the claims, over random histories. * [`planted`]: bugs put in on purpose,
//!   which the same claims must find.
//! * [`scenarios`]: single stories. * [`strangers`]: hellos of somebody else. * [`wire`]: versions, unknown fields, hostile bytes.

mod channel;
mod database;
mod healing;
mod history;
mod model;
mod planted;
mod properties;
mod scenarios;
mod strangers;
mod wire;
mod world;
