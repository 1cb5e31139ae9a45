//! The time seam: wall time stamps batches and ages the journal.
//!
//! Owns: the trait and its one real implementation. Does not own: what a time means, or timers.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the log reads the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Wall time in milliseconds since the Unix epoch. It may jump either way.
    fn now_ms(&self) -> i64;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the seam that everybody else goes through")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}
