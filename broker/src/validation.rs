//! Whether a batch from a producer may be appended.
//!
//! By header and checksum: one whole batch of format 2, its CRC, the rules of the header, its size, and the bound on
//! times applied to the header's largest one. With `validation=records`, every record as Kafka does.
//!
//! Owns: the decision, and the change of header that a topic with append times needs.
//! Does not own: producer sequences (the hot log), error codes (`error_codes`).

use std::borrow::Cow;

use wire::batch::{
    AppendFault, BatchError, BatchView, CheckRecordsError, HEADER_BYTES, HeaderPatch, RecordRejection,
    RecordRules, TimestampType, check_records,
};
use wire::compress::Codec;
use wire::ids::ProducerId;

use crate::limits::MAX_DECOMPRESSED_BYTES;
use crate::topic_config::{TopicConfig, Validation};

/// First version of Produce whose clients know zstd.
const ZSTD_SINCE: i16 = 7;

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchRefused {
    /// No records at all.
    #[error("a produce request needs one record batch per partition, and this one has none")]
    Missing,
    /// More than one batch, or bytes after it.
    #[error("a produce request carries exactly one record batch per partition: {0}")]
    Several(BatchError),
    /// The bytes are not a batch.
    #[error(transparent)]
    Malformed(BatchError),
    /// The header says what no client may say.
    #[error(transparent)]
    Header(#[from] AppendFault),
    /// Larger than the topic allows.
    #[error("the batch has {bytes} bytes, and the topic's max.message.bytes is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Larger than a segment.
    #[error("the batch has {bytes} bytes, and the topic's segment.bytes is {limit}")]
    LargerThanSegment {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: u64,
    },
    /// zstd from a client whose version does not have it.
    #[error("zstd needs version {ZSTD_SINCE} of produce, this request has version {version}")]
    Compression {
        /// The request's version.
        version: i16,
    },
    /// Transactions are not served.
    #[error("transactions are not supported by this broker")]
    Transactional,
    /// A producer id that this cluster never gave out.
    #[error("producer id {} was never given out by this cluster", .0.0)]
    UnknownProducer(ProducerId),
    /// The header's largest time is out of bounds, or of a type that only the broker sets.
    #[error("{0}")]
    Timestamp(RecordRejection),
    /// Records are refused.
    #[error(transparent)]
    Records(#[from] CheckRecordsError),
}

/// What a batch is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<'a> {
    /// The topic's settings.
    pub(crate) config: &'a TopicConfig,
    /// The produce request's version.
    pub(crate) version: i16,
    /// Wall time.
    pub(crate) now_ms: i64,
    /// The first producer id not given out.
    pub(crate) next_producer_id: i64,
}

impl Judge<'_> {
    /// Checks the records of one partition; what comes back is what is to be appended: the bytes as they came, or
    /// (on a topic with append times) a copy with another header.
    ///
    /// # Errors
    /// [`BatchRefused`].
    pub(crate) fn check<'b>(&self, records: Option<&'b [u8]>) -> Result<Cow<'b, [u8]>, BatchRefused> {
        let bytes = records.filter(|bytes| !bytes.is_empty()).ok_or(BatchRefused::Missing)?;
        if bytes.len() > self.config.max_message_bytes {
            return Err(BatchRefused::TooLarge { bytes: bytes.len(), limit: self.config.max_message_bytes });
        }
        if bytes.len() as u64 > self.config.segment_bytes {
            return Err(BatchRefused::LargerThanSegment {
                bytes: bytes.len(),
                limit: self.config.segment_bytes,
            });
        }
        let batch = BatchView::only(bytes).map_err(|error| match error {
            BatchError::Trailing { .. } => BatchRefused::Several(error),
            error => BatchRefused::Malformed(error),
        })?;
        batch.check_crc().map_err(BatchRefused::Malformed)?;
        batch.check_produced()?;
        self.check_header(&batch)?;
        // A compacted topic needs a key on every record, which only the records can tell.
        let patch = if self.config.validation == Validation::Records || self.config.compact {
            check_records(&batch, &self.rules())?.patch
        } else {
            self.header_patch(&batch)
        };
        if patch == HeaderPatch::default() {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut copy = bytes.to_vec();
        let header = copy.first_chunk_mut::<HEADER_BYTES>().expect("a parsed batch has a whole header");
        patch.apply(header).map_err(BatchRefused::Malformed)?;
        Ok(Cow::Owned(copy))
    }

    fn check_header(&self, batch: &BatchView<'_>) -> Result<(), BatchRefused> {
        let header = batch.header();
        if batch.codec() == Codec::Zstd && self.version < ZSTD_SINCE {
            return Err(BatchRefused::Compression { version: self.version });
        }
        if header.attributes.is_transactional() {
            return Err(BatchRefused::Transactional);
        }
        if header.has_producer_id() && header.producer_id.0 >= self.next_producer_id {
            return Err(BatchRefused::UnknownProducer(header.producer_id));
        }
        if self.config.log_append_time {
            return Ok(());
        }
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            return Err(BatchRefused::Timestamp(RecordRejection::TimestampType));
        }
        // -1 says that no record has a time, which Kafka lets pass too.
        if header.max_timestamp_ms == -1 {
            return Ok(());
        }
        self.rules().check_timestamp(header.max_timestamp_ms).map_err(BatchRefused::Timestamp)
    }

    fn header_patch(&self, batch: &BatchView<'_>) -> HeaderPatch {
        if !self.config.log_append_time {
            return HeaderPatch::default();
        }
        let attributes = batch.header().attributes.with_timestamp_type(TimestampType::LogAppendTime);
        HeaderPatch { attributes: Some(attributes), max_timestamp_ms: Some(self.now_ms), producer: None }
    }

    fn rules(&self) -> RecordRules {
        RecordRules {
            now_ms: self.now_ms,
            timestamp_before_max_ms: self.config.timestamp_before_max_ms,
            timestamp_after_max_ms: self.config.timestamp_after_max_ms,
            timestamp_type: if self.config.log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            compacted: self.config.compact,
            budget_bytes: MAX_DECOMPRESSED_BYTES,
        }
    }
}
