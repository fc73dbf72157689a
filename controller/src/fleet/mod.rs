//! Hosts and what is asked of them.
//!
//! | module | what lives there |
//! |---|---|
//! | [`desire`] | a change of mind becomes a command: coalesced, one unacknowledged at a time |
//! | [`apply`] | what a host's events mean for rows and sagas |
//! | [`admission`] | hellos: registration, presence, conflicts |
//! | [`domain`] | both of them as the stream's domain |
//! | [`forget`] | giving up an unreachable host |
//! | [`router`] | the broker's messages to one conversation a host |
//! | [`presence`] | who is online, by this clock |
//! | [`set_clock`] | what waits for a moment, when somebody sets the clock |

pub mod admission;
pub mod apply;
pub mod desire;
pub mod domain;
pub mod forget;
pub mod presence;
pub mod router;
pub mod set_clock;
