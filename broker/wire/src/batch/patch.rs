//! Rewrites of a header that leave the payload alone: not read, not copied, not even needed.
//!
//! Owns: which fields can be set so.
//! Does not own: the arithmetic of the CRC (`checksum`), who gives the values (`hotlog`, `broker::validation`,
//! `mirror::copier`).

use super::header::{ATTRIBUTES_AT, CRC_AT};
use super::{Attributes, BatchError, BatchHeader, HEADER_BYTES, checksum};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Sets base offset and leader epoch in the first 16 bytes of a batch. Both lie outside the CRC.
#[inline]
pub fn patch_placement(batch: &mut [u8; HEADER_BYTES], base_offset: Offset, leader_epoch: LeaderEpoch) {
    batch[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
}

/// Who wrote a batch, and at which place among its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerFields {
    /// The producer's id, or -1.
    pub id: ProducerId,
    /// The producer's epoch, or -1.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
}

impl ProducerFields {
    /// No idempotent producer.
    pub const NONE: Self =
        Self { id: ProducerId(-1), epoch: ProducerEpoch(-1), base_sequence: super::SEQUENCE_NONE };
}

/// New values for header fields that the CRC covers; `None` leaves a field as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderPatch {
    /// Attribute bits. The codec's bits must stay what they are: the payload is not recoded.
    pub attributes: Option<Attributes>,
    /// Greatest record time, milliseconds since 1970.
    pub max_timestamp_ms: Option<i64>,
    /// Producer id, epoch and base sequence.
    pub producer: Option<ProducerFields>,
}

impl HeaderPatch {
    /// Applies the patch and sets the CRC by combination. `header` is the batch's first 61 bytes; the payload is
    /// neither needed nor read. A checksum that was wrong before is wrong after: damage is not signed over.
    ///
    /// # Errors
    /// Those of [`BatchHeader::parse`]; `header` is then unchanged.
    #[inline]
    pub fn apply(&self, header: &mut [u8; HEADER_BYTES]) -> Result<BatchHeader, BatchError> {
        let before = *header;
        let mut fields = BatchHeader::parse(&before)?;
        if let Some(attributes) = self.attributes {
            attributes.codec()?;
            fields.attributes = attributes;
        }
        if let Some(max_timestamp_ms) = self.max_timestamp_ms {
            fields.max_timestamp_ms = max_timestamp_ms;
        }
        if let Some(producer) = self.producer {
            fields.producer_id = producer.id;
            fields.producer_epoch = producer.epoch;
            fields.base_sequence = producer.base_sequence;
        }
        fields.encode_checked_fields(header);
        // Checksums of two strings of one length: their difference is the plain remainder of the strings' own.
        let difference =
            checksum::crc32c(&before[ATTRIBUTES_AT..]) ^ checksum::crc32c(&header[ATTRIBUTES_AT..]);
        fields.crc ^= checksum::shift(difference, fields.payload_bytes() as u32);
        header[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&fields.crc.to_be_bytes());
        Ok(fields)
    }
}
