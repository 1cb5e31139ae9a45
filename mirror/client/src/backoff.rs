//! How long to wait before the next attempt: doubling, capped, and never the same for two clients.
//!
//! Owns: the rule and the count of failures.
//! Does not own: the sleep, the deadline, which errors are worth another attempt (`cluster`, `error`).

use std::time::Duration;

/// Bounds of the wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The first wait, before jitter.
    pub initial: Duration,
    /// No wait is longer, before jitter.
    pub max: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self { initial: Duration::from_millis(50), max: Duration::from_secs(1) }
    }
}

/// Counts failures in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    options: BackoffOptions,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(options: BackoffOptions) -> Self {
        Self { options, failures: 0 }
    }

    /// The wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.wait(rand::random::<f64>());
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// The wait for a `chance` from 0 to 1: within a fifth of the doubled one.
    fn wait(&self, chance: f64) -> Duration {
        let doubled = self.options.initial.saturating_mul(1 << self.failures.min(20)).min(self.options.max);
        doubled.mul_f64(0.8 + 0.4 * chance)
    }

    /// Forgets the failures.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_again_after_success() {
        let mut backoff = Backoff::new(BackoffOptions::default());
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(backoff.wait(0.5).as_millis());
            let jittered = backoff.next().as_millis();
            let middle = *waits.last().unwrap();
            assert!((middle * 8 / 10..=middle * 12 / 10 + 1).contains(&jittered));
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.wait(0.5).as_millis(), 50);
    }
}
