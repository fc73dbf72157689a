//! The HTTP API over a real store, without a broker and without running sagas: what each
//! call answers, and what it leaves in the database.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers too")]

mod bad_input;
mod devices;
mod fixture;
mod hosts;
mod idempotency;
mod quotas;
mod recording_content;
mod recordings;
mod recordings_and_hosts;
mod recordings_deleted;
mod sagas;
mod surroundings;
