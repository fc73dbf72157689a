//! The reliable stream: a numbered log of items in each direction between one host
//! and the controller, over a broker that may drop, repeat, reorder, delay and forget.
//!
//! ```text
//!   sender's log (rows 1,2,3…)                     receiver's cursor {epoch, through, chain}
//!        │ page                                              ▲ stored with the effects, one transaction
//!        ▼                                                   │
//!   Sender ──── frame {epoch, first, chain, items, ack} ──▶ judge ──▶ apply items
//!        ▲                                                   │
//!        └──────────── ack {epoch, through, chain} ◀─────────┘   (in the next frame back, after the commit)
//! ```
//!
//! * [`message`]: what is on the wire. * [`chain`]: the rolling hash that tells the
//!   real log from a restored or cloned one. * [`sender`]: window, go-back, what an
//!   acknowledgement means. * [`receiver`]: what a frame means. * [`endpoint`]: both of
//!   them and the hello, over a [`Durable`] that the daemon's database implements.
//!
//! Everything is synchronous; time is a monotonic `Duration` passed in, so that a wall
//! clock that is set back stalls nothing.
//!
//! ## The rules
//! * Rows are freed only behind the other end's durable cursor. The broker's PUBACK means nothing.
//! * A receiver applies what continues its cursor, trims an overlap, answers a gap with its
//!   cursor, and takes a new epoch only from its first item. An epoch it has left never comes back.
//! * When the cursor that comes back does not fit the log (beyond its end, another chain, or
//!   older than the oldest row), the log has *forked*: the sender opens a new epoch whose first
//!   items are a snapshot of all it knows, and goes on.

pub mod chain;
pub mod durable;
pub mod endpoint;
pub mod message;
pub mod receiver;
pub mod sender;

pub use chain::Chain;
pub use durable::{Admission, Durable, ForkCause};
pub use endpoint::{Endpoint, Notice};
pub use message::{Epoch, Frame, Hello, LogHead, Message, Position};
