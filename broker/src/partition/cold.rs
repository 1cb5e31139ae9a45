//! Reads of one partition from its store.
//!
//! Owns: being led across the store's holes, what a reader gets of an offset that the store does not have, and reading from
//! there what has lost its file on this disk. Does not own: when the store is asked (`partition`), objects (crate `tiering`).

use hotlog::{Isolation, ReadLimits};
use tiering::ReadError as TierReadError;
use wire::codec::Piece;
use wire::ids::Offset;

use super::{Partition, Read, ReadRefused};

/// What a read from the store found.
pub(super) enum Cold {
    /// Batches.
    Found(Read),
    /// Nothing, and nothing up to here: the local log goes on at or below this offset.
    HoleUpTo(Offset),
}

impl Partition {
    /// Whether the store reaches over an offset; it may have a hole there.
    pub(super) fn is_stored(&self, from: Offset) -> bool {
        self.tiered().is_some_and(|range| (range.start..range.end).contains(&from))
    }

    /// Reads from the store what has lost its file on this disk. Where the store has a hole too, that is not passed over: the
    /// local log says what is missing.
    pub(super) async fn read_missing(
        &self,
        from: Offset,
        limits: ReadLimits,
        isolation: Isolation,
    ) -> Result<Read, ReadRefused> {
        tracing::warn!(partition = %self.id(), from = from.0, "missing on this disk: read from the store");
        match self.read_cold(from, limits.max_bytes).await? {
            Cold::Found(read) => Ok(read),
            Cold::HoleUpTo(_) => self.read_hot(from, limits, isolation).await,
        }
    }

    pub(super) async fn read_cold(&self, from: Offset, max_bytes: usize) -> Result<Cold, ReadRefused> {
        let tier = self.tier().expect("the caller saw the tier");
        let mut from = from;
        loop {
            let found = match tier.fetch(self.id(), from, max_bytes).await {
                Err(TierReadError::OutOfRange { start, end, .. }) => {
                    return self.not_in_store(from, (Offset(start), Offset(end)));
                }
                found => found?,
            };
            if found.batches.is_empty() && found.next_offset > from {
                // A hole: what stood there is gone, and the reader is led across it.
                from = found.next_offset;
                if from >= self.hot.local_log_start() {
                    return Ok(Cold::HoleUpTo(from));
                }
                continue;
            }
            if found.batches.is_empty() {
                let held = self.tiered().map(|range| (range.start, range.end));
                return self.not_in_store(from, held.unwrap_or((from, from)));
            }
            return Ok(Cold::Found(Read {
                pieces: found.batches.into_iter().map(Piece::Memory).collect(),
                high_watermark: self.hot.high_watermark(),
                last_stable_offset: self.hot.last_stable_offset(),
                log_start: self.hot.log_start(),
                aborted: found
                    .aborted
                    .iter()
                    .map(|range| (range.producer_id.0, range.first_offset.0))
                    .collect(),
            }));
        }
    }

    /// What a reader gets of an offset that the store does not have. One that is still the log's, and not on local disk, must
    /// not be called out of range: clients would begin anew elsewhere.
    fn not_in_store(&self, offset: Offset, (start, end): (Offset, Offset)) -> Result<Cold, ReadRefused> {
        if self.is_cold(offset) {
            return Err(ReadRefused::Nowhere { partition: self.id(), offset, start, end });
        }
        // The log start passed it in this very moment: the local log says so.
        Ok(Cold::HoleUpTo(offset))
    }
}
