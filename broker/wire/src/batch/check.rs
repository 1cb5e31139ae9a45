//! What a broker demands of a batch that a client appends.
//!
//! Owns: the rules of Kafka's log validator, those of the header and those that need the records.
//! Does not own: limits on size, the configuration behind the rules, sequences of producers, error codes.

use thiserror::Error;

use super::records::{BatchRecords, RawRecord};
use super::{BatchView, HeaderPatch, RecordsError, TimestampType};

/// How many bad records of one batch are described.
pub const RECORD_ERRORS_MAX: usize = 64;

/// A header that no client may append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppendFault {
    /// Clients do not choose offsets.
    #[error("base offset of a produced batch must be 0, not {base_offset}")]
    BaseOffset {
        /// The base offset as sent.
        base_offset: i64,
    },
    /// No records, or a hole between them.
    #[error(
        "a produced batch needs one record per offset: it has {record_count} records for {offsets} offsets"
    )]
    Count {
        /// The count as sent.
        record_count: i32,
        /// Offsets between first and last, both included.
        offsets: i64,
    },
    /// Control batches are the brokers' own.
    #[error("clients may not write control records")]
    Control,
    /// An idempotent batch without its sequence.
    #[error("batch of producer {producer_id} has the sequence {base_sequence}, below 0")]
    Sequence {
        /// The producer.
        producer_id: i64,
        /// The sequence as sent.
        base_sequence: i32,
    },
    /// A transaction without a producer.
    #[error("transactional batch has no producer id")]
    Transactional,
}

impl BatchView<'_> {
    /// The rules that need only the header. The CRC is [`BatchView::check_crc`]'s.
    ///
    /// # Errors
    /// [`AppendFault`].
    #[inline]
    pub fn check_produced(&self) -> Result<(), AppendFault> {
        let header = self.header();
        if header.base_offset.0 != 0 {
            return Err(AppendFault::BaseOffset { base_offset: header.base_offset.0 });
        }
        if header.record_count == 0 || !header.is_contiguous() {
            let offsets = i64::from(header.last_offset_delta) + 1;
            return Err(AppendFault::Count { record_count: header.record_count, offsets });
        }
        if header.attributes.is_control() {
            return Err(AppendFault::Control);
        }
        if header.has_producer_id() && header.base_sequence < 0 {
            let (producer_id, base_sequence) = (header.producer_id.0, header.base_sequence);
            return Err(AppendFault::Sequence { producer_id, base_sequence });
        }
        if header.attributes.is_transactional() && !header.has_producer_id() {
            return Err(AppendFault::Transactional);
        }
        Ok(())
    }
}

/// What a topic demands of records.
#[derive(Clone, Copy, Debug)]
pub struct RecordRules {
    /// The time, milliseconds since 1970.
    pub now_ms: i64,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// Whether the topic is compacted, so that every record needs a key.
    pub compacted: bool,
    /// How much of a batch may be decompressed, bytes.
    pub budget_bytes: usize,
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordRejection {
    /// Compaction goes by key.
    #[error("compacted topics do not accept records without a key")]
    NoKey,
    /// Too far from now.
    #[error("timestamp {timestamp_ms} is out of the accepted range from {earliest_ms} to {latest_ms}")]
    Timestamp {
        /// The record's time.
        timestamp_ms: i64,
        /// The earliest accepted.
        earliest_ms: i64,
        /// The latest accepted.
        latest_ms: i64,
    },
    /// Only brokers set append times.
    #[error("producers may not set the timestamp type to LogAppendTime")]
    TimestampType,
}

/// A record that was refused, by its place in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Records before it in the batch.
    pub index: i32,
    /// Why.
    pub rejection: RecordRejection,
}

/// Why the records of a batch may not be appended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckRecordsError {
    /// The batch cannot be read to its end.
    #[error(transparent)]
    Malformed(#[from] RecordsError),
    /// Records break the topic's rules.
    #[error("{total} records are refused, the first because: {}", .rejected[0].rejection)]
    Rejected {
        /// The first [`RECORD_ERRORS_MAX`] of them; at least one.
        rejected: Vec<RejectedRecord>,
        /// How many there are.
        total: usize,
    },
}

impl CheckRecordsError {
    /// Whether Kafka calls it INVALID_TIMESTAMP rather than INVALID_RECORD.
    #[must_use]
    pub fn is_timestamp(&self) -> bool {
        let Self::Rejected { rejected, .. } = self else { return false };
        rejected.iter().any(|record| record.rejection != RecordRejection::NoKey)
    }
}

/// What is known of a batch whose records were all read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedRecords {
    /// What the header must be changed to before it is stored; nothing in most batches.
    pub patch: HeaderPatch,
    /// Whether offset deltas run from 0 without a hole. Kafka rebuilds a compressed batch where they do not.
    pub sequential: bool,
}

/// Reads every record of `batch` and applies all that Kafka's validator does: the count, the lengths, keys on
/// compacted topics, times, and the header's greatest time. The header's own rules are
/// [`BatchView::check_produced`]'s.
///
/// # Errors
/// [`CheckRecordsError`].
pub fn check_records(
    batch: &BatchView<'_>,
    rules: &RecordRules,
) -> Result<CheckedRecords, CheckRecordsError> {
    let header = *batch.header();
    let mut records = BatchRecords::new(batch, rules.budget_bytes);
    let (mut max_timestamp_ms, mut sequential, mut index) = (-1, true, 0);
    let (mut rejected, mut total) = (Vec::new(), 0);
    while let Some(record) = records.next_raw()? {
        let timestamp_ms = record.timestamp_ms(&header);
        if let Some(rejection) = rules.rejection(&record, timestamp_ms, header.attributes.timestamp_type()) {
            total += 1;
            if rejected.len() < RECORD_ERRORS_MAX {
                rejected.push(RejectedRecord { index, rejection });
            }
        }
        max_timestamp_ms = max_timestamp_ms.max(timestamp_ms);
        sequential &= record.offset_delta == index;
        index += 1;
    }
    if total > 0 {
        return Err(CheckRecordsError::Rejected { rejected, total });
    }
    if rules.timestamp_type == TimestampType::LogAppendTime {
        max_timestamp_ms = rules.now_ms;
    }
    let attributes = header.attributes.with_timestamp_type(rules.timestamp_type);
    let patch = HeaderPatch {
        attributes: (attributes != header.attributes).then_some(attributes),
        max_timestamp_ms: (max_timestamp_ms != header.max_timestamp_ms).then_some(max_timestamp_ms),
        producer: None,
    };
    Ok(CheckedRecords { patch, sequential })
}

impl RecordRules {
    #[inline]
    fn rejection(
        &self,
        record: &RawRecord<'_>,
        timestamp_ms: i64,
        batch_type: TimestampType,
    ) -> Option<RecordRejection> {
        if self.compacted && record.key.is_none() {
            return Some(RecordRejection::NoKey);
        }
        if self.timestamp_type == TimestampType::CreateTime && timestamp_ms != -1 {
            return self.check_timestamp(timestamp_ms).err();
        }
        (batch_type == TimestampType::LogAppendTime).then_some(RecordRejection::TimestampType)
    }

    /// The bound on record times, by which a batch can also be judged from its header's greatest time alone.
    ///
    /// # Errors
    /// [`RecordRejection::Timestamp`].
    #[inline]
    pub fn check_timestamp(&self, timestamp_ms: i64) -> Result<(), RecordRejection> {
        let earliest_ms = self.now_ms.saturating_sub(self.timestamp_before_max_ms);
        let latest_ms = self.now_ms.saturating_add(self.timestamp_after_max_ms);
        if (earliest_ms..=latest_ms).contains(&timestamp_ms) {
            return Ok(());
        }
        Err(RecordRejection::Timestamp { timestamp_ms, earliest_ms, latest_ms })
    }
}
