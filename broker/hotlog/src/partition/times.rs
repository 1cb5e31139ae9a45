//! Offsets by record time, from the segments' indexes and a few batch headers.
//!
//! Owns: the search over a partition. Does not own: the records inside a batch; who wants one of them decodes the batch.

use wire::ids::{LeaderEpoch, Offset};

use super::read::SegmentView;
use super::state::PartitionState;
use super::{Isolation, Partition};
use crate::error::ReadError;
use crate::health::lock;
use crate::index::{MaxTimestamp, SegmentIndex};

/// A batch found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndTime {
    /// The first offset of the batch. Its first records may be older than what was asked for, or lie below the log start: whoever wants
    /// the record reads the batch.
    pub batch_base_offset: Offset,
    /// The batch's largest record time, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// The epoch that wrote the batch.
    pub leader_epoch: LeaderEpoch,
}

/// Where to look for a time in what is not sealed.
enum Place {
    View(SegmentView, u32),
    Batch(Offset, i64),
}

impl Partition {
    /// The first local batch with a record at or after `timestamp_ms`, as far as `isolation` sees; `None` when there is none.
    /// May read segments: blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_for_time(
        &self,
        timestamp_ms: i64,
        isolation: Isolation,
    ) -> Result<Option<OffsetAndTime>, ReadError> {
        self.offset_for_time_from(self.log_start(), timestamp_ms, isolation)
    }

    /// The same among the batches that reach `from` or lie behind it: for who found no such record in the batch before, because the log
    /// start cuts it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_for_time_from(
        &self,
        from: Offset,
        timestamp_ms: i64,
        isolation: Isolation,
    ) -> Result<Option<OffsetAndTime>, ReadError> {
        let end = match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        };
        let wanted = Young { from: from.max(self.local_log_start()), timestamp_ms };
        let (sealed, places) = self.sealed_and(wanted.from, |state| open_places(state, wanted))?;
        for meta in sealed {
            let sidecar = self.sidecar(meta.base_offset)?;
            let Some(position) = wanted.position_in(&sidecar.index) else { continue };
            let view = SegmentView::sealed(&sidecar);
            if let Some(found) = self.first_young(&view, position, wanted)? {
                return Ok(found.filter_below(end));
            }
        }
        for place in places {
            let found = match place {
                Place::View(view, position) => self.first_young(&view, position, wanted)?,
                Place::Batch(base_offset, time) => Some(self.at(base_offset, time)),
            };
            if let Some(found) = found {
                return Ok(found.filter_below(end));
            }
        }
        Ok(None)
    }

    /// The batch with the largest record time that is held locally (`ListOffsets` with timestamp -3, KIP-734), if any has one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_of_max_timestamp(&self) -> Result<Option<OffsetAndTime>, ReadError> {
        let mut best: Option<MaxTimestamp> = None;
        let mut consider = |found: MaxTimestamp| {
            if found.timestamp_ms >= 0 && best.is_none_or(|best| found.timestamp_ms > best.timestamp_ms) {
                best = Some(found);
            }
        };
        let (sealed, in_open) = self.sealed_and(self.local_log_start(), |state| {
            state.open.iter().map(|segment| segment.index.max_timestamp()).collect::<Vec<_>>()
        })?;
        for meta in sealed {
            consider(self.sidecar(meta.base_offset)?.index.max_timestamp());
        }
        in_open.into_iter().for_each(&mut consider);
        let end = self.high_watermark();
        Ok(best.and_then(|best| self.at(best.batch_base_offset, best.timestamp_ms).filter_below(end)))
    }

    fn first_young(
        &self,
        view: &SegmentView,
        position: u32,
        wanted: Young,
    ) -> Result<Option<OffsetAndTime>, ReadError> {
        let young = self.find_batch(view, position, |found| {
            wanted.fits(found.header.max_timestamp_ms, found.header.last_offset())
        })?;
        Ok(young.map(|found| OffsetAndTime {
            batch_base_offset: found.header.base_offset,
            max_timestamp_ms: found.header.max_timestamp_ms,
            leader_epoch: found.header.leader_epoch,
        }))
    }

    fn at(&self, batch_base_offset: Offset, max_timestamp_ms: i64) -> OffsetAndTime {
        let leader_epoch = self.epoch_of(batch_base_offset).unwrap_or(LeaderEpoch::NONE);
        OffsetAndTime { batch_base_offset, max_timestamp_ms, leader_epoch }
    }

    /// The epoch that wrote an offset, wherever its bytes are; `None` below the first that the history knows.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        lock(&self.state).epochs.epoch_of(offset)
    }
}

/// Which batch is looked for: the first that reaches `from` and has a record of that time or later.
#[derive(Clone, Copy)]
struct Young {
    from: Offset,
    timestamp_ms: i64,
}

impl Young {
    fn fits(self, max_timestamp_ms: i64, last_offset: Offset) -> bool {
        max_timestamp_ms >= self.timestamp_ms && last_offset >= self.from
    }

    /// Where in a segment to begin; `None` when nothing in it is young enough.
    fn position_in(self, index: &SegmentIndex) -> Option<u32> {
        let position = index.position_of_time(self.timestamp_ms)?;
        Some(position.max(index.position_of_offset(self.from)))
    }
}

impl OffsetAndTime {
    fn filter_below(self, end: Offset) -> Option<Self> {
        (self.batch_base_offset < end).then_some(self)
    }
}

/// Where a batch young enough may be, in order: each open segment outside of the ring, then the ring's first.
fn open_places(state: &PartitionState, wanted: Young) -> Vec<Place> {
    let in_ring = state.ring.front().map_or(state.log_end, |first| first.base_offset);
    let outside = state.open.iter().filter(|segment| segment.base_offset < in_ring);
    let views = outside.filter_map(|segment| {
        let position = wanted.position_in(&segment.index)?;
        let view = SegmentView::open(state, segment);
        (position < view.end).then_some(Place::View(view, position))
    });
    let young = state.ring.iter().find(|batch| wanted.fits(batch.max_timestamp_ms, batch.last_offset));
    views.chain(young.map(|batch| Place::Batch(batch.base_offset, batch.max_timestamp_ms))).collect()
}
