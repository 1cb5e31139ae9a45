//! From the bytes of one answer to records.
//!
//! Owns: which records a consumer is given, and the copy of each.
//! Does not own: which transactions count (`isolation`), the format (`wire::batch`), where reading goes on
//! (`consumer`).

use bytes::Bytes;
use wire::Offset;
use wire::batch::{BatchError, Entries, Entry, Header, LegacyError, Record};

use super::{ConsumedRecord, ConsumerError};
use crate::fetch::Fetched;
use crate::isolation::AbortedFilter;
use crate::layout::TopicPartition;
use crate::limits;
use crate::offsets::Isolation;

/// Appends the records from `position` on, and returns the next position. Records of control batches are never
/// among them.
pub(super) fn records(
    fetched: Fetched,
    position: Offset,
    isolation: Isolation,
    records: &mut Vec<ConsumedRecord>,
) -> Result<Offset, ConsumerError> {
    let partition = fetched.partition;
    let mut filter = (isolation == Isolation::ReadCommitted).then(|| AbortedFilter::new(fetched.aborted));
    let mut next = position;
    for entry in Entries::new(&fetched.records) {
        let entry = match entry {
            Ok(entry) => entry,
            // The last batch may be cut short; the first one never is.
            Err(error) if is_cut_short(error.error) && error.position > 0 => break,
            Err(error) => return Err(ConsumerError::Batch { partition, error }),
        };
        if entry.last_offset() < next {
            continue;
        }
        if admits(&mut filter, &entry)
            .map_err(|error| ConsumerError::Control { partition: partition.clone(), error })?
        {
            take(&partition, &entry, next, records)?;
        }
        next = Offset(entry.last_offset().0 + 1);
    }
    Ok(next)
}

fn is_cut_short(error: BatchError) -> bool {
    matches!(error, BatchError::Truncated { .. } | BatchError::Legacy(LegacyError::Truncated { .. }))
}

fn admits(
    filter: &mut Option<AbortedFilter>,
    entry: &Entry<'_>,
) -> Result<bool, crate::isolation::MalformedControl> {
    let Entry::Batch(batch) = entry else { return Ok(true) };
    match filter {
        Some(filter) => filter.admits(batch),
        None => Ok(!batch.header().attributes.is_control()),
    }
}

fn take(
    partition: &TopicPartition,
    entry: &Entry<'_>,
    from: Offset,
    records: &mut Vec<ConsumedRecord>,
) -> Result<(), ConsumerError> {
    entry.check_crc().map_err(|error| ConsumerError::Batch {
        partition: partition.clone(),
        error: wire::batch::MalformedAt { position: 0, error },
    })?;
    let malformed = |error| ConsumerError::Records {
        partition: partition.clone(),
        last_offset: entry.last_offset(),
        error,
    };
    let mut reader = entry.records(limits::BATCH_BUDGET_BYTES).map_err(malformed)?;
    while let Some(record) = reader.next_record().map_err(malformed)? {
        if record.offset >= from {
            records.push(owned(partition, &record));
        }
    }
    Ok(())
}

fn owned(partition: &TopicPartition, record: &Record<'_>) -> ConsumedRecord {
    let copy = |field: &[u8]| Bytes::copy_from_slice(field);
    let header = |header: Header<'_>| (copy(header.key), header.value.map(copy));
    ConsumedRecord {
        partition: partition.clone(),
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(copy),
        value: record.value.map(copy),
        headers: record.headers.map(header).collect(),
    }
}
