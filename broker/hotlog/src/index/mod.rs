//! The sparse index of one segment: from an offset or a time to the byte where reading starts.
//!
//! Owns: one entry per [`INDEX_INTERVAL_BYTES`], kept in memory while the segment is written, and its bytes.
//! Does not own: the segment; whoever looks up reads on from the position found, batch by batch.
//!
//! One table answers both questions. An entry stands for a batch and holds its base offset, its position, and the
//! largest record time of *all batches before it* with the batch that has it. That time never falls, so a search
//! in it finds the last entry before which nothing is young enough, even when times come out of order.
//!
//! Invariants:
//!   A. Offsets and positions rise strictly, times never fall.
//!   B. Two entries lie at least an interval apart, so that a table is bounded by its segment's size.

use wire::ids::Offset;

use crate::encoding::{DecodeError, Decoder, put_varint};

/// How many bytes of batches lie between two entries, at least (Kafka's `index.interval.bytes`).
pub const INDEX_INTERVAL_BYTES: u32 = 4096;

/// The most entries a table can have: positions are less than 2 GiB, as in Kafka.
pub const MAX_INDEX_ENTRIES: usize = (1 << 31) / INDEX_INTERVAL_BYTES as usize;

/// The record time of a batch that has none.
pub const NO_TIMESTAMP_MS: i64 = -1;

/// A batch as the index sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedBatch {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// Its length in the segment.
    pub size_bytes: u32,
    /// The largest record time in it, [`NO_TIMESTAMP_MS`] for none.
    pub max_timestamp_ms: i64,
}

/// The largest record time of a run of batches and the first batch that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxTimestamp {
    /// Milliseconds since 1970; [`NO_TIMESTAMP_MS`] when no record has a time.
    pub timestamp_ms: i64,
    /// The base offset of that batch; the segment's base offset when no record has a time.
    pub batch_base_offset: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    relative_offset: u32,
    position: u32,
    before: MaxTimestamp,
}

/// The sparse index of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIndex {
    base_offset: Offset,
    entries: Vec<Entry>,
    size_bytes: u32,
    max_timestamp: MaxTimestamp,
}

impl SegmentIndex {
    /// The index of an empty segment.
    pub fn new(base_offset: Offset) -> Self {
        let max_timestamp = MaxTimestamp { timestamp_ms: NO_TIMESTAMP_MS, batch_base_offset: base_offset };
        Self { base_offset, entries: Vec::new(), size_bytes: 0, max_timestamp }
    }

    /// Notes the batch that was appended at the segment's end.
    pub fn append(&mut self, batch: &IndexedBatch) {
        let since_last_bytes = self.size_bytes - self.entries.last().map_or(0, |last| last.position);
        if since_last_bytes >= INDEX_INTERVAL_BYTES {
            let relative_offset = u32::try_from(batch.base_offset.0 - self.base_offset.0)
                .expect("a segment rolls before its offsets span 31 bits");
            self.entries.push(Entry {
                relative_offset,
                position: self.size_bytes,
                before: self.max_timestamp,
            });
        }
        self.size_bytes += batch.size_bytes;
        if batch.max_timestamp_ms > self.max_timestamp.timestamp_ms {
            self.max_timestamp =
                MaxTimestamp { timestamp_ms: batch.max_timestamp_ms, batch_base_offset: batch.base_offset };
        }
    }

    /// The position of a batch at or before the one that holds `offset`, less than an interval and a batch away.
    pub fn position_of_offset(&self, offset: Offset) -> u32 {
        let relative_offset = offset.0.saturating_sub(self.base_offset.0);
        self.position_before(
            self.entries.partition_point(|entry| i64::from(entry.relative_offset) <= relative_offset),
        )
    }

    /// A position before which no record has a time of `timestamp_ms` or later; `None` when none in the segment has.
    pub fn position_of_time(&self, timestamp_ms: i64) -> Option<u32> {
        if self.max_timestamp.timestamp_ms < timestamp_ms {
            return None;
        }
        let not_yet = self.entries.partition_point(|entry| entry.before.timestamp_ms < timestamp_ms);
        Some(self.position_before(not_yet))
    }

    /// Forgets the batches at and above `end_offset`, and perhaps a few before it. Returns the position from
    /// which the segment's batches, up to its new end, must be [appended](Self::append) again.
    #[must_use = "the batches from this position on are no longer in the index"]
    pub fn truncate(&mut self, end_offset: Offset) -> u32 {
        let relative_offset = end_offset.0.saturating_sub(self.base_offset.0);
        let below = self.entries.partition_point(|entry| i64::from(entry.relative_offset) < relative_offset);
        // The last entry below is dropped as well: it comes back with its batch.
        match below.checked_sub(1).map(|last| self.entries[last]) {
            Some(last) => {
                self.entries.truncate(below - 1);
                (self.size_bytes, self.max_timestamp) = (last.position, last.before);
            }
            None => *self = Self::new(self.base_offset),
        }
        self.size_bytes
    }

    /// The base offset of the segment.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// How many bytes of batches the index has seen.
    pub fn size_bytes(&self) -> u32 {
        self.size_bytes
    }

    /// The largest record time and where it is.
    pub fn max_timestamp(&self) -> MaxTimestamp {
        self.max_timestamp
    }

    /// The last known batch border at or below `position`.
    pub fn border_at_or_below(&self, position: u32) -> u32 {
        self.position_before(self.entries.partition_point(|entry| entry.position <= position))
    }

    /// How many entries there are.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Appends the bytes of the entries from number `known` on, for a reader that has those before
    /// (`FORMAT-CHECKPOINT.md`, index).
    pub fn encode_from(&self, known: usize, target: &mut Vec<u8>) {
        put_varint(target, known as u64);
        put_varint(target, u64::from(self.size_bytes));
        put_varint(target, (self.entries.len() - known) as u64);
        let mut last = self.last_before(known);
        for entry in &self.entries[known..] {
            put_varint(target, u64::from(entry.relative_offset - last.relative_offset));
            put_varint(target, u64::from(entry.position - last.position));
            put_time(target, last.before, entry.before);
            last = *entry;
        }
        put_time(target, last.before, self.max_timestamp);
    }

    /// Reads what [`SegmentIndex::encode_from`] wrote, onto the entries that its writer knew to be here.
    ///
    /// # Errors
    /// Bytes that end early, that follow entries which are not here, or that break invariant A or B.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let known = decoder.varint_up_to(self.entries.len() as u64, "known index entries")? as usize;
        let size_bytes = decoder.varint_up_to(u64::from(u32::MAX), "segment size")? as u32;
        let count = decoder.count(LEAST_ENTRY_BYTES - 1, MAX_INDEX_ENTRIES - known, "index entry count")?;
        let mut last = self.last_before(known);
        self.entries.truncate(known);
        self.entries.reserve(count);
        for _ in 0..count {
            let offset_step = decoder.varint_up_to(u64::from(u32::MAX), "index offset step")? as u32;
            let position_step = decoder.varint_up_to(u64::from(u32::MAX), "index position step")? as u32;
            if offset_step == 0 || position_step < INDEX_INTERVAL_BYTES {
                return Err(broken("index step", position_step.into()));
            }
            let offset = last.relative_offset.checked_add(offset_step);
            let position = last.position.checked_add(position_step);
            last = Entry {
                relative_offset: offset.ok_or_else(|| broken("index offset", offset_step.into()))?,
                position: position.ok_or_else(|| broken("index position", position_step.into()))?,
                before: read_time(&mut decoder, last.before, self.base_offset.0)?,
            };
            self.entries.push(last);
        }
        self.max_timestamp = read_time(&mut decoder, last.before, self.base_offset.0)?;
        if last.position > size_bytes {
            return Err(broken("segment size", size_bytes.into()));
        }
        self.size_bytes = size_bytes;
        decoder.finish("segment index")
    }

    /// The entry before number `index`, or what stands for one before the first.
    fn last_before(&self, index: usize) -> Entry {
        let none = MaxTimestamp { timestamp_ms: NO_TIMESTAMP_MS, batch_base_offset: self.base_offset };
        let start = Entry { relative_offset: 0, position: 0, before: none };
        index.checked_sub(1).map_or(start, |last| self.entries[last])
    }

    fn position_before(&self, index: usize) -> u32 {
        index.checked_sub(1).map_or(0, |last| self.entries[last].position)
    }

    /// Appends the index's bytes (`FORMAT-SIDECAR.md`, index).
    pub fn encode(&self, target: &mut Vec<u8>) {
        put_varint(target, self.base_offset.0.cast_unsigned());
        put_varint(target, u64::from(self.size_bytes));
        put_varint(target, self.entries.len() as u64);
        let (mut offset, mut position, mut before) = (0, 0, Self::new(self.base_offset).max_timestamp);
        for entry in &self.entries {
            put_varint(target, u64::from(entry.relative_offset - offset));
            put_varint(target, u64::from(entry.position - position));
            put_time(target, before, entry.before);
            (offset, position, before) = (entry.relative_offset, entry.position, entry.before);
        }
        put_time(target, before, self.max_timestamp);
    }

    /// Reads what [`SegmentIndex::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that end early, or that break invariant A or B.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let base_offset = decoder.varint_i64("segment base offset")?;
        if base_offset.checked_add(i64::from(u32::MAX)).is_none() {
            return Err(broken("segment base offset", base_offset));
        }
        let size_bytes = decoder.varint_up_to(u64::from(u32::MAX), "segment size")? as u32;
        let count = decoder.count(LEAST_ENTRY_BYTES, MAX_INDEX_ENTRIES, "index entry count")?;
        let mut index = Self::new(Offset(base_offset));
        index.entries.reserve_exact(count);
        let (mut offset, mut position) = (0u32, 0u32);
        for _ in 0..count {
            let offset_step = decoder.varint_up_to(u64::from(u32::MAX), "index offset step")? as u32;
            let position_step = decoder.varint_up_to(u64::from(u32::MAX), "index position step")? as u32;
            if offset_step == 0 || position_step < INDEX_INTERVAL_BYTES {
                return Err(broken("index step", position_step.into()));
            }
            offset = offset.checked_add(offset_step).ok_or_else(|| broken("index offset", offset.into()))?;
            position = position
                .checked_add(position_step)
                .ok_or_else(|| broken("index position", position.into()))?;
            index.max_timestamp = read_time(&mut decoder, index.max_timestamp, base_offset)?;
            index.entries.push(Entry { relative_offset: offset, position, before: index.max_timestamp });
        }
        index.max_timestamp = read_time(&mut decoder, index.max_timestamp, base_offset)?;
        if position > size_bytes {
            return Err(broken("segment size", size_bytes.into()));
        }
        index.size_bytes = size_bytes;
        decoder.finish("segment index")?;
        Ok(index)
    }
}

/// Fewer bytes than any entry takes: offset, position (two) and time.
const LEAST_ENTRY_BYTES: usize = 4;

/// A step of 0 says that nothing changed; else the time's rise is followed by the rise of the batch's offset.
fn put_time(target: &mut Vec<u8>, before: MaxTimestamp, now: MaxTimestamp) {
    put_varint(target, now.timestamp_ms.wrapping_sub(before.timestamp_ms).cast_unsigned());
    if now.timestamp_ms != before.timestamp_ms {
        put_varint(target, (now.batch_base_offset.0 - before.batch_base_offset.0).cast_unsigned());
    }
}

fn read_time(
    decoder: &mut Decoder<'_>,
    before: MaxTimestamp,
    base_offset: i64,
) -> Result<MaxTimestamp, DecodeError> {
    let rise_ms = decoder.varint_up_to(1 << 63, "record time step")?;
    if rise_ms == 0 {
        return Ok(before);
    }
    let timestamp_ms = before
        .timestamp_ms
        .checked_add_unsigned(rise_ms)
        .ok_or_else(|| broken("record time", before.timestamp_ms))?;
    let offset_step = decoder.varint_i64("batch offset step")?;
    let batch_base_offset = before.batch_base_offset.0.saturating_add(offset_step);
    if batch_base_offset - base_offset > i64::from(u32::MAX) {
        return Err(broken("batch offset", batch_base_offset));
    }
    Ok(MaxTimestamp { timestamp_ms, batch_base_offset: Offset(batch_base_offset) })
}

fn broken(field: &'static str, value: i64) -> DecodeError {
    DecodeError::Value { field, value: value.into(), rule: "the order of the index" }
}

#[cfg(test)]
mod tests;
