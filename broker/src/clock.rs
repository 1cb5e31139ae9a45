//! The time seam of the broker.
//!
//! Owns: wall time for records and groups, and monotonic time for timeouts.
//! Does not own: timers (tokio), nor the hot log's own clock.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the broker reads the time.
pub(crate) trait Clock: fmt::Debug + Send + Sync {
    /// Wall time in milliseconds since 1970; it may jump either way. For what is stored or compared with records.
    fn wall_ms(&self) -> i64;

    /// Milliseconds since some fixed moment; never goes back. For sessions, deadlines and idle times.
    fn monotonic_ms(&self) -> i64;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock {
    started: Instant,
}

#[allow(clippy::disallowed_methods, reason = "this is the seam that everybody else goes through")]
impl SystemClock {
    /// Monotonic time counts from this moment.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the seam that everybody else goes through")]
impl Clock for SystemClock {
    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
