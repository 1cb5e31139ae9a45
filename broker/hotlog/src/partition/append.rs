//! Appending a batch: all decisions under the partition's lock, the copy behind it.
//!
//! Owns: the order of those steps. Does not own: the decisions themselves (producers, roll), places, commits.

use std::sync::Arc;

use wire::batch::{BatchError, BatchHeader, HEADER_BYTES, patch_placement};
use wire::ids::Offset;

use super::marker::{self, TransactionMarkerBatch};
use super::state::{PartitionState, PlacedBatch, producer_batch};
use super::{Appended, CommitEffect, Origin, Partition, PartitionId};
use crate::error::AppendError;
use crate::health::lock;
use crate::journal::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind, Place, PlaceRequest, Room};
use crate::producers::Admission;
use crate::roll::{self, ActiveSegment, NextBatch, RollLimits};

impl Partition {
    /// Appends one whole batch whose CRC the caller has checked. Never blocks: neither on the disk nor on the journal.
    /// The base offset and leader epoch of the stored copy are patched.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then, and the room is given back.
    pub fn append(
        self: &Arc<Self>,
        room: Room,
        batch: &[u8],
        origin: Origin,
    ) -> Result<Appended, AppendError> {
        let (header, marker) = self.check_batch(&room, batch, origin)?;
        let now_ms = self.shared.clock.now_ms();
        let mut state = lock(&self.state);
        if state.deleted {
            return Err(AppendError::Deleted(self.id));
        }
        if let Some(producer) = producer_batch(&header)
            && let Admission::Duplicate { base_offset, last_offset, append_time_ms } =
                state.producers.check(&producer)?
        {
            let ticket = state.last_ticket;
            let log_start = self.log_start();
            return Ok(Appended {
                base_offset,
                last_offset,
                append_time_ms,
                log_start,
                duplicate: true,
                ticket,
            });
        }
        if let Some(marker) = &marker {
            state.producers.check_marker(&marker.marker)?;
        }
        let base_offset = state.log_end;
        let last_offset = base_offset
            .0
            .checked_add(i64::from(header.last_offset_delta))
            .filter(|last| *last < i64::MAX)
            .map(Offset)
            .ok_or(AppendError::OffsetsUsedUp(self.id))?;
        let epoch = self.shared.leader_epoch();
        let next = NextBatch { size_bytes: batch.len() as u32, last_offset, append_time_ms: now_ms };
        let rolls = must_roll(&state, &next, marker.is_some());
        self.note_changed(&mut state);
        let effect =
            CommitEffect { end: Offset(last_offset.0 + 1), log_start: None, truncations: state.truncations };
        let request = PlaceRequest {
            payload_bytes: batch.len(),
            synced: self.is_metadata(),
            partition: self,
            effect,
            slot: &mut state.slot,
            now_ms,
        };
        let (place, ticket) = self.shared.journal.place(room, request)?;
        state.last_ticket = ticket;
        let ring = place.position() + ENTRY_HEADER_BYTES as u64;
        state.apply(&PlacedBatch {
            header: &header,
            base_offset,
            epoch,
            append_time_ms: now_ms,
            ring,
            rolls,
            marker,
        });
        let writes_now = !state.queued && state.unwritten() >= self.shared.write_threshold;
        state.queued |= writes_now;
        drop(state);

        let entry = EntryHeader {
            kind: EntryKind::Batch { rolls },
            partition: self.id,
            epoch,
            offset: base_offset,
            append_time_ms: now_ms,
            length: batch.len() as u32,
        };
        self.copy_batch(place, &entry, batch);
        if writes_now {
            self.shared.queue_write(Arc::clone(self));
        }
        let log_start = self.log_start();
        Ok(Appended { base_offset, last_offset, append_time_ms: now_ms, log_start, duplicate: false, ticket })
    }

    /// Everything that can be said about a batch without the partition's state.
    fn check_batch(
        &self,
        room: &Room,
        batch: &[u8],
        origin: Origin,
    ) -> Result<(BatchHeader, Option<TransactionMarkerBatch>), AppendError> {
        let header = whole_header(batch)?;
        if batch.len() > room.payload_bytes() {
            return Err(AppendError::Room { bytes: batch.len(), reserved: room.payload_bytes() });
        }
        let is_control = header.attributes.is_control();
        if is_control && origin == Origin::Client {
            return Err(AppendError::Control("clients may not write control records"));
        }
        let marker =
            if is_control { marker::read(&header, batch).map_err(AppendError::Control)? } else { None };
        if self.shared.space.is_short() && !self.is_metadata() {
            return Err(AppendError::StorageFull);
        }
        Ok((header, marker))
    }

    /// The one copy: the entry's header, the batch's header with its offset and epoch, the rest as it came.
    fn copy_batch(&self, place: Place, entry: &EntryHeader, batch: &[u8]) {
        let mut patched = *batch.first_chunk::<HEADER_BYTES>().expect("a parsed header is there");
        patch_placement(&mut patched, entry.offset, entry.epoch);
        self.shared.journal.fill(place, &[&entry.encode(), &patched, &batch[HEADER_BYTES..]]);
    }

    /// Deleting a topic to free space needs the metadata, which so may use the reserve; and what it says is synced in both modes.
    fn is_metadata(&self) -> bool {
        self.id == PartitionId::METADATA
    }
}

/// The header of bytes that are exactly one batch.
fn whole_header(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.size_bytes > batch.len() {
        return Err(BatchError::Truncated { needed_bytes: header.size_bytes, available_bytes: batch.len() });
    }
    if header.size_bytes < batch.len() {
        return Err(BatchError::Trailing { extra_bytes: batch.len() - header.size_bytes });
    }
    Ok(header)
}

fn must_roll(state: &PartitionState, next: &NextBatch, is_marker: bool) -> bool {
    let active = state.active();
    let limits =
        RollLimits { segment_bytes: state.config.segment_bytes, segment_ms: state.config.segment_ms };
    let segment = ActiveSegment {
        base_offset: active.base_offset,
        size_bytes: active.size_bytes,
        first_append_time_ms: active.first_append_time_ms,
    };
    let by_limits = roll::before_append(&segment, next, &limits).is_some();
    by_limits || (is_marker && active.aborted.is_full())
}
