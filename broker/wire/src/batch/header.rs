//! The 61 bytes in front of the records.
//!
//! Owns: where each field lies, what each attribute bit means, what a header alone can show to be wrong.
//! Does not own: the checksum (`checksum`), changes in place (`patch`), what a broker demands of clients (`check`).

use super::BatchError;
use crate::compress::Codec;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Size of a magic 2 header.
pub const HEADER_BYTES: usize = 61;
/// Bytes of base offset and length: what the length field does not count.
pub const PREFIX_BYTES: usize = 12;
/// The batch format this module writes.
pub const MAGIC: i8 = 2;
/// Base sequence of a batch whose producer is not idempotent.
pub const SEQUENCE_NONE: i32 = -1;

pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;

/// What the record times of a batch mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Set by the producer, per record.
    CreateTime,
    /// Set by the broker for the whole batch: the header's maximum counts, record deltas do not.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const TIMESTAMP_TYPE: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::Codec`] for the ids 5 to 7.
    #[inline]
    pub fn codec(self) -> Result<Codec, BatchError> {
        let id = (self.0 & Self::CODEC) as u8;
        Codec::from_id(id).ok_or(BatchError::Codec { id })
    }

    /// What the record times mean.
    #[inline]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::TIMESTAMP_TYPE == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[inline]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record and no data.
    #[inline]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is a delete horizon, set by a log cleaner (KIP-534). Record times are still the
    /// base timestamp plus their deltas.
    #[inline]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// With another codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self((self.0 & !Self::CODEC) | i16::from(codec.id()))
    }

    /// With another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(Self::TIMESTAMP_TYPE, kind == TimestampType::LogAppendTime)
    }

    /// With the transactional bit set or cleared.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// With the control bit set or cleared.
    #[must_use]
    pub fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    /// With the delete-horizon bit set or cleared; record times stay as they are.
    #[must_use]
    pub fn with_delete_horizon(self, on: bool) -> Self {
        self.with(Self::DELETE_HORIZON, on)
    }

    fn with(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// A parsed header. [`BatchHeader::parse`] proves what is said at the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record, even when a log cleaner has removed it. At least 0.
    pub base_offset: Offset,
    /// Size of the whole batch, prefix and header included. At least [`HEADER_BYTES`].
    pub size_bytes: usize,
    /// Epoch of the leader that stored the batch; -1 from a client.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C over everything from the attributes on, as stored.
    pub crc: u32,
    /// Codec, timestamp type and kind; the codec is a known one.
    pub attributes: Attributes,
    /// Last offset minus base offset. At least 0, and the sum does not overflow.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 to which record time deltas are added.
    pub base_timestamp_ms: i64,
    /// Greatest record time, milliseconds since 1970; -1 without any.
    pub max_timestamp_ms: i64,
    /// The producer, or -1.
    pub producer_id: ProducerId,
    /// The producer's epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or [`SEQUENCE_NONE`].
    pub base_sequence: i32,
    /// Records in the payload; 0 when a log cleaner kept only the header. Never more than there are offsets.
    pub record_count: i32,
}

impl BatchHeader {
    /// Parses the header of the batch at the start of `bytes`. The payload may be absent.
    ///
    /// # Errors
    /// [`BatchError`], all but `Crc`, `Trailing` and `CountBeyondPayload`; `Truncated` only when the header itself is.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(fields) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(too_short(bytes)) };
        let magic = fields[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        let length = i32_at(fields, 8);
        if length < (HEADER_BYTES - PREFIX_BYTES) as i32 {
            return Err(BatchError::Length { length });
        }
        let header = Self {
            base_offset: Offset(i64_at(fields, 0)),
            size_bytes: length as usize + PREFIX_BYTES,
            leader_epoch: LeaderEpoch(i32_at(fields, 12)),
            crc: i32_at(fields, CRC_AT) as u32,
            attributes: Attributes(i16_at(fields, ATTRIBUTES_AT)),
            last_offset_delta: i32_at(fields, LAST_OFFSET_DELTA_AT),
            base_timestamp_ms: i64_at(fields, BASE_TIMESTAMP_AT),
            max_timestamp_ms: i64_at(fields, MAX_TIMESTAMP_AT),
            producer_id: ProducerId(i64_at(fields, PRODUCER_ID_AT)),
            producer_epoch: ProducerEpoch(i16_at(fields, PRODUCER_EPOCH_AT)),
            base_sequence: i32_at(fields, BASE_SEQUENCE_AT),
            record_count: i32_at(fields, COUNT_AT),
        };
        header.check()?;
        Ok(header)
    }

    #[inline]
    fn check(&self) -> Result<(), BatchError> {
        self.attributes.codec()?;
        let (base, delta) = (self.base_offset.0, self.last_offset_delta);
        if base < 0 || delta < 0 || base.checked_add(i64::from(delta)).is_none_or(|last| last == i64::MAX) {
            return Err(BatchError::Offsets { base_offset: base, last_offset_delta: delta });
        }
        let offsets = i64::from(delta) + 1;
        if self.record_count < 0 || i64::from(self.record_count) > offsets {
            return Err(BatchError::Count { record_count: self.record_count, offsets });
        }
        Ok(())
    }

    /// The header as bytes; reads back equal.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        let length = i32::try_from(self.size_bytes - PREFIX_BYTES).expect("a batch is at most 2 GiB long");
        out[8..12].copy_from_slice(&length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        out[MAGIC_AT] = MAGIC as u8;
        out[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&self.crc.to_be_bytes());
        self.encode_checked_fields(&mut out);
        out
    }

    /// Writes the fields that the CRC covers.
    pub(super) fn encode_checked_fields(&self, out: &mut [u8; HEADER_BYTES]) {
        out[ATTRIBUTES_AT..LAST_OFFSET_DELTA_AT].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[LAST_OFFSET_DELTA_AT..BASE_TIMESTAMP_AT].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[BASE_TIMESTAMP_AT..MAX_TIMESTAMP_AT].copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        out[MAX_TIMESTAMP_AT..PRODUCER_ID_AT].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        out[PRODUCER_ID_AT..PRODUCER_EPOCH_AT].copy_from_slice(&self.producer_id.0.to_be_bytes());
        out[PRODUCER_EPOCH_AT..BASE_SEQUENCE_AT].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        out[BASE_SEQUENCE_AT..COUNT_AT].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[COUNT_AT..].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Offset of the last record.
    #[inline]
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + i64::from(self.last_offset_delta))
    }

    /// The offset after the last one.
    #[inline]
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0 + 1)
    }

    /// Bytes after the header.
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.size_bytes - HEADER_BYTES
    }

    /// Whether every offset between first and last has its record, so that a broker takes the batch as it is.
    #[inline]
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        i64::from(self.record_count) == i64::from(self.last_offset_delta) + 1
    }

    /// Whether an idempotent or transactional producer wrote it.
    #[inline]
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// Sequence of the last record, wrapped as Kafka wraps; [`SEQUENCE_NONE`] without a sequence.
    #[inline]
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == SEQUENCE_NONE {
            SEQUENCE_NONE
        } else {
            sequence_after(self.base_sequence, self.last_offset_delta)
        }
    }
}

/// The sequence `steps` (at least 0) after `sequence` (at least 0): `i32::MAX` is followed by 0.
#[inline]
#[must_use]
pub fn sequence_after(sequence: i32, steps: i32) -> i32 {
    ((i64::from(sequence) + i64::from(steps)) & i64::from(i32::MAX)) as i32
}

/// A header that does not fit is too short, unless its magic byte already says that it is of another kind.
#[cold]
fn too_short(bytes: &[u8]) -> BatchError {
    match bytes.get(MAGIC_AT) {
        Some(&magic) if magic as i8 != MAGIC => BatchError::Magic { magic: magic as i8 },
        _ => BatchError::Truncated { needed_bytes: HEADER_BYTES, available_bytes: bytes.len() },
    }
}

#[inline]
fn i16_at(fields: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([fields[at], fields[at + 1]])
}

#[inline]
fn i32_at(fields: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes(*fields[at..].first_chunk().expect("field positions lie within the header"))
}

#[inline]
fn i64_at(fields: &[u8; HEADER_BYTES], at: usize) -> i64 {
    i64::from_be_bytes(*fields[at..].first_chunk().expect("field positions lie within the header"))
}
