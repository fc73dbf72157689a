//! Configuration of a daemon, in layers: defaults, a TOML file, environment variables.
//!
//! ```text
//!   T::default() ──▶ known keys ─┐
//!   agent.toml ──▶ keys + lines ─┼─▶ each key tested alone ─▶ merged ─▶ T + origin of every key
//!   PREFIX__SECTION__KEY ────────┘        │
//!                                         └─▶ SettingsError: key, where from, what is allowed
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`loading`](load) | the layers and their faults |
//! | [`bounds`](Bounds) | numbers that have a least and a most |
//! | [`secret`](Secret) | values that are never printed |
//!
//! `T` is a struct of structs with `#[serde(deny_unknown_fields, default)]`. Its default
//! tells which keys exist, so every field is serialised, `None` too. Maps are not keys.
//! What only the daemon knows (a port range that is too small) it reports by
//! [`Loaded::fault`], which adds the key's origin.

mod bounds;
mod loading;
mod secret;

pub use bounds::Bounds;
pub use loading::{Fault, Loaded, Loader, Origin, SettingsError, load};
pub use secret::Secret;
