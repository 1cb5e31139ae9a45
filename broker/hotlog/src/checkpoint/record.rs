//! What only memory knows of a partition, as bytes of a checkpoint frame. `FORMAT-CHECKPOINT.md` draws them.
//!
//! Owns: encoding a partition's state without copying it first, and reading it back. Does not own: frames, files, when.

use bytes::Bytes;
use wire::ids::{Offset, TopicId};

use crate::aborted::AbortedTransactions;
use crate::encoding::{DecodeError, Decoder, put_varint};
use crate::epochs::EpochHistory;
use crate::index::SegmentIndex;
use crate::partition::PartitionId;
use crate::producers::ProducerStates;

/// Fixed fields before the sections.
const FIXED_BYTES: usize = 88;
/// In the field of the first append's time: the segment is empty.
const NO_TIME: i64 = i64::MIN;
/// A section is at most this long; the largest, a full index, stays far below.
const MAX_SECTION_BYTES: u64 = 64 << 20;

/// The fields of fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) partition: PartitionId,
    /// Journal entries of this partition below this position are in the record.
    pub(crate) as_of: u64,
    pub(crate) log_start: Offset,
    pub(crate) local_log_start: Offset,
    pub(crate) log_end: Offset,
    /// The active segment.
    pub(crate) base_offset: Offset,
    pub(crate) size_bytes: u32,
    pub(crate) first_append_time_ms: Option<i64>,
    pub(crate) last_append_time_ms: i64,
}

/// A partition's state, borrowed.
#[derive(Debug)]
pub(crate) struct RecordParts<'a> {
    pub(crate) head: RecordHead,
    pub(crate) epochs: &'a EpochHistory,
    pub(crate) producers: &'a ProducerStates,
    pub(crate) aborted: &'a AbortedTransactions,
    pub(crate) index: &'a SegmentIndex,
    /// Index entries that the reader has from earlier records of this segment.
    pub(crate) known_entries: usize,
}

/// A partition's state, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionRecord {
    pub(crate) head: RecordHead,
    pub(crate) epochs: EpochHistory,
    pub(crate) producers: ProducerStates,
    pub(crate) aborted: AbortedTransactions,
    pub(crate) index: SegmentIndex,
    /// The active segment's bytes from its last whole block on.
    pub(crate) remainder: Bytes,
}

impl RecordParts<'_> {
    /// Appends all but the remainder, which [`put_remainder`] has to follow with.
    pub(crate) fn encode(&self, target: &mut Vec<u8>) {
        let head = &self.head;
        target.extend_from_slice(&head.partition.topic_id.0);
        target.extend_from_slice(&head.partition.partition.to_be_bytes());
        target.extend_from_slice(&head.size_bytes.to_be_bytes());
        target.extend_from_slice(&head.as_of.to_be_bytes());
        for offset in [head.log_start, head.local_log_start, head.log_end, head.base_offset] {
            target.extend_from_slice(&offset.0.to_be_bytes());
        }
        target.extend_from_slice(&head.first_append_time_ms.unwrap_or(NO_TIME).to_be_bytes());
        target.extend_from_slice(&head.last_append_time_ms.to_be_bytes());
        target.extend_from_slice(&[0; 8]);
        put_section(target, |target| self.epochs.encode(target));
        put_section(target, |target| self.producers.encode(target));
        put_section(target, |target| self.aborted.encode(target));
        put_section(target, |target| self.index.encode_from(self.known_entries, target));
    }
}

/// Ends a record.
pub(crate) fn put_remainder(target: &mut Vec<u8>, remainder: &[u8]) {
    put_varint(target, remainder.len() as u64);
    target.extend_from_slice(remainder);
}

/// Appends a section behind its length, of four bytes so that it can be set afterwards.
fn put_section(target: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let at = target.len();
    target.extend_from_slice(&[0; 4]);
    encode(target);
    let length = (target.len() - at - 4) as u32;
    target[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

impl PartitionRecord {
    /// Reads a record; `before` is the partition's record from earlier in the file, which an index may continue.
    pub(crate) fn decode(bytes: &[u8], before: Option<PartitionRecord>) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let head = RecordHead::decode(&mut decoder)?;
        let mut section = |field| -> Result<&[u8], DecodeError> {
            let length = decoder.u32(field)?;
            decoder.take(length as usize, field)
        };
        let epochs = EpochHistory::decode(section("epochs")?)?;
        let producers = ProducerStates::decode(section("producers")?)?;
        let aborted = AbortedTransactions::decode(section("aborted transactions")?)?;
        let index_bytes = section("index")?;
        let mut index = match before {
            Some(before) if before.head.base_offset == head.base_offset => before.index,
            _ => SegmentIndex::new(head.base_offset),
        };
        index.extend(index_bytes)?;
        let length = decoder.varint_up_to(MAX_SECTION_BYTES, "remainder length")?;
        let remainder = Bytes::copy_from_slice(decoder.take(length as usize, "remainder")?);
        decoder.finish("partition record")?;
        let record = Self { head, epochs, producers, aborted, index, remainder };
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let head = &self.head;
        let rising =
            0 <= head.log_start.0 && head.base_offset <= head.log_end && head.log_start <= head.log_end;
        let held =
            self.index.size_bytes() == head.size_bytes && self.remainder.len() <= head.size_bytes as usize;
        if rising && held && head.partition.partition >= 0 {
            return Ok(());
        }
        Err(DecodeError::Value {
            field: "partition record",
            value: head.log_end.0.into(),
            rule: "its own other fields",
        })
    }

    pub(crate) fn parts(&self) -> RecordParts<'_> {
        RecordParts {
            head: self.head,
            epochs: &self.epochs,
            producers: &self.producers,
            aborted: &self.aborted,
            index: &self.index,
            known_entries: 0,
        }
    }
}

impl RecordHead {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if decoder.remaining() < FIXED_BYTES {
            return Err(DecodeError::Truncated { field: "partition record" });
        }
        let topic_id = TopicId(decoder.array("topic id")?);
        let partition = decoder.i32("partition")?;
        let size_bytes = decoder.u32("segment size")?;
        let as_of = decoder.u64("journal position")?;
        let mut offset = |field| decoder.i64(field).map(Offset);
        let (log_start, local_log_start) = (offset("log start")?, offset("local log start")?);
        let (log_end, base_offset) = (offset("log end")?, offset("segment base offset")?);
        let first = decoder.i64("first append time")?;
        let last_append_time_ms = decoder.i64("last append time")?;
        decoder.u64("reserved")?;
        Ok(Self {
            partition: PartitionId { topic_id, partition },
            as_of,
            log_start,
            local_log_start,
            log_end,
            base_offset,
            size_bytes,
            first_append_time_ms: (first != NO_TIME).then_some(first),
            last_append_time_ms,
        })
    }
}
