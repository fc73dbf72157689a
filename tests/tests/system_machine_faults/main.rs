//! Faults of real machines, with real daemons, broker and engine: each loses nothing, says why
//! it does not go on, and heals when the cause goes. No phone is touched by any of them.
//!
//! | module | what goes wrong |
//! |---|---|
//! | [`disk`] | the disk of the agent's state, or of the controller's database, is full |
//! | [`controller_database`] | the controller's database is removed or overwritten under it, or while it is down |
//! | [`database`] | the agent's database is removed or overwritten under it; it is of a newer program |
//! | [`backlog`] | two thousand commands wait for a host that is away |
//! | [`clock`] | the clock of all daemons is set back an hour, and forward again |
//! | [`power`] | the power of the controller's machine, or of the host, is cut |
//! | [`wire`] | the broker hangs; the line to it delivers a byte a second |

mod backlog;
mod clock;
mod controller_database;
mod database;
mod disk;
mod power;
mod wire;

use phonefleet_tests::real::{World, until};
use serde_json::Value;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// One part of the first host's agent, as its own API tells.
fn part(world: &World, name: &str) -> Value {
    match world.host().local_api.try_call("GET", "/status", None, None) {
        Ok(reply) => reply.json()["parts"][name].take(),
        Err(error) => Value::from(error.to_string()),
    }
}

/// Waits until a part is, or is not, there; and why.
fn part_is(world: &World, name: &str, ready: bool) -> String {
    until(&format!("{name} is ready: {ready}"), MINUTE, || {
        let part = part(world, name);
        if part["ready"] == ready {
            Ok(part["detail"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(part.to_string())
        }
    })
}

/// A number of a daemon, as scraped: of the agent when its name begins so.
fn number(world: &World, name: &str) -> u64 {
    let api = if name.starts_with("phonefleet_agent") { world.host().local_api } else { world.api };
    let text = api.call("GET", "/metrics", None).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
    value.parse::<f64>().unwrap_or_else(|error| panic!("{name}: {error}: {value}")) as u64
}
