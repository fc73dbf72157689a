//! The pages in `docs/` say what the code says.
//!
//! | module | what lives there |
//! |---|---|
//! | [`source`] | the product's Rust sources, parsed |
//! | [`configuration`] | `docs/configuration.md`, made from the configuration structs |
//! | [`operating`] | every state, reason, refusal and metric has its line in `docs/operating.md` and `docs/api.md` |

mod configuration;
mod operating;
mod source;
