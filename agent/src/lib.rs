//! The daemon on a phone host.

pub mod adb;
pub mod host;
pub mod runtime;
