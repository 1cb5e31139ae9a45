//! The budget of bytes that were fetched and not yet handed out, over all readers.
//!
//! Owns: admission. Does not own: what happens under pressure; whoever waits calls for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits count this many bytes, so that a semaphore can hold large budgets.
const UNIT_BYTES: u64 = 1024;
/// How long a reader waits before it asks idle ones to give their bytes back, again and again.
const PRESSURE_EVERY: Duration = Duration::from_millis(20);

/// A number of bytes that are out at most.
#[derive(Clone, Debug)]
pub(crate) struct ByteBudget {
    semaphore: Arc<Semaphore>,
    units: u32,
}

/// Bytes taken from a budget; given back on drop.
#[derive(Debug)]
pub(crate) struct Taken(Option<OwnedSemaphorePermit>);

impl ByteBudget {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3);
        ByteBudget { semaphore: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits for `bytes`; more than the whole budget counts as the whole budget, so that it can be had at all.
    pub(crate) async fn take(&self, bytes: u64, pressure: impl Fn()) -> Taken {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units);
        let acquire = self.semaphore.clone().acquire_many_owned(units);
        tokio::pin!(acquire);
        loop {
            match crate::timers::timeout(PRESSURE_EVERY, &mut acquire).await {
                // The semaphore is never closed; a closed one would only lift the bound.
                Ok(permit) => return Taken(permit.ok()),
                Err(_) => pressure(),
            }
        }
    }
}

impl Taken {
    /// Splits `bytes` off, to be given back on their own.
    pub(crate) fn split(&mut self, bytes: u64) -> Taken {
        let units = bytes.div_ceil(UNIT_BYTES) as usize;
        let Some(permit) = &mut self.0 else { return Taken(None) };
        let units = units.min(permit.num_permits());
        Taken(permit.split(units))
    }
}
