//! The rate limit of uploads, byte by byte: a large segment does not go out as one burst.
//!
//! Owns: the bucket. Does not own: who takes from it.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Bytes that may go at once after a pause.
const BURST: Duration = Duration::from_millis(250);
/// Bytes taken in one step, so that several uploads share the rate evenly.
const STEP_BYTES: u64 = 256 << 10;

/// A token bucket that holds time instead of tokens: when the next byte may go.
#[derive(Debug)]
pub(crate) struct RateLimit {
    bytes_per_second: Option<u64>,
    next: Mutex<Instant>,
}

impl RateLimit {
    /// A limit, or none.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        RateLimit {
            bytes_per_second: bytes_per_second.map(|rate| rate.max(1)),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until `bytes` may go.
    pub(crate) async fn take(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let mut left = bytes;
        while left > 0 {
            let step = left.min(STEP_BYTES);
            let wait_until = {
                let mut next = self.next.lock().await;
                let now = Instant::now();
                let earliest = now.checked_sub(BURST).unwrap_or(now);
                *next = (*next).max(earliest) + Duration::from_secs_f64(step as f64 / rate as f64);
                *next
            };
            tokio::time::sleep_until(wait_until).await;
            left -= step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_rate_holds_over_time() {
        let limit = RateLimit::new(Some(8 << 20));
        let start = Instant::now();
        limit.take(4 << 20).await;
        let took = start.elapsed().as_secs_f64();
        assert!(took >= 0.24, "4 MiB at 8 MiB/s, with a burst of a quarter second, took {took} s");
    }
}
