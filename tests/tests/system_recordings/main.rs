//! Recordings of real phones: real engine, `adb`, broker and daemons, videos judged by
//! `ffprobe`. Then `kill -9` to everybody while they record, and many starts and stops.
//!
//! `PHONEFLEET_RECORDING_ROUNDS` (8), `PHONEFLEET_RECORDING_CYCLES` (20) and
//! `PHONEFLEET_RECORDING_SEED` (the time) steer the last two; the seed is printed.
//!
//! | module | what lives there |
//! |---|---|
//! | `scene` | ordering, waiting, looking, judging |
//! | `life` | one recording after the other: every way to begin and to end |
//! | `replaced` | agent, adb server, controller and broker die, and recordings go on |
//! | `hung` | adb server, engine and phone that answer no more, while they record |
//! | `notice` | how soon an end is known |
//! | `crashes` | whoever is killed, every recording ends whole or with the true reason |
//! | `cycles` | many starts and stops leave nothing behind |
//! | `processes` | the same where phones are processes of the host |

mod crashes;
mod cycles;
mod hung;
mod life;
mod notice;
mod processes;
mod replaced;
mod scene;
