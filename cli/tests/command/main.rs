//! The program itself, run against a controller's API, and against nobody: what it prints,
//! and the codes that scripts go by.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers too")]

mod configuration;
mod devices;
mod fixture;
mod hosts;
mod recordings;
mod sagas;
mod scripts;
mod trouble;
