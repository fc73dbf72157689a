//! Stories: what the API's states, steps and reasons mean, in sentences. Pure: everything is
//! passed in, also the present.
//!
//! | module | what lives there |
//! |---|---|
//! | [`saga`] | what a saga did, does, and waits for |
//! | [`device`] | why a device is where and how it is |
//! | [`words`] | what the names of steps, waits and reasons mean, and what to do about them |

pub mod device;
pub mod saga;
pub mod words;
