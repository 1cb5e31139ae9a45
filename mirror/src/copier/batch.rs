//! A batch on its way to the target: a header of its own, and a payload that may still be the source's bytes.

use std::ops::Range;

use bytes::Bytes;
use wire::batch::{BatchError, BatchHeader, HEADER_BYTES, HeaderPatch, ProducerFields, patch_placement};
use wire::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::Producer;
use crate::map_topic::BatchIntent;
use crate::offset_map::SourceOffset;

/// How a batch came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Made {
    /// The source's payload, untouched.
    Passed,
    /// Written anew, and why.
    Rebuilt(RebuildReason),
}

/// Why a payload could not stay as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RebuildReason {
    /// A log cleaner took records out of it.
    Thinned,
    /// The start, the log start or an intent of before lies inside it.
    Cut,
    /// The source's broker set its times, which a target of CreateTime would not show.
    LogAppendTime,
    /// It is above the target's limit.
    TooLarge,
    /// The target does not take its codec.
    Codec,
    /// It is of message format 0 or 1.
    OldMagic,
    /// It was joined with its neighbours for a far target.
    Coalesced,
}

impl RebuildReason {
    /// All reasons, in the order in which they are reported.
    pub const ALL: [Self; 7] = [
        Self::Thinned,
        Self::Cut,
        Self::LogAppendTime,
        Self::TooLarge,
        Self::Codec,
        Self::OldMagic,
        Self::Coalesced,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Thinned => "thinned",
            Self::Cut => "cut",
            Self::LogAppendTime => "log_append_time",
            Self::TooLarge => "too_large",
            Self::Codec => "codec",
            Self::OldMagic => "old_magic",
            Self::Coalesced => "coalesced",
        }
    }
}

/// A batch for the target. Its base offset is 0 and it has no producer until it is stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Source offsets that it answers for, holes before and inside included.
    pub covers: Range<SourceOffset>,
    /// Leader epoch of the source batch.
    pub source_leader_epoch: i32,
    /// Source offsets of its records: start and length, rising.
    pub runs: Vec<(SourceOffset, u64)>,
    /// Records in it, at least one.
    pub records: i32,
    /// The header, sound but for the producer.
    pub header: [u8; HEADER_BYTES],
    /// The records, compressed as the header says.
    pub payload: Bytes,
    /// How it came to be.
    pub made: Made,
}

impl Outgoing {
    /// Size of the whole batch.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// What the map topic must know before this is produced.
    #[must_use]
    pub fn intent(&self) -> BatchIntent {
        BatchIntent::new(self.covers.clone(), self.source_leader_epoch, &self.runs)
    }

    /// The header with its producer set; the checksum follows by combination.
    ///
    /// # Errors
    /// Never for a header that this crate made; a caller still gets the reason rather than a panic.
    pub fn stamped(&self, producer: Producer) -> Result<[u8; HEADER_BYTES], BatchError> {
        let mut header = self.header;
        let producer = ProducerFields {
            id: ProducerId(producer.id),
            epoch: ProducerEpoch(producer.epoch),
            base_sequence: producer.sequence,
        };
        HeaderPatch { producer: Some(producer), ..HeaderPatch::default() }.apply(&mut header)?;
        Ok(header)
    }
}

/// A source batch's header as the target may have it: no offset, no epoch, no transaction, no delete horizon, no
/// broker's time. The payload is not read.
///
/// # Errors
/// Those of [`BatchHeader::parse`].
pub fn cleared_header(
    batch: &[u8; HEADER_BYTES],
    attributes_of: &BatchHeader,
) -> Result<[u8; HEADER_BYTES], BatchError> {
    let mut header = *batch;
    patch_placement(&mut header, Offset(0), LeaderEpoch::NONE);
    let attributes = attributes_of
        .attributes
        .with_transactional(false)
        .with_delete_horizon(false)
        .with_timestamp_type(wire::batch::TimestampType::CreateTime);
    let patch = HeaderPatch {
        attributes: Some(attributes),
        producer: Some(ProducerFields::NONE),
        ..HeaderPatch::default()
    };
    patch.apply(&mut header)?;
    Ok(header)
}
