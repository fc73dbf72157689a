//! Conditions with deadlines, in place of sleeping and hoping.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until there is something, and returns it.
///
/// # Panics
/// After `patience`, with what was seen last.
pub fn until<T>(what: &str, patience: Duration, look: impl FnMut() -> Result<T, String>) -> T {
    within(patience, look).unwrap_or_else(|last| panic!("not within {patience:?}: {what}; last: {last}"))
}

/// The same without the panic: what was seen last is the error.
///
/// # Errors
/// What was seen last, when `patience` is over.
pub fn within<T>(patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let end = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= end => return Err(last),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
