//! The memory that the partitions of one flow share.
//!
//! Owns: how large a share is. Does not own: what a partition holds (`copier`), when it fetches (`partition`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A partition works with no less than this, however many there are.
const SHARE_MIN_BYTES: usize = 2 * 1024 * 1024;
/// Nor is more of use to it.
const SHARE_MAX_BYTES: usize = 32 * 1024 * 1024;

/// The shares of one flow; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct MemoryShares {
    flow_bytes: usize,
    partitions: Arc<AtomicUsize>,
}

impl MemoryShares {
    pub(crate) fn new(flow_bytes: usize) -> Self {
        Self { flow_bytes, partitions: Arc::default() }
    }

    /// One partition more, of whichever topic: the shares of all become smaller.
    pub(crate) fn join(&self) {
        self.partitions.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes that each partition may hold now.
    pub(crate) fn share_bytes(&self) -> usize {
        let share = self.flow_bytes / self.partitions.load(Ordering::Relaxed).max(1);
        share.clamp(SHARE_MIN_BYTES, SHARE_MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn share_of(partitions: usize) -> usize {
        let shares = MemoryShares::new(128 * MIB);
        (0..partitions).for_each(|_| shares.clone().join());
        shares.share_bytes()
    }

    #[test]
    fn partitions_of_all_topics_share_what_one_flow_may_hold() {
        assert_eq!(share_of(0), SHARE_MAX_BYTES);
        assert_eq!(share_of(1), SHARE_MAX_BYTES);
        assert_eq!(share_of(16) * 16, 128 * MIB);
        assert_eq!(share_of(64) * 64, 128 * MIB);
        assert_eq!(share_of(200), SHARE_MIN_BYTES);
    }
}
