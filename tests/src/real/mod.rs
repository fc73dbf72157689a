//! A whole installation of real parts, for one test: programs, broker, engine and `adb`.
//!
//! ```text
//!   test ─ World ─┬─ Program  controller ─┐
//!                 ├─ Broker   mosquitto ──┼── MQTT
//!                 ├─ Host ─┬─ Program agent, its adb server
//!                 │        └─ Engine  containers with the label of this host
//!                 ├─ Api      what a user does
//!                 └─ audit    what is true: engine, databases, /proc, files
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`world`] | the installation: started, asked, ended |
//! | [`program`] | one process: started, killed, started again |
//! | [`broker`] | a mosquitto that forgets everything |
//! | [`engine`] | a container engine: what runs in it, and its faults |
//! | [`processes`] | phones of a host without an engine |
//! | [`network`] | a second machine's network |
//! | [`http`] | calls of the API, and of the engine |
//! | [`adb`] | a user's own `adb` |
//! | [`phone`] | one ordered phone, and the proof that nobody touched it |
//! | [`fake_clock`] | a wall clock that a test sets |
//! | [`small_disk`] | a file system that a test fills |
//! | [`lossy_disk`] | a file system whose machine loses power |
//! | [`audit`] | everything that must fit together, or be gone |
//! | [`process_table`] | processes and listening ports, as the kernel tells |
//! | [`wait`] | conditions with deadlines |
//!
//! Works inside `tests/environment/run` only; elsewhere [`World::start`] says "skipped".

pub mod adb;
pub mod audit;
pub mod broker;
pub mod engine;
pub mod fake_clock;
pub mod http;
pub mod lossy_disk;
pub mod network;
pub mod phone;
pub mod process_table;
pub mod processes;
pub mod program;
pub mod small_disk;
pub mod wait;
pub mod world;

pub use fake_clock::FakeClock;
pub use phone::Phone;
pub use wait::{until, within};
pub use world::{Host, HostOptions, World, WorldOptions};
