//! `phonefleet demo`: the whole product on this machine, in one temporary folder, and gone
//! without a trace.
//!
//! ```text
//!   surroundings ─▶ house (broker, engine, controller, agent) ─▶ show ─▶ stay ─▶ departure
//!                                                   Ctrl-C at any point ─────────▶┘
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`surroundings`] | what the machine has: programs, ports, repository |
//! | [`claim`] | what only one of several demos may have |
//! | [`engine`] [`own_engine`] | which container engine, and one of the demo's own |
//! | [`engine_socket`] | calls of an engine |
//! | [`child`] | processes that the demo started, and their descendants |
//! | [`house`] [`files`] | the daemons and their configuration |
//! | [`lodging`] [`predecessor`] | the folder; what killed demos left in theirs |
//! | [`image`] | the image that phones are made of |
//! | [`show`] [`phones`] [`film`] [`crash`] | what is shown: phones, pictures of one, an agent that dies |
//! | [`departure`] | everything ended, and the proof that nothing is left |
//! | [`voice`] | what is said |
//!
//! Everything about phones goes through the controller's API, as for any user. Processes are
//! known by number, never by name: each daemon is a child in a process group of its own, so
//! that Ctrl-C reaches the demo alone, and the demo is the reaper of whatever they leave.

mod child;
mod claim;
mod crash;
mod departure;
mod engine;
mod engine_socket;
mod files;
mod film;
mod house;
mod image;
mod lodging;
mod own_engine;
mod phones;
mod predecessor;
mod show;
mod surroundings;
mod voice;

use crate::arguments::Global;
use crate::failure::Failure;
use clap::Args;
use house::House;
use tokio::signal::unix::{Signal, SignalKind, signal};
use voice::Voice;

/// What to show.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Show everything, take it down, prove that nothing is left, and end
    #[arg(long)]
    once: bool,
    /// How many phones
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=20))]
    phones: u16,
    /// Keep the folder with logs, databases and configuration
    #[arg(long)]
    keep_dir: bool,
}

/// How the show ended.
enum End {
    /// Everything was shown.
    Shown,
    /// Somebody wants it to end; before everything was shown, unless `shown`.
    Interrupted { by: &'static str, shown: bool },
    /// It could not go on.
    Failed(Failure),
}

/// Carries it out.
///
/// # Errors
/// What keeps it from being shown, and whatever it could not take down.
pub fn run(demo: &Demo, global: &Global) -> Result<(), Failure> {
    // One thread: the kernel ends a daemon when the thread that started it ends.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the demo cannot start: {error}")))?;
    runtime.block_on(perform(demo, global))
}

async fn perform(demo: &Demo, global: &Global) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    child::become_reaper()?;
    let mut voice = Voice::new(global.printer().color);
    let mut house = House::new(demo, global)?;
    let mut shown = false;
    let end = {
        let show = show::run(&mut house, &mut voice, demo, &mut shown);
        tokio::select! {
            ended = show => ended.map_or_else(End::Failed, |()| End::Shown),
            by = signals.any() => End::Interrupted { by, shown: false },
        }
    };
    let end = match end {
        End::Interrupted { by, .. } => End::Interrupted { by, shown },
        other => other,
    };
    match &end {
        End::Shown => {}
        // Below the ^C that a terminal shows.
        End::Interrupted { by, .. } => voice.line(&format!("\n{by}")),
        End::Failed(failure) => {
            voice.line(&format!("It cannot go on: {failure}"));
            house.tell_last_words(&mut voice);
        }
    }
    let leaks = {
        let departure = departure::run(&mut house, &mut voice);
        tokio::pin!(departure);
        loop {
            tokio::select! {
                leaks = &mut departure => break leaks,
                by = signals.any() => crate::output::note(&format!("{by}: it is being taken down already")),
            }
        }
    };
    if !leaks.is_empty() {
        for leak in &leaks {
            voice.line(&format!("  LEFT  {leak}"));
        }
        return Err(Failure::Failed(format!("this was left behind: {}", leaks.join("; "))));
    }
    match end {
        End::Shown | End::Interrupted { shown: true, .. } => Ok(()),
        End::Interrupted { by, shown: false } => {
            Err(Failure::Failed(format!("{by} before everything was shown; nothing is left")))
        }
        End::Failed(failure) => Err(failure),
    }
}

/// The signals that end a demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Failed(format!("signals cannot be caught: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The next one's name.
    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Interrupted",
            _ = self.terminate.recv() => "Asked to end",
            _ = self.hang_up.recv() => "The terminal is gone",
        }
    }
}
