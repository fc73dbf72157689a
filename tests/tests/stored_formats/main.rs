//! What is stored and sent stays readable: golden files of every form, read by today's code,
//! and today's form held against them. See `golden` for how a form is changed.
//!
//! | module | what lives there |
//! |---|---|
//! | [`wire`] | messages, commands, events, heartbeats: what the other release sends |
//! | [`rows`] | rows of both databases, with the JSON in their columns |
//!
//! What only running sagas store is in `saga_kit`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod rows;
mod sample;
mod wire;
