//! What happened, line by line, with its virtual time. One seed gives one trace, to the byte.

use std::fmt::{Display, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// How much of it is kept as text; the hash is always of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    Hash,
    /// What a person wants to read.
    Story,
    /// Every message of the broker, too.
    Everything,
}

/// The trace of one run; a cheap handle.
#[derive(Clone)]
pub struct Trace {
    start: Instant,
    detail: Detail,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    text: String,
    line: String,
    hash: Xxh3,
}

impl Trace {
    /// An empty trace that begins now.
    pub fn new(detail: Detail) -> Self {
        let inner = Inner { text: String::new(), line: String::new(), hash: Xxh3::new() };
        Self { start: Instant::now(), detail, inner: Arc::new(Mutex::new(inner)) }
    }

    /// One line of the story.
    pub fn say(&self, line: impl Display) {
        self.write(Detail::Story, line);
    }

    /// One line that only the closest look shows.
    pub fn whisper(&self, line: impl Display) {
        self.write(Detail::Everything, line);
    }

    fn write(&self, from: Detail, line: impl Display) {
        let at = self.start.elapsed();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { text, line: scratch, hash } = &mut *inner;
        scratch.clear();
        // Writing into a String does not fail.
        let _ = writeln!(scratch, "{:>9}.{:03}  {line}", at.as_secs(), at.subsec_millis());
        hash.update(scratch.as_bytes());
        let keep = match self.detail {
            Detail::Hash => false,
            Detail::Story => from == Detail::Story,
            Detail::Everything => true,
        };
        if keep {
            text.push_str(scratch);
        }
    }

    /// The text so far, and the hash of all that was said.
    pub fn end(&self) -> (String, u64) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.text.clone(), inner.hash.digest())
    }
}
