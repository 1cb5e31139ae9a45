//! Reading: the tail from the journal's memory, everything else as ranges of segment files.
//!
//! Owns: finding the batch borders of an answer. Does not own: sending it; no pin on the journal outlives a call.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use wire::batch::{BatchHeader, HEADER_BYTES};
use wire::ids::Offset;

use super::state::{PartitionState, RingBatch};
use super::{FileRange, HotPiece, HotRead, Isolation, Partition, ReadLimits};
use crate::disk::{DiskFile, OpenHow};
use crate::error::{ReadError, StorageError};
use crate::health::lock;
use crate::index::SegmentIndex;
use crate::limits;
use crate::segment::{self, OpenSegment, Remainder, SealedMeta};
use crate::sidecar::Sidecar;

/// A segment's bytes outside of the ring, with where they lie.
pub(super) struct SegmentView {
    pub(super) base_offset: Offset,
    /// The first offset of the segment behind it, or the log's end.
    pub(super) next_offset: Offset,
    /// Bytes in the file.
    written: u32,
    /// Bytes behind those in the file, if any are not in the ring.
    remainder: Option<Remainder>,
    /// Up to where this view reaches.
    pub(super) end: u32,
}

/// Which part of a segment an answer may come from.
struct Window {
    /// The position of a batch at or before the one wanted.
    search_from: u32,
    /// A batch border at or before the end that limits allow; the answer goes on beyond it only for its first batch.
    soft_end: u32,
}

/// A batch found by its header.
pub(super) struct FoundBatch {
    pub(super) header: BatchHeader,
    pub(super) position: u32,
}

impl FoundBatch {
    pub(super) fn end(&self) -> u32 {
        self.position + self.header.size_bytes as u32
    }
}

/// What the lock gave for a read.
enum Plan {
    Empty,
    Ring(Vec<(u64, usize)>),
    Open(SegmentView, Window),
    Sealed,
}

impl Partition {
    /// Reads whole batches from the one that holds `from`. Tail reads copy from memory and do not block; others may read a few
    /// KiB of a segment to find batch borders, so [`Partition::reads_from_memory`] says whether a disk thread is needed.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, from: Offset, limits: ReadLimits, isolation: Isolation) -> Result<HotRead, ReadError> {
        self.shared.health.check_writable().map_err(StorageError::from)?;
        // Pinned before the lock, so that what the lock shows to be in the ring stays there.
        let pin = self.shared.journal.pin();
        let state = lock(&self.state);
        if state.deleted {
            return Err(ReadError::Deleted(self.id));
        }
        let (high_watermark, last_stable_offset) = (self.high_watermark(), self.last_stable_offset());
        let log_start = self.log_start();
        if from < log_start || from > high_watermark {
            return Err(ReadError::OutOfRange { offset: from, log_start, high_watermark });
        }
        check_local(&state, from)?;
        let end = match isolation {
            Isolation::ReadUncommitted => high_watermark,
            Isolation::ReadCommitted => last_stable_offset,
        };
        let mut answer = HotRead {
            pieces: Vec::new(),
            high_watermark,
            last_stable_offset,
            log_start,
            aborted: Vec::new(),
        };
        let plan = plan(&state, from..end, limits);
        drop(state);
        match plan {
            Plan::Empty => {}
            Plan::Ring(spans) => {
                let total = spans.iter().map(|(_, length)| length).sum();
                let mut copy = Vec::with_capacity(total);
                for (position, length) in spans {
                    copy.extend_from_slice(pin.bytes(position, length));
                }
                answer.pieces.push(HotPiece::Memory(copy.into()));
            }
            Plan::Open(view, window) => {
                drop(pin);
                answer.pieces = self.read_view(&view, &window, from..end, limits)?;
            }
            Plan::Sealed => {
                drop(pin);
                answer.pieces = self.read_sealed(from..end, limits)?;
            }
        }
        if isolation == Isolation::ReadCommitted {
            answer.aborted = self.aborted_in(from, end)?;
        }
        Ok(answer)
    }

    /// Whether a read from this offset needs no file.
    #[must_use]
    pub fn reads_from_memory(&self, from: Offset) -> bool {
        let state = lock(&self.state);
        from >= self.high_watermark() || state.ring.front().is_some_and(|first| first.base_offset <= from)
    }

    fn read_sealed(&self, range: Range<Offset>, limits: ReadLimits) -> Result<Vec<HotPiece>, ReadError> {
        for meta in self.sealed_metas(range.start)? {
            if meta.base_offset > range.start {
                return Err(self.missing(range.start, meta.base_offset));
            }
            let sidecar = self.sidecar(meta.base_offset)?;
            let view = SegmentView::sealed(&sidecar);
            let window = window(&sidecar.index, &view, &range, limits);
            let pieces = self.read_view(&view, &window, range.clone(), limits)?;
            // Where a file is missing, the list lets the segment before it reach over the hole.
            if !pieces.is_empty() || range.start < sidecar.next_offset {
                return Ok(pieces);
            }
        }
        let open = lock(&self.state).open.front().map(|open| open.base_offset);
        match open.filter(|open| *open > range.start) {
            Some(open) => Err(self.missing(range.start, open)),
            None => Ok(Vec::new()),
        }
    }

    /// Why a read finds nothing where the log has held records: to go on at the next ones would be to skip these in silence.
    fn missing(&self, offset: Offset, next: Offset) -> ReadError {
        let state = lock(&self.state);
        if state.deleted {
            return ReadError::Deleted(self.id);
        }
        let log_start = self.log_start();
        if offset < log_start {
            let high_watermark = self.high_watermark();
            return ReadError::OutOfRange { offset, log_start, high_watermark };
        }
        // What was let go of since the read began is not missing.
        check_local(&state, offset).err().unwrap_or(ReadError::Missing { offset, next })
    }

    /// The batches of a view that answer a read.
    fn read_view(
        &self,
        view: &SegmentView,
        window: &Window,
        range: Range<Offset>,
        limits: ReadLimits,
    ) -> Result<Vec<HotPiece>, ReadError> {
        let wanted = |found: &FoundBatch| found.header.last_offset() >= range.start;
        let Some(first) = self.find_batch(view, window.search_from, wanted)? else { return Ok(Vec::new()) };
        if first.header.last_offset() >= range.end {
            return Ok(Vec::new());
        }
        let mut end = window.soft_end;
        if end < first.end() {
            if first.header.size_bytes > limits.max_bytes && !limits.at_least_one_batch {
                return Ok(Vec::new());
            }
            end = first.end();
        }
        self.pieces(view, first.position..end)
    }

    /// Bytes of a view, as pieces. The file's part ends with its last whole block, which need not be the end of a batch.
    fn pieces(&self, view: &SegmentView, range: Range<u32>) -> Result<Vec<HotPiece>, ReadError> {
        let mut pieces = Vec::new();
        let in_file = range.start..range.end.min(view.written);
        if !in_file.is_empty() {
            let file = self.reader(view.base_offset)?;
            pieces.push(HotPiece::File(FileRange {
                file,
                position: in_file.start.into(),
                length: in_file.len(),
            }));
        }
        if let Some(remainder) = &view.remainder
            && range.end > view.written
        {
            let start = range.start.max(view.written) - remainder.position;
            let end = range.end - remainder.position;
            pieces.push(HotPiece::Memory(remainder.bytes.slice(start as usize..end as usize)));
        }
        Ok(pieces)
    }

    /// The first batch from `position` on that is wanted.
    pub(super) fn find_batch(
        &self,
        view: &SegmentView,
        mut position: u32,
        wanted: impl Fn(&FoundBatch) -> bool,
    ) -> Result<Option<FoundBatch>, StorageError> {
        let mut window = vec![0; limits::BORDER_SEARCH_BYTES];
        while position < view.end {
            let filled = self.read_bytes(view, position, &mut window)?;
            let mut at = 0;
            while let Some(header) = window[..filled].get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
                let found_at = position + at as u32;
                let header = BatchHeader::parse(header)
                    .map_err(|error| self.damaged(view.base_offset, found_at, &error.to_string()))?;
                let found = FoundBatch { header, position: found_at };
                if found.end() > view.end {
                    return Err(self.damaged(
                        view.base_offset,
                        found_at,
                        "a batch reaches beyond the segment's end",
                    ));
                }
                if wanted(&found) {
                    return Ok(Some(found));
                }
                at += found.header.size_bytes;
            }
            if at == 0 {
                return Err(self.damaged(view.base_offset, position, "a batch header is cut short"));
            }
            position += at as u32;
        }
        Ok(None)
    }

    /// Fills `buffer` from a view, as far as the view reaches; returns how much it got.
    pub(super) fn read_bytes(
        &self,
        view: &SegmentView,
        position: u32,
        buffer: &mut [u8],
    ) -> Result<usize, StorageError> {
        let length = buffer.len().min((view.end - position) as usize);
        let in_file = (view.written.saturating_sub(position) as usize).min(length);
        if in_file > 0 {
            let file = self.reader(view.base_offset)?;
            let read = file
                .read_at(&mut buffer[..in_file], position.into())
                .map_err(|error| self.unreadable(view.base_offset, error))?;
            if read < in_file {
                return Err(self.damaged(view.base_offset, position + read as u32, "the file is too short"));
            }
        }
        if let Some(remainder) = &view.remainder
            && in_file < length
        {
            let start = (position + in_file as u32 - remainder.position) as usize;
            buffer[in_file..length].copy_from_slice(&remainder.bytes[start..start + length - in_file]);
        }
        Ok(length)
    }

    /// The segment's file, kept open.
    pub(super) fn reader(&self, base_offset: Offset) -> Result<Arc<dyn DiskFile>, StorageError> {
        let key = (self.id, base_offset);
        if let Some(file) = self.shared.cache.file(key) {
            return Ok(file);
        }
        let path = self.segment_path(base_offset);
        let file = self
            .shared
            .disk
            .open(&path, OpenHow::READ)
            .map_err(|error| self.unreadable(base_offset, error))?;
        self.shared.cache.keep_file(key, Arc::clone(&file));
        Ok(file)
    }

    pub(super) fn segment_path(&self, base_offset: Offset) -> PathBuf {
        segment::folder(&self.shared.directory, self.id).join(segment::log_name(base_offset))
    }

    pub(super) fn unreadable(&self, base_offset: Offset, error: std::io::Error) -> StorageError {
        StorageError::Io { path: self.segment_path(base_offset), source: Arc::new(error) }
    }

    pub(super) fn damaged(&self, base_offset: Offset, position: u32, reason: &str) -> StorageError {
        let path = self.segment_path(base_offset);
        StorageError::Damaged { path, position: position.into(), reason: reason.to_owned() }
    }

    fn aborted_in(
        &self,
        from: Offset,
        end: Offset,
    ) -> Result<Vec<crate::aborted::AbortedTransaction>, ReadError> {
        let mut found = Vec::new();
        if from >= end {
            return Ok(found);
        }
        let (sealed, in_open) = self.sealed_and(from, |state| {
            let mut in_open = Vec::new();
            let _ = state.open.iter().any(|open| open.aborted.collect(from, end, &mut in_open));
            in_open
        })?;
        for meta in sealed {
            if meta.base_offset >= end
                || self.sidecar(meta.base_offset)?.aborted.collect(from, end, &mut found)
            {
                return Ok(found);
            }
        }
        found.extend(in_open);
        Ok(found)
    }
}

impl SegmentView {
    /// All of a sealed segment.
    pub(super) fn sealed(sidecar: &Sidecar) -> Self {
        let end = sidecar.size_bytes();
        Self {
            base_offset: sidecar.base_offset(),
            next_offset: sidecar.next_offset,
            written: end,
            remainder: None,
            end,
        }
    }

    /// A sealed segment's file, without what its sidecar says.
    pub(super) fn file(meta: &SealedMeta, size_bytes: u32) -> Self {
        let (base_offset, next_offset) = (meta.base_offset, meta.next_offset);
        Self { base_offset, next_offset, written: size_bytes, remainder: None, end: size_bytes }
    }

    /// What of an open segment is not in the ring.
    pub(super) fn open(state: &PartitionState, segment: &OpenSegment) -> Self {
        let next_offset = segment.closed.as_ref().map_or(state.log_end, |closed| closed.next_offset);
        let in_ring = state
            .ring
            .front()
            .filter(|first| first.segment == segment.base_offset)
            .map(|first| first.position);
        let later = state.ring.front().is_some_and(|first| first.segment > segment.base_offset);
        let end = in_ring.filter(|_| !later).unwrap_or(segment.size_bytes);
        let remainder = segment.remainder.clone().filter(|remainder| remainder.end() > segment.written);
        let in_memory = remainder.as_ref().map_or(segment.written, Remainder::end);
        Self {
            base_offset: segment.base_offset,
            next_offset,
            written: segment.written,
            remainder,
            end: end.min(in_memory),
        }
    }
}

/// Whether an offset's bytes were not let go of.
fn check_local(state: &PartitionState, from: Offset) -> Result<(), ReadError> {
    let local_log_start = state.local_log_start;
    if from < local_log_start {
        return Err(ReadError::NotLocal { offset: from, local_log_start });
    }
    Ok(())
}

/// Where to search in a view, and where to end.
fn window(index: &SegmentIndex, view: &SegmentView, range: &Range<Offset>, limits: ReadLimits) -> Window {
    let search_from = index.position_of_offset(range.start);
    let by_size = u32::try_from(limits.max_bytes).unwrap_or(u32::MAX).saturating_add(search_from);
    let mut soft_end = if by_size >= view.end { view.end } else { index.border_at_or_below(by_size) };
    if range.end < view.next_offset {
        soft_end = soft_end.min(index.position_of_offset(range.end));
    }
    Window { search_from, soft_end }
}

/// Decides where a read comes from.
fn plan(state: &PartitionState, range: Range<Offset>, limits: ReadLimits) -> Plan {
    if range.start >= range.end {
        return Plan::Empty;
    }
    let first = state.ring.partition_point(|batch| batch.last_offset < range.start);
    let from_ring = state.ring.front().is_some_and(|front| front.base_offset <= range.start);
    if from_ring {
        return ring_spans(state.ring.range(first..), range.end, limits);
    }
    for segment in &state.open {
        let view = SegmentView::open(state, segment);
        if range.start < view.base_offset || (range.start >= view.next_offset) {
            continue;
        }
        let window = window(&segment.index, &view, &range, limits);
        return Plan::Open(view, window);
    }
    Plan::Sealed
}

fn ring_spans<'a>(batches: impl Iterator<Item = &'a RingBatch>, end: Offset, limits: ReadLimits) -> Plan {
    let mut spans = Vec::new();
    let mut total = 0;
    for batch in batches.take_while(|batch| batch.last_offset < end) {
        let length = batch.length as usize;
        let first_may_be_large = spans.is_empty() && limits.at_least_one_batch;
        if total + length > limits.max_bytes && !first_may_be_large {
            break;
        }
        total += length;
        spans.push((batch.ring, length));
    }
    if spans.is_empty() { Plan::Empty } else { Plan::Ring(spans) }
}

/// Copies of whole batches, for those who read a partition to its end.
impl HotRead {
    /// All pieces as memory, to be joined by who looks into them. Blocks on the disk for those that are not.
    ///
    /// # Errors
    /// What reading a file gave.
    pub fn bytes(&self) -> std::io::Result<Vec<Bytes>> {
        let read = |piece: &HotPiece| match piece {
            HotPiece::Memory(bytes) => Ok(bytes.clone()),
            HotPiece::File(range) => range.read(),
        };
        self.pieces.iter().map(read).collect()
    }
}
