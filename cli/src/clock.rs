//! The binary's wall clock.
//!
//! Owns: the one place of this crate that reads it; waiting is tokio's. Does not own: the rooms' clocks.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC.
#[allow(clippy::disallowed_methods, reason = "this is the crate's clock seam")]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
