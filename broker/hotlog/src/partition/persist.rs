//! What of a partition has to reach the disk: pieces of segments, seals, and the snapshot a checkpoint takes.
//!
//! Owns: the plan of each write, made under the partition's lock, and the notes when it is done.
//! Does not own: the writing (`segment::writer`), the checkpoint file.

use std::sync::Arc;

use bytes::Bytes;
use wire::ids::Offset;

use super::Partition;
use super::state::PartitionState;
use crate::checkpoint::record::{RecordHead, RecordParts};
use crate::health::lock;
use crate::limits;
use crate::segment::{OpenSegment, Remainder, SealedMeta};
use crate::sidecar::Sidecar;

/// Bytes of a segment, wherever they are.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Memory(Bytes),
    Ring { position: u64, length: usize },
}

/// One write to a segment's file.
#[derive(Debug)]
pub(crate) struct WritePlan {
    pub(crate) base_offset: Offset,
    /// Where the write begins: at a block.
    pub(crate) from: u32,
    /// Where it ends: at a block, or at the segment's end when that is written to seal it.
    pub(crate) to: u32,
    pub(crate) pieces: Vec<Piece>,
    /// Disk space that the file holds, and that it should.
    pub(crate) reserved: u64,
    pub(crate) reserve: u64,
    /// Whether the file's name is not known to be durable.
    pub(crate) is_new: bool,
    /// Whether this write ends the segment.
    pub(crate) seals: Option<Box<Sidecar>>,
    truncations: u32,
}

/// How much one write may carry, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteBounds {
    /// Fewer are not worth a write of their own, except where they end a segment.
    pub(crate) least: u32,
    pub(crate) most: u32,
}

/// Files of segments that do not count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purge {
    /// Those with a base offset above this.
    pub(crate) above: Offset,
    /// Those wholly below this.
    pub(crate) below: Offset,
}

/// A partition's state for a checkpoint.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The record without its remainder.
    pub(crate) record: Vec<u8>,
    remainder_at: u32,
    pub(crate) remainder: Vec<Piece>,
    base_offset: Offset,
    index_entries: usize,
    truncations: u32,
    garbage: Vec<Offset>,
}

/// What a durable checkpoint has of a partition.
#[derive(Debug)]
pub(crate) struct Checkpointed {
    base_offset: Offset,
    remainder: Remainder,
    index_entries: usize,
    truncations: u32,
    /// Segments that it does not count on any more.
    garbage: Vec<Offset>,
}

/// What one checkpoint record is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordFor {
    /// The file that has this partition's earlier records.
    Appending,
    /// A file that replaces it.
    Replacing,
}

impl Partition {
    /// The next write that brings committed bytes to a file; `None` when too few for a write of their own are left, and every rolled
    /// segment is sealed.
    pub(crate) fn next_write(&self, bounds: WriteBounds) -> Option<WritePlan> {
        let block = self.shared.block;
        let state = lock(&self.state);
        if state.deleted {
            return None;
        }
        let high_watermark = self.high_watermark();
        // Bytes above the high watermark are not committed; they are the last batches in the ring.
        let committed_batches = state.ring.partition_point(|batch| batch.last_offset < high_watermark);
        let uncommitted = state.ring.get(committed_batches);
        for segment in &state.open {
            let committed = match uncommitted {
                Some(batch) if batch.segment == segment.base_offset => batch.position,
                Some(batch) if batch.segment < segment.base_offset => 0,
                _ => segment.size_bytes,
            };
            let is_whole = segment.closed.is_some() && committed == segment.size_bytes;
            let whole_blocks = committed - committed % block;
            let end = if is_whole { segment.size_bytes } else { whole_blocks };
            if !is_whole && end.saturating_sub(segment.written) < bounds.least {
                continue;
            }
            let to = end_of_write(segment.written, end, bounds.most);
            let seals = (is_whole && to == segment.size_bytes).then(|| Box::new(self.sidecar_of(segment)));
            let ahead = u64::from(segment.size_bytes).min(limits::SEGMENT_AHEAD_BYTES);
            let limit = u64::from(state.config.segment_bytes).max(segment.size_bytes.into());
            let wanted = (u64::from(segment.size_bytes) + ahead).min(limit).next_multiple_of(block.into());
            let needed = u64::from(to).next_multiple_of(block.into());
            let reserve =
                if seals.is_some() || needed <= segment.reserved { needed } else { wanted.max(needed) };
            return Some(WritePlan {
                base_offset: segment.base_offset,
                from: segment.written,
                to,
                pieces: pieces(&state, segment, segment.written, to),
                reserved: segment.reserved,
                reserve,
                is_new: !segment.named,
                seals,
                truncations: state.truncations,
            });
        }
        None
    }

    fn sidecar_of(&self, segment: &OpenSegment) -> Sidecar {
        let closed = segment.closed.as_ref().expect("only a rolled segment is sealed");
        Sidecar {
            topic_id: self.id.topic_id,
            partition: self.id.partition,
            leader_epoch: closed.leader_epoch,
            next_offset: closed.next_offset,
            first_append_time_ms: segment.first_append_time_ms.unwrap_or(segment.last_append_time_ms),
            last_append_time_ms: segment.last_append_time_ms,
            index: segment.index.clone(),
            aborted: segment.aborted.clone(),
            producers: closed.producers.clone(),
            epochs: closed.epochs.clone(),
        }
    }

    /// A planned write is done. A truncation in between makes it void: the blocks are written again.
    pub(crate) fn wrote(&self, plan: &WritePlan) {
        let mut state = lock(&self.state);
        if state.truncations != plan.truncations {
            return;
        }
        if plan.seals.is_some() {
            let sealed = state.open.pop_front().expect("the sealed segment is the first of the open ones");
            assert!(sealed.base_offset == plan.base_offset, "segments are sealed in order");
            let next_offset = sealed.closed.map_or(state.log_end, |closed| closed.next_offset);
            let size_bytes = sealed.size_bytes.into();
            state.sealed.fresh.push_back(SealedMeta {
                base_offset: plan.base_offset,
                next_offset,
                size_bytes,
            });
            return;
        }
        let block = self.shared.block;
        let segment = state.open.iter_mut().find(|segment| segment.base_offset == plan.base_offset);
        let segment = segment.expect("only a seal or a truncation takes an open segment away");
        segment.written = plan.to - plan.to % block;
        segment.unsynced = true;
        segment.named = true;
        segment.reserved = plan.reserve.max(plan.reserved);
        if segment.remainder.as_ref().is_some_and(|remainder| remainder.end() <= segment.written) {
            segment.remainder = None;
        }
    }

    /// The writer is done with what it was asked for.
    pub(crate) fn unqueue(&self) {
        lock(&self.state).queued = false;
    }

    /// A checkpoint has taken the partition from the list.
    pub(crate) fn unlist(&self) {
        lock(&self.state).listed = false;
    }

    /// Which files were left by a log that was lost, truncated or let go of, and have to go before the next write; `None` once they are
    /// gone.
    pub(crate) fn purge(&self) -> Option<Purge> {
        let state = lock(&self.state);
        state.purge_above.map(|above| Purge { above, below: state.purge_below })
    }

    /// They are gone.
    pub(crate) fn purged(&self) {
        lock(&self.state).purge_above = None;
    }

    /// The active segment's bytes below a block.
    pub(crate) fn remainder(&self) -> Option<(Offset, Remainder)> {
        let state = lock(&self.state);
        let active = state.active();
        let remainder = active.remainder.clone().filter(|_| !state.deleted)?;
        Some((active.base_offset, remainder))
    }

    /// Whether the file of an open segment is ahead of its last sync.
    pub(crate) fn is_unsynced(&self) -> bool {
        let state = lock(&self.state);
        !state.deleted && state.open.iter().any(|segment| segment.unsynced)
    }

    /// Base offsets of open segments whose file is ahead of its last sync; they count as synced from now.
    pub(crate) fn take_unsynced(&self) -> Vec<Offset> {
        let mut state = lock(&self.state);
        if state.deleted {
            return Vec::new();
        }
        let take =
            |segment: &mut OpenSegment| std::mem::take(&mut segment.unsynced).then_some(segment.base_offset);
        state.open.iter_mut().filter_map(take).collect()
    }

    /// The state as it is now, with entries that may not be committed yet: the caller commits them before it uses the pieces.
    /// `None` when a record would say nothing new.
    pub(crate) fn snapshot(&self, purpose: RecordFor) -> Option<Snapshot> {
        let mut state = lock(&self.state);
        let wanted = state.changed || purpose == RecordFor::Replacing;
        if state.deleted || !wanted {
            return None;
        }
        state.changed = false;
        // Taken with the partition's lock: entries of this partition that come later lie above.
        let as_of = self.shared.journal.head();
        let state = &mut *state;
        let active = state.open.back().expect("there always is an active segment");
        let known_entries = match purpose {
            RecordFor::Appending => active.known_entries,
            RecordFor::Replacing => 0,
        };
        let head = RecordHead {
            partition: self.id,
            as_of,
            log_start: state.log_start,
            local_log_start: state.local_log_start,
            log_end: state.log_end,
            base_offset: active.base_offset,
            size_bytes: active.size_bytes,
            first_append_time_ms: active.first_append_time_ms,
            last_append_time_ms: active.last_append_time_ms,
        };
        let parts = RecordParts {
            head,
            epochs: &state.epochs,
            producers: &state.producers,
            aborted: &active.aborted,
            index: &active.index,
            known_entries,
        };
        let mut record = Vec::new();
        parts.encode(&mut record);
        // What the writer will have brought to the file by then: the same rule as for its next write.
        let whole_blocks = active.size_bytes - active.size_bytes % self.shared.block;
        let is_written = whole_blocks - active.written >= limits::SEGMENT_WRITE_BYTES_MIN;
        let remainder_at = if is_written { whole_blocks } else { active.written };
        Some(Snapshot {
            record,
            remainder_at,
            remainder: pieces(state, active, remainder_at, active.size_bytes),
            base_offset: active.base_offset,
            index_entries: active.index.entry_count(),
            truncations: state.truncations,
            garbage: std::mem::take(&mut state.garbage),
        })
    }

    /// Whether nothing was truncated since the snapshot, so that its pieces are still what it says.
    pub(crate) fn is_valid(&self, snapshot: &Snapshot) -> bool {
        lock(&self.state).truncations == snapshot.truncations
    }

    /// A snapshot is not used; the next one has to say what it would have.
    pub(crate) fn discard(&self, snapshot: Snapshot) {
        let mut state = lock(&self.state);
        state.changed = true;
        state.garbage.extend(snapshot.garbage);
    }

    /// A checkpoint is durable: what the ring holds of this partition below `cut` goes, and `record` says what the file has.
    /// Returns the segments whose files may go.
    pub(crate) fn checkpointed(self: &Arc<Self>, record: Option<Checkpointed>, cut: u64) -> Vec<Offset> {
        let mut state = lock(&self.state);
        let mut garbage = Vec::new();
        if let Some(record) = record {
            garbage = record.garbage;
            if record.truncations == state.truncations {
                state.has_uncounted_cut = false;
                state.sealed.checkpointed_base = state.sealed.checkpointed_base.max(record.base_offset);
                let segment = state.open.iter_mut().find(|segment| segment.base_offset == record.base_offset);
                if let Some(segment) = segment {
                    segment.known_entries = record.index_entries;
                    if segment.written < record.remainder.end() {
                        segment.remainder = Some(record.remainder);
                    }
                }
            }
        }
        self.keep_remainders(&mut state, cut);
        while state.ring.front().is_some_and(|batch| batch.ring < cut) {
            state.ring.pop_front();
        }
        if !state.listed && !state.ring.is_empty() {
            // Nothing may change any more, but the next cut passes these.
            state.listed = true;
            self.shared.list_for_checkpoint(Arc::clone(self));
        }
        garbage
    }
}

/// Where a write from `written` ends that is to bring a file to `end`, of at most `most` bytes: what is left for later writes is
/// nothing, or enough for a write of its own. A snapshot counts on all of it being in the file.
fn end_of_write(written: u32, end: u32, most: u32) -> u32 {
    let left_at_least = limits::SEGMENT_WRITE_BYTES_MIN.next_multiple_of(limits::BLOCK_BYTES_MAX);
    if end - written <= most { end } else { written + most - left_at_least }
}

impl Partition {
    /// Copies what only the ring below the cut has. A record's remainder is that, but one from before a truncation is not used.
    fn keep_remainders(&self, state: &mut PartitionState, cut: u64) {
        for index in 0..state.open.len() {
            let segment = &state.open[index];
            let below = state.ring.iter().take_while(|batch| batch.ring < cut);
            let here = below.filter(|batch| batch.segment == segment.base_offset);
            let Some(end) = here.map(|batch| batch.position + batch.length).max() else { continue };
            let covered = segment.remainder.as_ref().map_or(0, Remainder::end).max(segment.written);
            if covered >= end {
                continue;
            }
            let pieces = pieces(state, segment, segment.written, end);
            let mut bytes = vec![0; length_of(&pieces)];
            copy_pieces(&self.shared, &pieces, &mut bytes);
            let remainder = Remainder { position: segment.written, bytes: bytes.into() };
            state.open[index].remainder = Some(remainder);
        }
    }
}

impl Snapshot {
    /// Ends the record with the remainder's bytes.
    pub(crate) fn finish(mut self, remainder: Bytes) -> (Vec<u8>, Checkpointed) {
        crate::checkpoint::record::put_remainder(&mut self.record, &remainder);
        let checkpointed = Checkpointed {
            base_offset: self.base_offset,
            remainder: Remainder { position: self.remainder_at, bytes: remainder },
            index_entries: self.index_entries,
            truncations: self.truncations,
            garbage: self.garbage,
        };
        (self.record, checkpointed)
    }
}

/// The bytes `from..to` of an open segment, none of which lie in its file only.
pub(super) fn pieces(state: &PartitionState, segment: &OpenSegment, from: u32, to: u32) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = from;
    if let Some(remainder) =
        segment.remainder.as_ref().filter(|remainder| remainder.position <= at && at < remainder.end())
    {
        let end = remainder.end().min(to);
        let slice =
            remainder.bytes.slice((at - remainder.position) as usize..(end - remainder.position) as usize);
        pieces.push(Piece::Memory(slice));
        at = end;
    }
    let key = (segment.base_offset, at);
    let first = state.ring.partition_point(|batch| (batch.segment, batch.position + batch.length) <= key);
    for batch in state.ring.range(first..).take_while(|batch| batch.segment == segment.base_offset) {
        if at >= to {
            break;
        }
        let inside = at - batch.position;
        let length = (batch.length - inside).min(to - at);
        pieces.push(Piece::Ring { position: batch.ring + u64::from(inside), length: length as usize });
        at += length;
    }
    assert!(at >= to, "bytes that no file holds for sure are in the remainder or in the ring");
    pieces
}

/// Copies pieces behind each other; all of them are committed.
pub(crate) fn copy_pieces(shared: &Arc<crate::shared::Shared>, pieces: &[Piece], target: &mut [u8]) -> usize {
    let pin = shared.journal.pin();
    let mut at = 0;
    for piece in pieces {
        let bytes = match piece {
            Piece::Memory(bytes) => &bytes[..],
            Piece::Ring { position, length } => pin.bytes(*position, *length),
        };
        target[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    }
    at
}

/// How many bytes pieces have.
pub(crate) fn length_of(pieces: &[Piece]) -> usize {
    let length = |piece: &Piece| match piece {
        Piece::Memory(bytes) => bytes.len(),
        Piece::Ring { length, .. } => *length,
    };
    pieces.iter().map(length).sum()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
    use wire::ids::TopicId;

    use super::*;
    use crate::partition::{Isolation, Origin, PartitionId, ReadLimits};
    use crate::worker::{Spawner, Worker};
    use crate::{FlushMode, LogDirectory, LogOptions, PartitionConfig, TopicDirectory};

    #[derive(Debug)]
    struct Nobody;

    impl Spawner for Nobody {
        fn start(&self, _worker: Box<dyn Worker>) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn ready<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("nothing has to be waited for here"),
        }
    }

    fn append(directory: &LogDirectory, partition: &Arc<Partition>, bytes: usize) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let value = vec![b'x'; bytes];
        builder.push(&NewRecord { value: Some(&value), ..NewRecord::default() });
        let batch = builder.build();
        let room = ready(directory.reserve_room(batch.len())).unwrap();
        let ticket = partition.append(room, &batch, Origin::Client).unwrap().ticket;
        ready(directory.commit(ticket)).unwrap();
    }

    /// A segment rolls and the next one is cut while a checkpoint is on its way that knows neither.
    #[test]
    fn a_record_from_before_a_cut_leaves_no_hole_in_the_segment_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = LogOptions::new(folder.path().join("log"));
        options.flush = FlushMode::Os;
        options.spawner = Arc::new(Nobody);
        let id = PartitionId { topic_id: TopicId([7; 16]), partition: 0 };
        let topics = TopicDirectory { live: [id.topic_id].into(), ..TopicDirectory::default() };
        let (directory, _) = LogDirectory::open(options).unwrap().finish(&topics).unwrap();
        let config = PartitionConfig { segment_bytes: 20_000, ..PartitionConfig::default() };
        let partition = directory.create_partition(id, config).unwrap();
        append(&directory, &partition, 9_000);
        let cut = partition.shared.journal.chain_point().position;
        let snapshot = partition.snapshot(RecordFor::Appending).unwrap();
        let mut bytes = vec![0; length_of(&snapshot.remainder)];
        copy_pieces(&partition.shared, &snapshot.remainder, &mut bytes);
        let (_, record) = snapshot.finish(bytes.into());
        append(&directory, &partition, 15_000);
        append(&directory, &partition, 100);
        let room = ready(directory.reserve_room(partition.change_bytes())).unwrap();
        let ticket = directory.truncate(&partition, room, Offset(2)).unwrap();
        ready(directory.commit(ticket)).unwrap();
        assert!(partition.checkpointed(Some(record), cut).is_empty());
        partition.shared.journal.free(cut, 1);
        let limits = ReadLimits { max_bytes: 1, at_least_one_batch: true };
        for (offset, length) in [(0, 9_000), (1, 15_000)] {
            let read = partition.read(Offset(offset), limits, Isolation::ReadUncommitted).unwrap();
            assert!(read.bytes().unwrap().concat().len() > length);
        }
        assert!(
            partition
                .next_write(WriteBounds { least: limits::SEGMENT_WRITE_BYTES_MIN, most: 1 << 20 })
                .is_some_and(|plan| length_of(&plan.pieces) > 9_000)
        );
    }

    #[test]
    fn writes_of_any_length_come_to_their_end() {
        let most = limits::SEGMENT_BUFFER_BYTES as u32;
        for length in (0..3 * most).step_by(limits::BLOCK_BYTES as usize) {
            let mut written = 0;
            // As the writer goes on: while enough is left.
            while length - written >= limits::SEGMENT_WRITE_BYTES_MIN {
                let to = end_of_write(written, length, most);
                assert!(to > written && to - written <= most);
                assert!(to == length || to.is_multiple_of(limits::BLOCK_BYTES_MAX));
                written = to;
            }
            let left = length - written;
            assert!(
                left == 0 || length < limits::SEGMENT_WRITE_BYTES_MIN,
                "{left} of {length} bytes are left"
            );
        }
    }
}
