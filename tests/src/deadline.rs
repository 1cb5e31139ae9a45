//! Real time for tests: deadlines, and waiting for something to become true.
//!
//! Owns: the one place of the harness that reads the clock and sleeps. Does not own: what is waited for.

use std::time::{Duration, Instant};

/// How long to sleep between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// A moment after which a test gives up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// A deadline this long from now.
    pub fn after(allowed: Duration) -> Self {
        Self { at: now() + allowed, allowed }
    }

    /// A deadline this many seconds from now.
    pub fn seconds(seconds: u64) -> Self {
        Self::after(Duration::from_secs(seconds))
    }

    /// Time left; zero when it has passed.
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(now())
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }

    /// Time since it was made.
    pub fn spent(&self) -> Duration {
        self.allowed.saturating_sub(self.left())
    }

    /// Looks again and again until `look` gives a value.
    ///
    /// # Errors
    /// When the deadline passes first: says what was waited for and how long.
    pub fn wait_for<T>(
        &self,
        what: &str,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if self.passed() {
                anyhow::bail!("waited {:.1} s in vain for {what}", self.allowed.as_secs_f64());
            }
            sleep(POLL.min(self.left()));
        }
    }
}

/// Sleeps, for tests that need a real pause.
pub fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}

#[allow(
    clippy::disallowed_methods,
    reason = "real processes take real time; this is the harness's clock seam"
)]
fn now() -> Instant {
    Instant::now()
}
