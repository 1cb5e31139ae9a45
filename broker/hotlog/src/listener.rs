//! The callback that follows a commit.
//!
//! Owns: the seam only. Does not own: waking anybody; the broker's long polls do that behind it.

use std::fmt;
use std::sync::Arc;

use crate::partition::Partition;

/// Told after each commit, before the commit's own waiters wake.
pub trait CommitListener: fmt::Debug + Send + Sync {
    /// The high watermark of each of these partitions has risen. Called on the committing thread: it must be short,
    /// must not block, and must not append.
    fn high_watermarks_moved(&self, partitions: &mut dyn Iterator<Item = &Arc<Partition>>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoListener;

impl CommitListener for NoListener {
    fn high_watermarks_moved(&self, _partitions: &mut dyn Iterator<Item = &Arc<Partition>>) {}
}
