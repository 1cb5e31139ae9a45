//! Searches in a partition: the offset of a time, the epoch of an offset, the end of an epoch.
//!
//! Owns: whether the store or the local log has the answer, and finding the record inside of a batch.
//! Does not own: the indexes (crates `hotlog` and `tiering`), what clients call the ends of a log (`api::list_offsets`).

use std::sync::Arc;

use hotlog::{Isolation, ReadLimits};
use wire::batch::{BatchView, Records as RecordIter};
use wire::ids::{LeaderEpoch, Offset};

use super::{Partition, ReadRefused, joined, on_disk_thread};
use crate::limits::MAX_DECOMPRESSED_BYTES;

/// An offset found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOffset {
    /// The record's offset.
    pub(crate) offset: Offset,
    /// The record's time, milliseconds since 1970.
    pub(crate) timestamp_ms: i64,
    /// The epoch that wrote it.
    pub(crate) leader_epoch: LeaderEpoch,
}

/// What a look into one batch gave.
struct Looked {
    found: Option<TimedOffset>,
    /// The first offset behind the batch.
    next: Offset,
}

impl Partition {
    /// The first record at or after a time, in the store first, then locally.
    ///
    /// # Errors
    /// [`ReadRefused`].
    pub(crate) async fn offset_for_time(
        &self,
        timestamp_ms: i64,
        isolation: Isolation,
    ) -> Result<Option<TimedOffset>, ReadRefused> {
        if let Some(tier) = self.tier().filter(|_| self.hot.log_start() < self.hot.local_log_start()) {
            let found = tier.offset_for_time(self.id(), timestamp_ms).await?;
            if let Some(found) = found.filter(|found| found.offset < self.hot.local_log_start()) {
                let leader_epoch = self.epoch_of(found.offset);
                let (offset, timestamp_ms) = (found.offset, found.timestamp_ms);
                return Ok(Some(TimedOffset { offset, timestamp_ms, leader_epoch }));
            }
        }
        let mut from = self.hot.log_start();
        loop {
            let hot = Arc::clone(&self.hot);
            let search = move || hot.offset_for_time_from(from, timestamp_ms, isolation);
            let Some(young) = on_disk_thread(search).await?? else { return Ok(None) };
            let wanted = |record_ms: i64| record_ms >= timestamp_ms;
            match self.look_into(young.batch_base_offset, wanted).await? {
                // What made the batch young enough lies below the log start, or its header promised more than it holds.
                Some(Looked { found: None, next }) => from = next,
                looked => return Ok(looked.and_then(|looked| looked.found)),
            }
        }
    }

    /// The first record with the largest time held locally; none when that record lies below the log start.
    ///
    /// # Errors
    /// [`ReadRefused`].
    pub(crate) async fn offset_of_max_timestamp(&self) -> Result<Option<TimedOffset>, ReadRefused> {
        let hot = Arc::clone(&self.hot);
        let Some(newest) = on_disk_thread(move || hot.offset_of_max_timestamp()).await?? else {
            return Ok(None);
        };
        let wanted = |record_ms: i64| record_ms >= newest.max_timestamp_ms;
        let looked = self.look_into(newest.batch_base_offset, wanted).await?;
        Ok(looked.and_then(|looked| looked.found))
    }

    /// Looks for the first record in a batch that is in the log and wanted; `None` when there is no batch there any more.
    async fn look_into(
        &self,
        base_offset: Offset,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Option<Looked>, ReadRefused> {
        let limits = ReadLimits { max_bytes: 0, at_least_one_batch: true };
        let start = self.hot.log_start();
        let read = self.read(base_offset.max(start), limits, Isolation::ReadUncommitted).await?;
        let bytes = joined(read.pieces).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let batch = BatchView::first(&bytes).map_err(|error| ReadRefused::Unreadable(error.to_string()))?;
        let (leader_epoch, next) = (batch.header().leader_epoch, batch.header().next_offset());
        let mut records = RecordIter::new(&batch, MAX_DECOMPRESSED_BYTES);
        while let Some(record) = records.next_record()? {
            if record.offset >= start && wanted(record.timestamp_ms) {
                let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
                return Ok(Some(Looked {
                    found: Some(TimedOffset { offset, timestamp_ms, leader_epoch }),
                    next,
                }));
            }
        }
        Ok(Some(Looked { found: None, next }))
    }

    /// The epoch that wrote an offset. At the end of the log it is the one that will: Kafka's leaders note theirs there when
    /// they begin, ours only with a record.
    pub(crate) fn epoch_of(&self, offset: Offset) -> LeaderEpoch {
        if offset >= self.hot.log_end() {
            return self.hot.leader_epoch();
        }
        self.hot.epoch_of(offset).unwrap_or(LeaderEpoch::NONE)
    }

    /// The ends of epochs: where `epoch` ends, as OffsetForLeaderEpoch answers.
    pub(crate) fn offset_for_leader_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if let Some(tier) = self.tier() {
            let epochs = tier.epochs(self.id());
            let local_start = self.hot.local_log_start();
            let at = epochs.partition_point(|start| start.epoch <= epoch);
            if let (Some(own), Some(next)) = (epochs[..at].last(), epochs.get(at))
                && next.start_offset < local_start
            {
                return Some((own.epoch, next.start_offset));
            }
        }
        // The log lists an epoch once it has a batch. One that has none yet, the current one above all, ends where the
        // log does: a consumer that was told "unknown" would believe that records are lost.
        let (own, end) = match self.hot.offset_for_leader_epoch(epoch) {
            Some(found) => (found.epoch, found.end_offset),
            None if epoch <= self.hot.leader_epoch() => (epoch, self.hot.log_end()),
            None => return None,
        };
        // Epochs from before a recovery end where the store's records do: who was further has seen what is lost.
        if let Some(tier) = self.tier().filter(|_| epoch < self.hot.leader_epoch())
            && let Some(lost_from) = tier.lost_before(self.id(), end)
        {
            let epochs = tier.epochs(self.id());
            let known = epochs.iter().rev().find(|start| start.epoch <= epoch);
            return Some((known.map_or(own, |start| start.epoch), lost_from));
        }
        Some((own, end))
    }
}
