//! When a partition's next commit is worth making: batches that trickle in share one.
//!
//! Owns: the pace of commits, and its bound.
//! Does not own: what a commit lists (`listing`) and says (`copier`), the clock: a flush every [`FLUSH_EVERY`] is all
//! the time that is known here, and `flow::partition` sends it.
//!
//! A commit for each answer of the source would write more to the map topic than to the copy where batches are small,
//! and a target that does not compact keeps all of it. So a batch goes at once where no commit was made since the last
//! flush, as the first one after a rest; what comes after it waits for the next flush, unless enough has come together.
//! A position is written with that, or by the flush. Over a time T
//!
//! ```text
//!   commits <= T / FLUSH_EVERY + batches / ENOUGH_BATCHES + bytes / ENOUGH_BYTES + 1
//!   bytes of the map topic ~ 460 * commits + 50 * batches
//! ```
//!
//! and one more for each time that the queue holds more than one record can list. The commit alone takes the 460, for
//! its block, its progress and its batch header, and each intent takes the 50. So 48 batches a second in one partition
//! make 5 commits and 5 KB a second, 0.4 GB a day; one batch a second makes 2 commits and 1 KB. Under load a batch waits
//! no longer than the next ones take to come, and where it does, no longer than from one flush to the next.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// How often a partition is flushed: so long does a batch that trickles in wait at most.
pub const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// So many batches are worth a commit before the flush comes: a quarter of what one record lists, so that the next are
/// listed while these are sent.
pub(super) const ENOUGH_BATCHES: usize = 16;
/// And so are so many bytes of batches, whatever their number.
pub(super) const ENOUGH_BYTES: usize = 64 * 1024;

/// Batches that could be listed and are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unlisted {
    pub(super) batches: usize,
    pub(super) size_bytes: usize,
    /// Whether the queue holds more behind them than one record lists: those can only be listed once these went.
    pub(super) is_cut_off: bool,
}

impl Unlisted {
    /// Takes in one more of them.
    pub(super) fn add(&mut self, size_bytes: usize) {
        self.batches += 1;
        self.size_bytes += size_bytes;
    }
}

/// How long ago the last commit was made, in flushes.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Whether a flush has come since.
    rested: bool,
}

impl Gathering {
    /// Of a partition that was never committed: the first batch goes at once.
    pub(super) fn new() -> Self {
        Self { rested: true }
    }

    /// A flush came.
    pub(super) fn flush(&mut self) {
        self.rested = true;
    }

    /// A commit is made.
    pub(super) fn commit(&mut self) {
        self.rested = false;
    }

    /// Whether to list these batches now.
    pub(super) fn is_due(&self, unlisted: &Unlisted) -> bool {
        let is_enough =
            unlisted.batches >= ENOUGH_BATCHES || unlisted.size_bytes >= ENOUGH_BYTES || unlisted.is_cut_off;
        unlisted.batches > 0 && (self.rested || is_enough)
    }
}
