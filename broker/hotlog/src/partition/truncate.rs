//! Cutting a log back: what is left of the segment that holds the new end, and the producers as they were there.
//!
//! Owns: that plan, its bytes in the journal, and carrying it out in memory. Does not own: when a log is cut.
//!
//! The plan's bytes hold the producers, and the bytes below a block at the new end: later writes go to that block again, so the
//! journal has to have what stands there already. Files above the new end go before the next write to this partition.
//!
//! Everything is committed before it is cut, so that all of it can be read. A recovery that does the cut again finds the file as the last
//! checkpoint knew it below the cut, and rewritten above. So there is one cut at most that no checkpoint counts: with a second, lower one,
//! the file could be rewritten where the first still reads.

use bytes::Bytes;
use wire::batch::{BatchHeader, HEADER_BYTES};
use wire::ids::Offset;

use super::Partition;
use super::marker;
use super::state::{PartitionState, producer_batch};
use crate::encoding::{DecodeError, Decoder};
use crate::error::StorageError;
use crate::index::IndexedBatch;
use crate::journal::RingPin;
use crate::producers::{AppendedAt, ProducerStates};
use crate::segment::{OpenSegment, Remainder, SealedMeta};

/// A cut that was worked out.
#[derive(Debug)]
pub(super) struct Truncation {
    /// The log's new end.
    pub(super) log_end: Offset,
    /// The segment that becomes the active one.
    base_offset: Offset,
    size_bytes: u32,
    remainder: Bytes,
    producers: ProducerStates,
    /// That segment as it will be; `None` until it was worked out, or when it is a new one.
    segment: Option<Box<OpenSegment>>,
}

/// Fixed fields before the remainder.
const FIXED_BYTES: usize = 8 + 8 + 4 + 4;

impl Truncation {
    /// Room for the entry of a cut, whatever it cuts.
    pub(super) fn bytes_at_most(state: &PartitionState, block: u32) -> usize {
        let mut producers = Vec::new();
        state.producers.encode(&mut producers);
        FIXED_BYTES + block as usize + state.bytes_in_memory_only() + producers.len()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.remainder.len());
        bytes.extend_from_slice(&self.log_end.0.to_be_bytes());
        bytes.extend_from_slice(&self.base_offset.0.to_be_bytes());
        bytes.extend_from_slice(&self.size_bytes.to_be_bytes());
        bytes.extend_from_slice(&(self.remainder.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.remainder);
        self.producers.encode(&mut bytes);
        bytes
    }
}

/// Reads what [`Truncation::encode`] wrote.
pub(super) fn decode(payload: &[u8]) -> Result<Truncation, DecodeError> {
    let mut decoder = Decoder::new(payload);
    let log_end = Offset(decoder.i64("log end")?);
    let base_offset = Offset(decoder.i64("segment base offset")?);
    let size_bytes = decoder.u32("segment size")?;
    let length = decoder.u32("remainder length")?;
    let remainder = Bytes::copy_from_slice(decoder.take(length as usize, "remainder")?);
    let producers = ProducerStates::decode(decoder.take(decoder.remaining(), "producers")?)?;
    Ok(Truncation { log_end, base_offset, size_bytes, remainder, producers, segment: None })
}

/// Reads bytes of one segment, wherever they are.
struct SegmentBytes<'a> {
    partition: &'a Partition,
    state: &'a PartitionState,
    segment: &'a OpenSegment,
    pin: &'a RingPin<'a>,
    /// Stands in for what the segment has from its position on.
    given: Option<&'a Remainder>,
}

impl SegmentBytes<'_> {
    /// Fills `buffer` from `position`, as far as the segment reaches; returns how much that was.
    fn read(&self, position: u32, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let segment = self.segment;
        let end = self.given.map_or(segment.size_bytes, Remainder::end);
        let length = buffer.len().min((end - position) as usize);
        let mut at = 0;
        while at < length {
            let here = position + at as u32;
            at += self.read_some(here, &mut buffer[at..length])?;
        }
        Ok(length)
    }

    fn read_some(&self, position: u32, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let segment = self.segment;
        let given = self.given.filter(|given| given.position <= position);
        if let Some(memory) = given
            .or(segment.remainder.as_ref().filter(|own| own.position <= position && position < own.end()))
        {
            let from = &memory.bytes[(position - memory.position) as usize..];
            let length = from.len().min(buffer.len());
            buffer[..length].copy_from_slice(&from[..length]);
            return Ok(length);
        }
        let most = self.given.map_or(u32::MAX, |given| given.position) - position;
        let key = (segment.base_offset, position);
        let index =
            self.state.ring.partition_point(|batch| (batch.segment, batch.position + batch.length) <= key);
        if let Some(batch) = self
            .state
            .ring
            .get(index)
            .filter(|batch| batch.segment == segment.base_offset && batch.position <= position)
        {
            let inside = position - batch.position;
            let length = ((batch.length - inside) as usize).min(buffer.len()).min(most as usize);
            buffer[..length].copy_from_slice(self.pin.bytes(batch.ring + u64::from(inside), length));
            return Ok(length);
        }
        let length = ((segment.written - position) as usize).min(buffer.len()).min(most as usize);
        let file = self.partition.reader(segment.base_offset)?;
        let read = file.read_at(&mut buffer[..length], position.into());
        let read = read.map_err(|error| self.partition.unreadable(segment.base_offset, error))?;
        if read < length {
            return Err(self.partition.damaged(segment.base_offset, position, "the file is too short"));
        }
        Ok(length)
    }

    /// Calls `with` for each batch from `position` on, until it returns false. Returns where that was, or the end.
    fn batches(
        &self,
        mut position: u32,
        mut with: impl FnMut(&BatchHeader, &[u8]) -> bool,
    ) -> Result<u32, StorageError> {
        let end = self.given.map_or(self.segment.size_bytes, Remainder::end);
        // A marker's record is small and follows the header.
        let mut window = vec![0; HEADER_BYTES + 128];
        while position < end {
            let filled = self.read(position, &mut window)?;
            let header = BatchHeader::parse(&window[..filled]).map_err(|error| {
                self.partition.damaged(self.segment.base_offset, position, &error.to_string())
            })?;
            if !with(&header, &window[..filled]) {
                break;
            }
            position += header.size_bytes as u32;
        }
        Ok(position.min(end))
    }
}

impl Partition {
    /// Works out a cut to `to`, which lies between the log's start and its end.
    pub(super) fn plan_truncation(
        &self,
        state: &PartitionState,
        pin: &RingPin<'_>,
        to: Offset,
    ) -> Result<Truncation, StorageError> {
        let Some((mut segment, producers)) = self.segment_to_cut(state, to)? else {
            return Ok(Truncation::to_nothing(state));
        };
        let mut producers = producers;
        let mut log_end = segment.base_offset;
        let bytes = SegmentBytes { partition: self, state, segment: &segment, pin, given: None };
        let append_time_ms = segment.last_append_time_ms;
        // The whole segment's headers: the producers at its start are known, those at the cut are not.
        let size_bytes = bytes.batches(0, |header, batch| {
            let keep = header.last_offset() < to;
            if keep {
                log_end = header.next_offset();
                note_producer(&mut producers, header, batch, append_time_ms);
            }
            keep
        })?;
        if log_end < state.local_start() {
            return Ok(Truncation::to_nothing(state));
        }
        // From what the file surely holds: bytes behind that may be nowhere but in memory.
        let remainder_at = (size_bytes - size_bytes % self.shared.block).min(segment.written);
        let mut remainder = vec![0; (size_bytes - remainder_at) as usize];
        bytes.read(remainder_at, &mut remainder)?;
        let remainder = Remainder { position: remainder_at, bytes: remainder.into() };
        self.cut_segment(state, pin, &mut segment, (&remainder, log_end))?;
        Ok(Truncation {
            log_end,
            base_offset: segment.base_offset,
            size_bytes,
            remainder: remainder.bytes,
            producers,
            segment: Some(Box::new(segment)),
        })
    }

    /// Works out again what a decoded cut does to its segment.
    pub(super) fn replan_truncation(
        &self,
        state: &PartitionState,
        mut truncation: Truncation,
    ) -> Result<Truncation, StorageError> {
        let base_offset = truncation.base_offset;
        if truncation.size_bytes == 0 {
            return Ok(truncation);
        }
        let pin = self.shared.journal.pin();
        let found = self
            .segment_to_cut(state, truncation.log_end)?
            .filter(|(segment, _)| segment.base_offset == base_offset);
        let Some((mut segment, _)) = found else {
            return Err(self.damaged(base_offset, 0, "a truncation names a segment that is not there"));
        };
        let position = truncation.size_bytes - truncation.remainder.len() as u32;
        let remainder = Remainder { position, bytes: truncation.remainder.clone() };
        self.cut_segment(state, &pin, &mut segment, (&remainder, truncation.log_end))?;
        truncation.segment = Some(Box::new(segment));
        Ok(truncation)
    }

    /// The segment that holds the last batch below `to`, as it is, and the producers before its first batch.
    fn segment_to_cut(
        &self,
        state: &PartitionState,
        to: Offset,
    ) -> Result<Option<(OpenSegment, ProducerStates)>, StorageError> {
        let index = state.open.partition_point(|segment| segment.base_offset < to);
        if let Some(index) = index.checked_sub(1) {
            let producers = match index.checked_sub(1).and_then(|before| state.open[before].closed.as_ref()) {
                Some(closed) => closed.producers.clone(),
                None => self.producers_before(state, state.open[index].base_offset)?,
            };
            return Ok(Some((state.open[index].for_truncation(), producers)));
        }
        let sealed = self.sealed_at(state, to)?;
        let Some(base_offset) = sealed else { return Ok(None) };
        let sidecar = self.sidecar(base_offset)?;
        let producers = self.producers_before(state, base_offset)?;
        Ok(Some((OpenSegment::reopened(&sidecar), producers)))
    }

    /// The producers at the end of the segment before `base_offset`.
    fn producers_before(
        &self,
        state: &PartitionState,
        base_offset: Offset,
    ) -> Result<ProducerStates, StorageError> {
        match self.sealed_at(state, base_offset)? {
            Some(before) => Ok(self.sidecar(before)?.producers.clone()),
            None => self.released_producers(base_offset),
        }
    }

    /// Cuts a segment to the end of `remainder`, which is its last bytes from a block on.
    fn cut_segment(
        &self,
        state: &PartitionState,
        pin: &RingPin<'_>,
        segment: &mut OpenSegment,
        (remainder, log_end): (&Remainder, Offset),
    ) -> Result<(), StorageError> {
        let mut index = segment.index.clone();
        let from = index.truncate(log_end);
        let bytes = SegmentBytes { partition: self, state, segment, pin, given: Some(remainder) };
        // The cut was planned with what the file held then; the one that replays it may count on less of the file, and has the bytes
        // between in an earlier remainder or in the ring.
        let remainder_at = remainder.position.min(segment.written);
        let mut kept = vec![0; (remainder.end() - remainder_at) as usize];
        bytes.read(remainder_at, &mut kept)?;
        bytes.batches(from, |header, _| {
            index.append(&IndexedBatch {
                base_offset: header.base_offset,
                size_bytes: header.size_bytes as u32,
                max_timestamp_ms: header.max_timestamp_ms,
            });
            true
        })?;
        segment.known_entries = segment.known_entries.min(index.entry_count());
        segment.index = index;
        segment.size_bytes = remainder.end();
        segment.written = remainder_at;
        segment.aborted.truncate(log_end);
        segment.remainder =
            (!kept.is_empty()).then(|| Remainder { position: remainder_at, bytes: kept.into() });
        segment.closed = None;
        Ok(())
    }

    /// Carries a cut out in memory.
    pub(super) fn apply_truncation(&self, state: &mut PartitionState, truncation: Truncation) {
        let Truncation { log_end, base_offset, producers, segment, .. } = truncation;
        if log_end == base_offset && log_end <= state.local_start() {
            state.forget_below(log_end);
        }
        let kept = state.open.iter().take_while(|open| open.base_offset < base_offset).count();
        for dropped in state.open.drain(kept..) {
            self.shared.cache.forget((self.id, dropped.base_offset));
        }
        state.open.push_back(segment.map_or_else(|| OpenSegment::new(base_offset), |segment| *segment));
        while state.ring.back().is_some_and(|batch| batch.base_offset >= log_end) {
            state.ring.pop_back();
        }
        let sealed = &mut state.sealed;
        for list in [sealed.listed.as_mut(), Some(&mut sealed.fresh)].into_iter().flatten() {
            while list.back().is_some_and(|meta| meta.base_offset >= base_offset) {
                list.pop_back();
            }
        }
        sealed.recovered_base = sealed.recovered_base.min(base_offset);
        sealed.checkpointed_base = sealed.checkpointed_base.min(base_offset);
        self.shared.cache.forget_partition(self.id);
        state.purge_above = Some(state.purge_above.map_or(base_offset, |above| above.min(base_offset)));
        state.epochs.truncate_from_end(log_end);
        state.producers = producers;
        state.log_end = log_end;
        state.truncations += 1;
        state.has_uncounted_cut = true;
        if self.high_watermark() > log_end {
            self.publish(state, log_end);
        }
    }
}

impl Truncation {
    /// A cut that leaves no batch here. Offsets that were released stay given out: a store has them.
    fn to_nothing(state: &PartitionState) -> Self {
        let log_end = state.local_start();
        Self {
            log_end,
            base_offset: log_end,
            size_bytes: 0,
            remainder: Bytes::new(),
            producers: ProducerStates::default(),
            segment: None,
        }
    }
}

pub(super) fn note_producer(
    producers: &mut ProducerStates,
    header: &BatchHeader,
    batch: &[u8],
    append_time_ms: i64,
) {
    let at = AppendedAt { base_offset: header.base_offset, append_time_ms };
    if let Some(producer) = producer_batch(header) {
        producers.record(&producer, at);
    } else if header.attributes.is_control()
        && let Ok(Some(marker)) = marker::read(header, batch)
    {
        producers.record_marker(&marker.marker, at);
    }
}

impl OpenSegment {
    /// A copy to be cut; the truncation puts it in place of the original.
    fn for_truncation(&self) -> Self {
        Self {
            index: self.index.clone(),
            aborted: self.aborted.clone(),
            remainder: self.remainder.clone(),
            closed: None,
            ..*self
        }
    }
}

/// The last of sealed segments that begins below `to`.
fn last_below<'a>(mut metas: impl DoubleEndedIterator<Item = &'a SealedMeta>, to: Offset) -> Option<Offset> {
    metas.rfind(|meta| meta.base_offset < to).map(|meta| meta.base_offset)
}

impl Partition {
    /// The base offset of the last sealed segment that begins below `to`. Reads the folder when that is not known yet.
    fn sealed_at(&self, state: &PartitionState, to: Offset) -> Result<Option<Offset>, StorageError> {
        if let Some(found) = last_below(state.sealed.fresh.iter(), to) {
            return Ok(Some(found));
        }
        if let Some(listed) = &state.sealed.listed {
            return Ok(last_below(listed.iter(), to));
        }
        let listed = self.read_folder(state.sealed.recovered_base)?;
        Ok(last_below(listed.iter().filter(|meta| meta.next_offset > state.local_log_start), to))
    }
}
