//! The time, through one seam.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time that is written down; nothing is decided by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(fn() -> i64);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub(crate) fn system() -> Self {
        Self(system_now_ms)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub(crate) fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the clock seam")]
fn system_now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
