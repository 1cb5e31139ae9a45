//! How far the source's log was read, and under which leader epoch.
//!
//! Owns: what has to be remembered of the log so that its replacement is noticed, and when a fetch calls for a look.
//! Does not own: asking the source (`flow::partition`), the judgement (`recovery`).

use std::ops::Range;

use wire::batch::{Entries, Entry};

use crate::offset_map::{Block, OffsetMap, SourceOffset};

/// The last batch that was read, copied or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadTo {
    /// Its leader epoch, -1 before the first batch, and where sources keep no epochs.
    pub epoch: i32,
    /// Where that epoch begins, or a lower offset: no record of it lies below.
    pub since: SourceOffset,
    /// The offset after it.
    pub end: SourceOffset,
}

impl ReadTo {
    /// Before the first batch.
    pub const NOTHING: Self = Self { epoch: -1, since: SourceOffset(0), end: SourceOffset(0) };

    /// What a map remembers of it, whose last copied batch was of `epoch`. The map's position may be further on: over
    /// batches that were not copied, and whose epochs are not kept.
    #[must_use]
    pub fn copied(map: &OffsetMap, epoch: i32) -> Self {
        if epoch < 0 {
            return Self::NOTHING;
        }
        let end = map.open_block().map_or(map.position(), Block::end).source;
        let with_runs = map.blocks().rev().filter(|block| block.run_count() > 0);
        let of_epoch = with_runs.take_while(|block| block.provenance().source_leader_epoch == epoch);
        // Blocks of that epoch may be forgotten, but one record of it there was.
        let since = of_epoch.last().map_or(SourceOffset(end.0 - 1), |block| block.start().source);
        Self { epoch, since, end }
    }

    /// The same after one more batch; one that was read before changes nothing.
    #[must_use]
    pub fn and(self, epoch: i32, offsets: Range<i64>) -> Self {
        if epoch < 0 || offsets.end <= self.end.0 {
            return self;
        }
        let since = if epoch == self.epoch { self.since } else { SourceOffset(offsets.start) };
        Self { epoch, since, end: SourceOffset(offsets.end) }
    }

    /// Whether fetched bytes go on under a newer leader than that of the last batch: then it may have begun below where
    /// the old one was read to, and nothing in the bytes would show that.
    #[must_use]
    pub fn goes_on_under_a_newer_leader(&self, fetched: &[u8]) -> bool {
        let newer = |entry: Entry<'_>| match entry {
            Entry::Batch(batch) => batch.header().leader_epoch.0 > self.epoch,
            Entry::Message(_) => false,
        };
        self.epoch >= 0 && Entries::new(fetched).map_while(Result::ok).any(newer)
    }
}
