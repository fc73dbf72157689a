//! The thin controller: takes orders over HTTP, runs durable sagas and quota, and steers
//! the agents over MQTT. See ARCHITECTURE.md for the way of a command through the rooms.

pub mod api;
pub mod config;
pub mod controller;
pub mod fleet;
pub mod metrics;
pub mod order;
pub mod placement;
pub mod quota;
pub mod recording;
pub mod saga;
pub mod schedule;
pub mod store;
