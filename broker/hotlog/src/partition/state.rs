//! A partition's state behind its lock, and how a batch changes it: the same for an append and for recovery's replay.
//!
//! Owns: the in-memory truth. Does not own: I/O, the journal's ring, decisions about what may be appended.

use std::collections::VecDeque;

use wire::batch::BatchHeader;
use wire::ids::{LeaderEpoch, Offset};

use super::LogBeginning;
use super::marker::TransactionMarkerBatch;
use crate::aborted::AbortedTransaction;
use crate::checkpoint::record::PartitionRecord;
use crate::epochs::EpochHistory;
use crate::index::IndexedBatch;
use crate::journal::{StakeSlot, Ticket};
use crate::options::PartitionConfig;
use crate::producers::{AppendedAt, ProducerBatch, ProducerStates};
use crate::segment::{Closed, OpenSegment, Remainder, SealedMeta};

/// A batch in the journal's ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingBatch {
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    /// The segment it belongs to, and where in it.
    pub(crate) segment: Offset,
    pub(crate) position: u32,
    pub(crate) length: u32,
    /// Where in the ring.
    pub(crate) ring: u64,
    pub(crate) max_timestamp_ms: i64,
}

/// What is known of the segments that are sealed.
#[derive(Debug)]
pub(crate) struct SealedSegments {
    /// Everything below was sealed before this start of the directory.
    pub(crate) recovered_base: Offset,
    /// Those below `recovered_base`, once somebody asked and the folder was read.
    pub(crate) listed: Option<VecDeque<SealedMeta>>,
    /// Those sealed since.
    pub(crate) fresh: VecDeque<SealedMeta>,
    /// Those below are below a checkpoint's cut.
    pub(crate) checkpointed_base: Offset,
}

/// A batch that has its place.
#[derive(Debug)]
pub(crate) struct PlacedBatch<'a> {
    /// As it was sent, its base offset excepted.
    pub(crate) header: &'a BatchHeader,
    pub(crate) base_offset: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) append_time_ms: i64,
    pub(crate) ring: u64,
    pub(crate) rolls: bool,
    pub(crate) marker: Option<TransactionMarkerBatch>,
}

#[derive(Debug)]
pub(crate) struct PartitionState {
    pub(crate) config: PartitionConfig,
    pub(crate) deleted: bool,
    pub(crate) log_start: Offset,
    pub(crate) local_log_start: Offset,
    pub(crate) log_end: Offset,
    /// Not sealed, oldest first; the last is the active one, and there always is one.
    pub(crate) open: VecDeque<OpenSegment>,
    /// Batches in the journal above the checkpoint's cut, oldest first.
    pub(crate) ring: VecDeque<RingBatch>,
    pub(crate) producers: ProducerStates,
    pub(crate) epochs: EpochHistory,
    pub(crate) slot: StakeSlot,
    pub(crate) last_ticket: Ticket,
    /// Rises with each truncation, so that what was planned before is recognised.
    pub(crate) truncations: u32,
    /// Whether no durable checkpoint counts the last truncation.
    pub(crate) has_uncounted_cut: bool,
    /// Whether anything changed since the last snapshot for a checkpoint.
    pub(crate) changed: bool,
    /// Whether the next checkpoint looks at this partition.
    pub(crate) listed: bool,
    /// Whether the segment writer was asked for.
    pub(crate) queued: bool,
    pub(crate) sealed: SealedSegments,
    /// Segments to be removed once a checkpoint no longer counts on them.
    pub(crate) garbage: Vec<Offset>,
    /// Files of segments above this offset were left by a log that was lost or truncated.
    pub(crate) purge_above: Option<Offset>,
    /// Files of segments wholly below this offset were let go of before this start, and perhaps not removed.
    pub(crate) purge_below: Offset,
}

impl PartitionState {
    pub(crate) fn new(config: PartitionConfig) -> Self {
        let zero = Offset(0);
        Self {
            config,
            deleted: false,
            log_start: zero,
            local_log_start: zero,
            log_end: zero,
            open: VecDeque::from([OpenSegment::new(zero)]),
            ring: VecDeque::new(),
            producers: ProducerStates::default(),
            epochs: EpochHistory::default(),
            slot: StakeSlot::default(),
            last_ticket: Ticket::default(),
            truncations: 0,
            has_uncounted_cut: false,
            changed: false,
            listed: false,
            queued: false,
            sealed: SealedSegments {
                recovered_base: zero,
                listed: None,
                fresh: VecDeque::new(),
                checkpointed_base: zero,
            },
            garbage: Vec::new(),
            purge_above: Some(zero),
            purge_below: zero,
        }
    }

    /// The state as a checkpoint has it.
    pub(crate) fn from_record(record: PartitionRecord, block: u32) -> Self {
        let head = record.head;
        let mut state = Self::new(PartitionConfig::default());
        let written = head.size_bytes - record.remainder.len() as u32;
        assert!(written.is_multiple_of(block), "a remainder begins at a block");
        let mut active = OpenSegment::new(head.base_offset);
        active.size_bytes = head.size_bytes;
        active.written = written;
        active.named = written > 0;
        active.first_append_time_ms = head.first_append_time_ms;
        active.last_append_time_ms = head.last_append_time_ms;
        active.known_entries = record.index.entry_count();
        active.index = record.index;
        active.aborted = record.aborted;
        if !record.remainder.is_empty() {
            active.remainder = Some(Remainder { position: written, bytes: record.remainder });
        }
        state.open = VecDeque::from([active]);
        state.log_start = head.log_start;
        state.local_log_start = head.local_log_start;
        state.log_end = head.log_end;
        state.producers = record.producers;
        state.epochs = record.epochs;
        state.sealed.recovered_base = head.base_offset;
        state.sealed.checkpointed_base = head.base_offset;
        state.purge_above = Some(head.base_offset);
        state.purge_below = head.local_log_start;
        state
    }

    pub(crate) fn active(&self) -> &OpenSegment {
        self.open.back().expect("there always is an active segment")
    }

    pub(crate) fn active_mut(&mut self) -> &mut OpenSegment {
        self.open.back_mut().expect("there always is an active segment")
    }

    /// Ends the active segment; the next begins at the log's end.
    pub(crate) fn roll(&mut self) {
        let next_offset = self.log_end;
        let latest = self.epochs.latest().map_or(LeaderEpoch::NONE, |latest| latest.epoch);
        let closed = Closed {
            next_offset,
            leader_epoch: latest,
            producers: self.producers.clone(),
            epochs: self.epochs.clone(),
        };
        let active = self.active_mut();
        if active.size_bytes == 0 {
            // Nothing was ever in it: the next one takes its place.
            *active = OpenSegment::new(next_offset);
        } else {
            active.closed = Some(closed);
            self.open.push_back(OpenSegment::new(next_offset));
        }
    }

    /// Notes a batch that has its offset and its place in the ring.
    pub(crate) fn apply(&mut self, batch: &PlacedBatch<'_>) {
        if batch.rolls {
            self.roll();
        }
        let header = batch.header;
        let last_offset = Offset(batch.base_offset.0 + i64::from(header.last_offset_delta));
        self.epochs.assign(batch.epoch, batch.base_offset);
        let at = AppendedAt { base_offset: batch.base_offset, append_time_ms: batch.append_time_ms };
        let mut aborted = None;
        if let Some(marker) = &batch.marker {
            let ended = self.producers.record_marker(&marker.marker, at);
            aborted = ended.filter(|ended| !ended.committed).map(|ended| AbortedTransaction {
                producer_id: ended.producer_id,
                first_offset: ended.first_offset,
                marker_offset: ended.marker_offset,
                last_stable_offset: ended.last_stable_offset,
            });
        } else if let Some(producer) = producer_batch(header) {
            self.producers.record(&producer, at);
        }
        let active = self.active_mut();
        let length = header.size_bytes as u32;
        let placed = RingBatch {
            base_offset: batch.base_offset,
            last_offset,
            segment: active.base_offset,
            position: active.size_bytes,
            length,
            ring: batch.ring,
            max_timestamp_ms: header.max_timestamp_ms,
        };
        active.index.append(&IndexedBatch {
            base_offset: batch.base_offset,
            size_bytes: length,
            max_timestamp_ms: header.max_timestamp_ms,
        });
        active.size_bytes += length;
        active.first_append_time_ms.get_or_insert(batch.append_time_ms);
        active.last_append_time_ms = batch.append_time_ms;
        if let Some(aborted) = aborted {
            active.aborted.push(aborted);
        }
        self.ring.push_back(placed);
        self.log_end = Offset(last_offset.0 + 1);
    }

    /// The log, which has never held a batch, begins like that.
    pub(crate) fn begin(&mut self, beginning: &LogBeginning) {
        let offset = beginning.local_start;
        self.log_start = beginning.log_start;
        self.local_log_start = offset;
        self.log_end = offset;
        self.epochs = beginning.epochs.clone();
        self.epochs.truncate_from_start(beginning.log_start);
        self.open = VecDeque::from([OpenSegment::new(offset)]);
        self.sealed.recovered_base = offset;
        self.sealed.checkpointed_base = offset;
        self.purge_above = Some(offset);
    }

    /// Lets go of everything below `offset`, which no local batch of the log reaches: what is there lies below the log start.
    pub(crate) fn forget_below(&mut self, offset: Offset) {
        let sealed =
            self.sealed.listed.iter().flatten().chain(&self.sealed.fresh).map(|meta| meta.base_offset);
        let open = self.open.iter().map(|segment| segment.base_offset);
        self.garbage.extend(sealed.chain(open).filter(|base| *base < offset));
        self.sealed.listed.iter_mut().for_each(VecDeque::clear);
        self.sealed.fresh.clear();
        self.open.clear();
        self.ring.clear();
        self.local_log_start = offset;
    }

    /// The first offset whose batch is held locally, or would be.
    pub(crate) fn local_start(&self) -> Offset {
        self.local_log_start.max(self.log_start)
    }

    /// The log starts at `offset` now, if that is higher.
    pub(crate) fn move_log_start(&mut self, offset: Offset) {
        if offset > self.log_start {
            self.log_start = offset;
            self.epochs.truncate_from_start(offset);
        }
    }

    /// Whether no batch was ever appended, and the log begins at offset 0.
    pub(crate) fn is_pristine(&self) -> bool {
        self.log_end == Offset(0) && self.epochs.latest().is_none() && self.active().size_bytes == 0
    }

    /// The most bytes of one open segment that its file does not hold.
    pub(crate) fn bytes_in_memory_only(&self) -> usize {
        self.open.iter().map(|segment| (segment.size_bytes - segment.written) as usize).max().unwrap_or(0)
    }

    /// Committed bytes of the open segments that no whole block in a file holds.
    pub(crate) fn unwritten(&self) -> u32 {
        let active = self.active();
        let closed = self.open.len() > 1;
        if closed { u32::MAX } else { active.size_bytes - active.written }
    }
}

/// What a batch of an idempotent producer says, if it is one.
pub(crate) fn producer_batch(header: &BatchHeader) -> Option<ProducerBatch> {
    (header.has_producer_id() && !header.attributes.is_control()).then(|| ProducerBatch {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_offset_delta: header.last_offset_delta,
        transactional: header.attributes.is_transactional(),
    })
}
