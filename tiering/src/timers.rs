//! The timers of this crate: tokio's, and much faster in this crate's own tests.
//!
//! Owns: the speed. Does not own: wall time, which is a seam of its own (`seams`).

use std::time::Duration;

use tokio::time::Instant;

/// Tests run timers this many times faster, so that an hour's outage is half a minute.
const SPEED: u32 = if cfg!(test) { 100 } else { 1 };

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time / SPEED).await;
}

/// Gives work a limited time.
pub(crate) fn timeout<F: Future>(time: Duration, work: F) -> tokio::time::Timeout<F> {
    tokio::time::timeout(time / SPEED, work)
}

/// A moment from now.
pub(crate) fn after(time: Duration) -> Instant {
    Instant::now() + time / SPEED
}

/// Time passed since a moment.
pub(crate) fn since(moment: Instant) -> Duration {
    moment.elapsed() * SPEED
}
