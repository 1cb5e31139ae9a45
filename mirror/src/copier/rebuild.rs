//! Batches that are written anew: records out of one or more source batches, densely packed.

use std::ops::Range;

use bytes::Bytes;
use wire::batch::{BatchBuilder, BatchError, BatchOptions, Entry, HEADER_BYTES, RecordsError};
use wire::compress::Codec;

use super::batch::{Made, Outgoing, RebuildReason};
use super::plan::PlanOptions;
use crate::offset_map::SourceOffset;

/// What goes into a batch.
pub(super) struct Piece<'a> {
    /// Where the records are.
    pub(super) entries: Vec<Entry<'a>>,
    /// The source offsets that count.
    pub(super) covers: Range<SourceOffset>,
    /// Leader epoch of the source.
    pub(super) epoch: i32,
    /// Why the records cannot pass as they are.
    pub(super) reason: RebuildReason,
}

/// Why a batch could not be built.
#[derive(Debug)]
pub(super) enum BuildFault {
    /// The source batch is unsound.
    Batch(BatchError),
    /// A record in it is unsound.
    Records(RecordsError),
    /// One record alone is above the target's limit.
    RecordTooLarge {
        /// Its source offset.
        offset: i64,
        /// Size of a batch with it alone.
        size_bytes: usize,
    },
}

impl From<RecordsError> for BuildFault {
    fn from(error: RecordsError) -> Self {
        Self::Records(error)
    }
}

impl From<BatchError> for BuildFault {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

/// The records of a piece as batches that the target takes: one, or several when one would be too large. None when
/// no record is left in it.
pub(super) fn build(piece: &Piece<'_>, options: &PlanOptions) -> Result<Vec<Outgoing>, BuildFault> {
    let Some(batch) = build_whole(piece, options)? else { return Ok(Vec::new()) };
    let size_bytes = batch.size_bytes();
    if size_bytes <= options.max_batch_bytes {
        return Ok(vec![batch]);
    }
    let Some(middle) = middle_of(&batch) else {
        let offset = batch.runs[0].0.0;
        return Err(BuildFault::RecordTooLarge { offset, size_bytes });
    };
    let mut parts = Vec::new();
    for covers in [piece.covers.start..middle, middle..piece.covers.end] {
        let entries = piece.entries.clone();
        let part = Piece { entries, covers, epoch: piece.epoch, reason: RebuildReason::TooLarge };
        parts.extend(build(&part, options)?);
    }
    Ok(parts)
}

/// The source offset that parts a batch's records in two halves; `None` for a single record.
fn middle_of(batch: &Outgoing) -> Option<SourceOffset> {
    let mut left = u64::from(batch.records.unsigned_abs()) / 2;
    if left == 0 {
        return None;
    }
    for (start, length) in &batch.runs {
        if left < *length {
            return Some(start.plus(left));
        }
        left -= length;
    }
    None
}

/// The records of a piece as one batch, whatever its size.
pub(super) fn build_whole(piece: &Piece<'_>, options: &PlanOptions) -> Result<Option<Outgoing>, BuildFault> {
    let codec = options.codec_for(piece.entries.first().map_or(Codec::None, codec_of));
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    let mut runs: Vec<(SourceOffset, u64)> = Vec::new();
    for entry in &piece.entries {
        // A batch built anew must not sign over damage.
        entry.check_crc()?;
        let mut records = entry.records(options.decompressed_bytes)?;
        while let Some(record) = records.next_record()? {
            let offset = SourceOffset(record.offset.0);
            if offset < piece.covers.start {
                continue;
            }
            if offset >= piece.covers.end {
                break;
            }
            builder.push_copy(&record);
            match runs.last_mut() {
                Some((start, length)) if start.plus(*length) == offset => *length += 1,
                _ => runs.push((offset, 1)),
            }
        }
    }
    let records = builder.record_count();
    if records == 0 {
        return Ok(None);
    }
    let bytes = Bytes::from(builder.build());
    let header = *bytes.first_chunk::<HEADER_BYTES>().expect("a built batch has a whole header");
    Ok(Some(Outgoing {
        covers: piece.covers.clone(),
        source_leader_epoch: piece.epoch,
        runs,
        records,
        header,
        payload: bytes.slice(HEADER_BYTES..),
        made: Made::Rebuilt(piece.reason),
    }))
}

fn codec_of(entry: &Entry<'_>) -> Codec {
    match entry {
        Entry::Batch(batch) => batch.codec(),
        Entry::Message(message) => message.codec(),
    }
}
