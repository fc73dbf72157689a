//! Bad input everywhere, against real daemons: refused with a reason, counted, nothing
//! changed, and the next good message works.
//!
//! | module | what it sends |
//! |---|---|
//! | [`nonsense`] | what is no message at all, on every topic, once, retained and in floods |
//! | [`lies`] | well-formed messages of somebody who may not say so |
//! | [`versions`] | what peers of other releases say |
//! | [`double`] | a second living agent with the same host id |
//! | [`calls`] | HTTP that is late, too much, or nasty |
//! | [`stranger`] | somebody at the broker, and what must not change by it |

mod calls;
mod double;
mod lies;
mod nonsense;
mod stranger;
mod versions;
