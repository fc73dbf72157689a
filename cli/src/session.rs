//! What every command works with: the controller, the user's choices, the present.

use crate::client::Client;
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::output::{Printer, Shown, note};
use crate::resolve::Resolver;
use phonefleet_protocol::time::{Clock, SystemClock, Timestamp};
use std::time::Duration;

/// One run of the program.
#[derive(Clone)]
pub struct Session {
    /// The controller.
    pub client: Client,
    /// The layers, for commands that need more of them.
    pub configuration: Configuration,
    /// Where results go.
    pub printer: Printer,
    /// Longest time of one call.
    pub time_limit: Duration,
    clock: SystemClock,
}

impl Session {
    /// A session with the controller that the configuration names.
    pub fn new(configuration: Configuration, printer: Printer, time_limit: Duration) -> Self {
        let client = Client::new(configuration.controller.value.clone(), time_limit);
        Self { client, configuration, printer, time_limit, clock: SystemClock }
    }

    /// Whose devices are meant, if anybody's.
    pub fn user(&self) -> Option<&str> {
        self.configuration.user.as_ref().map(|user| user.value.as_str())
    }

    /// Whose devices are meant.
    ///
    /// # Errors
    /// When nobody said it.
    pub fn some_user(&self) -> Result<&str, Failure> {
        self.user().ok_or_else(|| {
            Failure::Usage(
                "whose? name a user: --user USER, or PHONEFLEET_USER, or once and for all: \
                 phonefleet config set-context NAME --user USER"
                    .to_owned(),
            )
        })
    }

    /// Finds what a user means.
    pub fn resolver(&self) -> Resolver {
        Resolver::new(self.client.clone(), self.user().map(str::to_owned))
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Prints a result.
    ///
    /// # Errors
    /// A closed or full standard output.
    pub fn show(&self, shown: &Shown) -> Result<(), Failure> {
        Ok(self.printer.show(shown)?)
    }

    /// Carries something out for each of several things; failures are told as they come, and
    /// do not keep the others from being tried.
    ///
    /// # Errors
    /// The failure of the only one, or that some failed.
    pub async fn each<T>(
        &self,
        names: &[String],
        act: impl AsyncFn(&str) -> Result<T, Failure>,
    ) -> (Vec<T>, Result<(), Failure>) {
        let mut done = Vec::new();
        let mut failures = Vec::new();
        for name in names {
            match act(name).await {
                Ok(value) => done.push(value),
                Err(failure) if names.len() == 1 => return (done, Err(failure)),
                Err(failure) => {
                    note(&format!("{name}: {failure}"));
                    failures.push(failure.exit());
                }
            }
        }
        let result = match failures.first() {
            None => Ok(()),
            Some(exit) => Err(Failure::Several { count: failures.len(), of: names.len(), exit: *exit }),
        };
        (done, result)
    }
}
