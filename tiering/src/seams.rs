//! Time and randomness, handed in: so that tests can replay a run from its seed.
//!
//! Owns: the seeded source of attempt ids and jitter, and the one backoff rule.
//! Does not own: the wall clock, which is the hot log's seam; timers (`timers`).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotlog::clock::{Clock, SystemClock};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::limits;

/// The random mark of one write: two writes with the same mark are the same write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub [u8; 16]);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What this crate takes from the outside besides the store.
#[derive(Clone, Debug)]
pub struct Seams {
    clock: Arc<dyn Clock>,
    random: Arc<Mutex<StdRng>>,
}

impl Seams {
    /// The machine's clock and randomness.
    pub fn system() -> Self {
        Seams { clock: Arc::new(SystemClock), random: Arc::new(Mutex::new(rand::make_rng())) }
    }

    /// A given clock, and randomness that a seed repeats.
    pub fn seeded(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Seams { clock, random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    /// Wall time in milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// A fresh mark for one write.
    pub fn attempt(&self) -> AttemptId {
        AttemptId(self.random.lock().unwrap_or_else(PoisonError::into_inner).random())
    }

    /// A duration drawn evenly from zero to `most`.
    pub fn jitter(&self, most: Duration) -> Duration {
        most.mul_f64(self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..=1.0))
    }
}

/// Pauses between tries: doubling, with full jitter, bounded in number or endless.
#[derive(Debug)]
pub(crate) struct Backoff {
    seams: Seams,
    next: Duration,
    last: Duration,
    tries_left: Option<u32>,
}

impl Backoff {
    /// For one store operation: few tries, then its caller hears of the failure.
    pub(crate) fn for_operation(seams: &Seams) -> Self {
        Backoff {
            seams: seams.clone(),
            next: limits::BACKOFF_FIRST,
            last: limits::BACKOFF_LAST,
            tries_left: Some(limits::OPERATION_TRIES - 1),
        }
    }

    /// For a partition's archiving: never given up, only slower.
    pub(crate) fn for_partition(seams: &Seams) -> Self {
        Backoff {
            seams: seams.clone(),
            next: limits::BACKOFF_FIRST,
            last: limits::PARTITION_BACKOFF_LAST,
            tries_left: None,
        }
    }

    /// Waits before the next try; `false`, at once, when no try is left.
    pub(crate) async fn pause(&mut self) -> bool {
        if let Some(left) = &mut self.tries_left {
            if *left == 0 {
                return false;
            }
            *left -= 1;
        }
        crate::timers::sleep(self.next_pause()).await;
        true
    }

    /// The pause before the next try, for callers that sleep by themselves.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.next / 2 + self.seams.jitter(self.next / 2);
        self.next = (self.next * 2).min(self.last);
        pause
    }
}
