//! Screen recording.
pub mod screenrecord;
