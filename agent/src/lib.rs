//! The daemon on a phone host.

pub mod adb;
pub mod agent;
pub mod config;
pub mod content;
pub mod host;
pub mod link;
pub mod local_api;
pub mod metrics;
pub mod orphan;
pub mod phone;
pub mod port;
pub mod progress;
pub mod recording;
pub mod runtime;
pub mod selftest;
pub mod settings;
pub mod status;
pub mod store;
