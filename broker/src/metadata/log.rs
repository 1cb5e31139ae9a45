//! The metadata log of a single broker: one partition of its own hot log.
//!
//! Owns: records as one batch, awaited until it is durable, and their replay at a start.
//! Does not own: a record's bytes (`records`), what they add up to (`image`), the partition's files (`hotlog`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hotlog::{LogDirectory, Origin, Partition};
use wire::batch::{BatchBuilder, BatchOptions, Batches, NewRecord, Records as RecordIter};

use super::image::MetadataImage;
use super::records::{MetadataRecord, MetadataRecordError};
use super::{CommitMetadataError, MetadataLog};
use crate::clock::Clock;
use crate::limits::MAX_DECOMPRESSED_BYTES;

/// The metadata partition of a log directory.
#[derive(Debug)]
pub(crate) struct HotMetadataLog {
    /// The log directory.
    pub(crate) directory: LogDirectory,
    /// Its metadata partition.
    pub(crate) partition: Arc<Partition>,
    /// Stamps the records.
    pub(crate) clock: Arc<dyn Clock>,
}

impl MetadataLog for HotMetadataLog {
    fn commit<'a>(
        &'a self,
        records: &'a [MetadataRecord],
    ) -> Pin<Box<dyn Future<Output = Result<(), CommitMetadataError>> + Send + 'a>> {
        Box::pin(async move {
            let failed = |reason: String| CommitMetadataError { reason };
            let batch = batch_of(records, self.clock.wall_ms());
            let room =
                self.directory.reserve_room(batch.len()).await.map_err(|error| failed(error.to_string()))?;
            let appended = self.partition.append(room, &batch, Origin::Internal);
            let ticket = appended.map_err(|error| failed(error.to_string()))?.ticket;
            self.directory.commit(ticket).await.map_err(|error| failed(error.to_string()))
        })
    }
}

/// The records as one batch.
pub(crate) fn batch_of(records: &[MetadataRecord], timestamp_ms: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for record in records {
        let value = record.encode();
        builder.push(&NewRecord { timestamp_ms, key: None, value: Some(&value), headers: &[] });
    }
    builder.build()
}

/// Why the metadata log cannot be replayed. The broker does not start: without it, topics would be lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayMetadataError {
    /// A batch is damaged.
    #[error("the metadata log is damaged at offset {offset}: {reason}")]
    Damaged {
        /// Where the last good batch ended.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
    /// A record is damaged or too new.
    #[error("the metadata log cannot be read at offset {offset}: {error}")]
    Record {
        /// The record's offset.
        offset: i64,
        /// What is wrong.
        error: MetadataRecordError,
    },
}

/// Adds up all records.
///
/// # Errors
/// [`ReplayMetadataError`].
pub(crate) fn replay(runs: &[Bytes]) -> Result<MetadataImage, ReplayMetadataError> {
    let mut image = MetadataImage::default();
    let mut offset = 0;
    for run in runs {
        for batch in Batches::new(run) {
            let damaged = |reason: String| ReplayMetadataError::Damaged { offset, reason };
            let batch = batch.map_err(|error| damaged(error.error.to_string()))?;
            batch.check_crc().map_err(|error| damaged(error.to_string()))?;
            let mut records = RecordIter::new(&batch, MAX_DECOMPRESSED_BYTES);
            while let Some(record) = records.next_record().map_err(|error| damaged(error.to_string()))? {
                let value = record.value.unwrap_or_default();
                let decoded = MetadataRecord::decode(value)
                    .map_err(|error| ReplayMetadataError::Record { offset: record.offset.0, error })?;
                image.apply(&decoded);
            }
            offset = batch.header().next_offset().0;
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use wire::ids::TopicId;

    use super::*;

    #[test]
    fn what_is_committed_is_what_is_replayed() {
        let identity = MetadataRecord::Cluster {
            cluster_id: TopicId([1; 16]),
            name: "west".into(),
            broker_id: 1,
            recovery_generation: 0,
            created_ms: 5,
        };
        let taken = MetadataRecord::ProducerIds { next: 1000 };
        let run = Bytes::from(batch_of(&[identity, taken], 7));
        let image = replay(std::slice::from_ref(&run)).unwrap();
        assert_eq!(image.identity.unwrap().name, "west");
        assert_eq!(image.next_producer_id, 1000);
        let mut broken = run.to_vec();
        *broken.last_mut().unwrap() ^= 1;
        assert!(matches!(replay(&[Bytes::from(broken)]), Err(ReplayMetadataError::Damaged { .. })));
    }
}
