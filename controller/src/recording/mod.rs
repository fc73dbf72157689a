//! Recordings, as the controller sees them: ordered, told to the host, ended by its word.
//!
//! ```text
//!   POST …/recordings ─▶ order ─▶ row STARTING + quota + command      (one transaction)
//!   POST …/stop ───────▶ order ─▶ wish stopped + command, if it runs
//!   a saga that stops the phone ─▶ finalize ─▶ the same for all of the device; waits
//!   recording.changed, inventory ─▶ apply ─▶ follow ─▶ row, quota, event, and the saga that waits
//!   DELETE …/{id} ─────▶ order ─▶ wish deleted + command; its bytes are given back at once
//!   GET …/content ─────▶ content ─▶ the file, on the same machine; or a signed address
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`order`] | accepting a recording, its stop, and its deletion |
//! | [`desire`] | when its host is told: coalesced, one unacknowledged command at a time |
//! | [`follow`] | what facts change of a row, as a function without a database |
//! | [`apply`] | what facts change of everything else |
//! | [`finalize`] | the step of sagas that ends a device's recordings first |
//! | [`content`] | where a video is, and the address that its host serves it at |
//! | [`kept_file`] | opening a video on this machine |
//!
//! A recording has three wishes, `recording`, `stopped` and `deleted`, and is never begun
//! twice, so it needs no generation. Its end is told by its host, with three exceptions: a host that was
//! forgotten, a device that is gone for sure, and a host that says that it never had it.

pub mod apply;
pub mod content;
pub mod desire;
pub mod finalize;
pub mod follow;
pub mod kept_file;
pub mod order;
