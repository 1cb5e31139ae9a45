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

#[cfg(test)]
mod tests {
    use wire::batch::{Attributes, BatchBuilder, BatchOptions, NewRecord};

    use super::*;
    use crate::topic_config::Overrides;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn config(pairs: &[(&str, &str)]) -> TopicConfig {
        let overrides: Overrides =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TopicConfig::resolve(&overrides).unwrap()
    }

    fn judge(config: &TopicConfig) -> Judge<'_> {
        Judge { config, version: 9, now_ms: NOW_MS, next_producer_id: 10 }
    }

    fn batch(codec: Codec, key: Option<&[u8]>) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
        for value in [b"one".as_slice(), b"two"] {
            builder.push(&NewRecord { timestamp_ms: NOW_MS, key, value: Some(value), headers: &[] });
        }
        builder.build()
    }

    #[test]
    fn good_batches_pass_as_they_came() {
        let topic = config(&[]);
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bytes = batch(codec, None);
            assert!(matches!(judge(&topic).check(Some(&bytes)), Ok(Cow::Borrowed(_))), "{codec:?}");
        }
        let old = Judge { version: 6, ..judge(&topic) };
        let refused = old.check(Some(&batch(Codec::Zstd, None))).unwrap_err();
        assert_eq!(refused, BatchRefused::Compression { version: 6 });
    }

    #[test]
    fn append_times_change_the_header_and_keep_the_checksum_right() {
        let topic = config(&[("message.timestamp.type", "LogAppendTime")]);
        let bytes = batch(Codec::Lz4, None);
        let Ok(Cow::Owned(patched)) = judge(&topic).check(Some(&bytes)) else {
            panic!("the header must change")
        };
        let view = BatchView::only(&patched).unwrap();
        view.check_crc().unwrap();
        assert_eq!(view.header().attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(view.header().max_timestamp_ms, NOW_MS);
        assert_eq!(view.payload(), BatchView::only(&bytes).unwrap().payload());
    }

    #[test]
    fn records_are_read_where_the_topic_asks_for_it() {
        let bytes = batch(Codec::Gzip, None);
        let compacted = config(&[("cleanup.policy", "compact")]);
        assert!(matches!(judge(&compacted).check(Some(&bytes)), Err(BatchRefused::Records(_))));
        assert!(judge(&compacted).check(Some(&batch(Codec::Gzip, Some(b"key")))).is_ok());
        // A header that claims a later time than its records is only seen record by record, and set right.
        let mut lying = bytes;
        let patch = HeaderPatch { max_timestamp_ms: Some(NOW_MS + 5), ..HeaderPatch::default() };
        patch.apply(lying.first_chunk_mut::<HEADER_BYTES>().unwrap()).unwrap();
        assert!(matches!(judge(&config(&[])).check(Some(&lying)), Ok(Cow::Borrowed(_))));
        let thorough = config(&[("validation", "records")]);
        let Ok(Cow::Owned(corrected)) = judge(&thorough).check(Some(&lying)) else {
            panic!("the time must be set")
        };
        assert_eq!(BatchView::only(&corrected).unwrap().header().max_timestamp_ms, NOW_MS);
    }

    #[test]
    fn times_have_bounds() {
        let topic = config(&[
            ("message.timestamp.before.max.ms", "1000"),
            ("message.timestamp.after.max.ms", "1000"),
        ]);
        let bytes = batch(Codec::None, None);
        for (now_ms, good) in [(NOW_MS, true), (NOW_MS + 1_001, false), (NOW_MS - 1_001, false)] {
            let judged = Judge { now_ms, ..judge(&topic) }.check(Some(&bytes));
            assert_eq!(judged.is_ok(), good, "{judged:?}");
        }
        let mut claimed = bytes;
        let append_time = Attributes::default().with_timestamp_type(TimestampType::LogAppendTime);
        let patch = HeaderPatch { attributes: Some(append_time), ..HeaderPatch::default() };
        patch.apply(claimed.first_chunk_mut::<HEADER_BYTES>().unwrap()).unwrap();
        let refused = judge(&topic).check(Some(&claimed)).unwrap_err();
        assert_eq!(refused, BatchRefused::Timestamp(RecordRejection::TimestampType));
    }
}
