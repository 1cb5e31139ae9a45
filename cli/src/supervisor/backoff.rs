//! How long to wait before a failed child is started again.
//!
//! Owns: the rule. Does not own: the clock.

use std::time::Duration;

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A child that ran this long was healthy, so its next failure is a first one.
const HEALTHY: Duration = Duration::from_secs(60);

/// The pauses of one child.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures_in_a_row: u32,
}

impl Backoff {
    /// The pause after a child that ran for `ran` failed.
    pub(crate) fn after_running(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.failures_in_a_row = 0;
        }
        let doubled = 2_u32.saturating_pow(self.failures_in_a_row);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_health() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..10).map(|_| backoff.after_running(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.after_running(HEALTHY), FIRST_PAUSE);
        for _ in 0..100 {
            assert!(backoff.after_running(Duration::ZERO) <= LONGEST_PAUSE);
        }
    }
}
