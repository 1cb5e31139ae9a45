//! Spilled ranges: the oldest rows of a long manifest, frozen in a file of their own.
//!
//! Owns: writing and reading such files, and a small cache of decoded ones. Does not own: when to spill, which the
//! committer decides; a file counts only once an edit names it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;

use super::partition::{SegmentRow, SpillFile};
use super::partition_bytes::{decode_rows, encode_rows};
use super::record::{Record, RecordError, RecordKind};
use super::register::ManifestError;
use super::sequence::retried;
use crate::keys;
use crate::limits::{MANIFEST_RECORD_LIMIT_BYTES, SPILL_CACHE_FILES};
use crate::object::LogIdentity;
use crate::seams::{AttemptId, Seams};
use crate::store::{Settled, Store, StoreError, create_settled};

/// Decoded files, the most recently used last.
#[derive(Debug, Default)]
pub(crate) struct SpillCache(Mutex<VecDeque<(AttemptId, Arc<Vec<SegmentRow>>)>>);

impl SpillCache {
    fn get(&self, attempt: AttemptId) -> Option<Arc<Vec<SegmentRow>>> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = files.iter().position(|(known, _)| *known == attempt)?;
        let file = files.remove(place)?;
        let rows = file.1.clone();
        files.push_back(file);
        Some(rows)
    }

    fn put(&self, attempt: AttemptId, rows: Arc<Vec<SegmentRow>>) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.push_back((attempt, rows));
        if files.len() > SPILL_CACHE_FILES {
            files.pop_front();
        }
    }
}

/// Writes the oldest rows to a file and describes it.
pub(crate) async fn write_spilled(
    store: &dyn Store,
    log: &LogIdentity,
    rows: &[SegmentRow],
    seams: &Seams,
) -> Result<SpillFile, ManifestError> {
    let (first, last) = (rows.first().expect("a spill has rows"), rows.last().expect("a spill has rows"));
    let attempt = seams.attempt();
    let record = Record {
        kind: RecordKind::Spilled,
        folder: keys::manifest_folder(log),
        sequence: 0,
        writer_epoch: 0,
        attempt,
        written_at_ms: seams.now_ms(),
        body: encode_rows(rows),
        slimmed_from: None,
    };
    let key = keys::spilled(log, first.base_offset, attempt);
    let bytes = record
        .encode()
        .map_err(|error| ManifestError::TooLarge { key: key.to_string(), detail: error.to_string() })?;
    match create_settled(store, &key, &vec![bytes], seams).await? {
        Settled::Ours => Ok(SpillFile {
            file_base: first.base_offset,
            base_offset: first.base_offset,
            end_offset: last.next_offset,
            rows: rows.len() as u32,
            skipped: 0,
            attempt,
            object_bytes: rows.iter().map(|row| row.object_bytes).sum(),
            raw_bytes: rows.iter().map(|row| row.raw_bytes).sum(),
            max_timestamp_ms: rows.iter().map(|row| row.max_timestamp_ms).max().unwrap_or(-1),
            aborted: rows.iter().map(|row| row.aborted).sum(),
        }),
        Settled::Theirs(_) => Err(ManifestError::Store(StoreError::Unavailable {
            key: key.to_string(),
            detail: "a random name was taken".into(),
        })),
    }
}

/// The live rows of a spilled range.
pub(crate) async fn load_spilled(
    store: &dyn Store,
    log: &LogIdentity,
    file: &SpillFile,
    (cache, seams): (&SpillCache, &Seams),
) -> Result<Arc<Vec<SegmentRow>>, ManifestError> {
    let all = match cache.get(file.attempt) {
        Some(rows) => rows,
        None => {
            let key = keys::spilled(log, file.file_base, file.attempt);
            let bytes = retried(seams, || store.get(&key, MANIFEST_RECORD_LIMIT_BYTES).boxed()).await?;
            let damaged = |source: RecordError| ManifestError::Damaged { detail: format!("{key}: {source}") };
            let record = Record::decode(bytes, &keys::manifest_folder(log)).map_err(damaged)?;
            if record.kind != RecordKind::Spilled || record.attempt != file.attempt {
                return Err(damaged(RecordError::Swapped(format!("attempt {}", record.attempt))));
            }
            let rows =
                decode_rows(record.body).map_err(|malformed| damaged(RecordError::Body(malformed.0)))?;
            let rows = Arc::new(rows);
            cache.put(file.attempt, rows.clone());
            rows
        }
    };
    let live = all.get(file.skipped as usize..).unwrap_or_default();
    let matches = live.len() == file.rows as usize
        && live.first().is_some_and(|row| row.base_offset == file.base_offset)
        && live.last().is_some_and(|row| row.next_offset == file.end_offset);
    if !matches {
        let detail =
            format!("spilled range {} does not hold the rows that the manifest expects", file.file_base.0);
        return Err(ManifestError::Damaged { detail });
    }
    if file.skipped == 0 { Ok(all) } else { Ok(Arc::new(live.to_vec())) }
}
