//! One thing that must make progress.

use std::fmt;
use std::pin::Pin;

type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A question that only progress answers.
pub struct Proof {
    name: &'static str,
    ask: Box<dyn Fn() -> Answer + Send + Sync>,
}

impl Proof {
    /// `ask` begins something that resolves to `true` when it made progress. What hangs does
    /// not resolve; what is over for good resolves to `false`.
    pub fn new<A>(name: &'static str, ask: impl Fn() -> A + Send + Sync + 'static) -> Self
    where
        A: Future<Output = bool> + Send + 'static,
    {
        Self { name, ask: Box::new(move || Box::pin(ask())) }
    }

    /// Its name in the status line and the log.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks once.
    pub fn ask(&self) -> impl Future<Output = bool> + Send + 'static {
        (self.ask)()
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Proof({})", self.name)
    }
}
