//! The pages in `docs/` say what the code says.
//!
//! | module | what lives there |
//! |---|---|
//! | [`source`] | the product's Rust sources, parsed |
//! | [`configuration`] | `docs/configuration.md`, made from the configuration structs |

mod configuration;
mod source;
