//! Reading tiered data: sequential replay at the store's rate, and search by time.
//!
//! Owns: readers with their read-ahead, the byte budget, the caches of footers and spilled rows.
//! Does not own: the manifest, the broker's fetch. Every byte handed out passed its block's checksum and comes from the
//! object that the manifest names; damaged bytes are read once more, then reported, never served.

mod budget;
mod footers;
mod plan;
mod reader;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hotlog::PartitionId;
use tokio::runtime::Handle;
use tokio::time::Instant;
use wire::batch::{BatchView, Records, TimestampType};
use wire::ids::Offset;

use self::budget::ByteBudget;
use self::footers::FooterCache;
use self::reader::{Block, Object, Reader};
use crate::archiver::ManifestView;
use crate::limits::{BLOCK_LIMIT_BYTES, PARKED_FOR, PARKED_READERS};
use crate::manifest::{ManifestError, PartitionManifest, SegmentRow, SpillCache, load_spilled};
use crate::object::LogIdentity;
use crate::seams::{AttemptId, Seams};
use crate::store::Store;
use crate::tier::{AbortedTransaction, ColdRead, ReadError, TimestampOffset};

pub(crate) use self::footers::aborted_of;

/// What can be read: one partition's log by its manifest.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) partition: PartitionId,
    pub(crate) log: LogIdentity,
    pub(crate) view: Arc<ManifestView>,
    /// Objects found damaged, for the committer to note.
    damaged: Mutex<Vec<AttemptId>>,
}

/// Damaged objects remembered until they are noted; more are found again by the next reader.
const DAMAGED_WAITING: usize = 1024;

impl Source {
    pub(crate) fn new(partition: PartitionId, log: LogIdentity, view: Arc<ManifestView>) -> Self {
        Source { partition, log, view, damaged: Mutex::new(Vec::new()) }
    }

    /// Remembers an object that was found damaged.
    pub(crate) fn note_damaged(&self, attempt: AttemptId) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < DAMAGED_WAITING && !damaged.contains(&attempt) {
            damaged.push(attempt);
        }
    }

    /// Damaged objects found since the last call.
    pub(crate) fn take_damaged(&self) -> Vec<AttemptId> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn manifest(&self) -> Result<Arc<PartitionManifest>, ReadError> {
        self.view.get().ok_or_else(|| ReadError::NotReady {
            topic_id: self.partition.topic_id,
            partition: self.partition.partition,
            detail: "its manifest is not loaded yet".into(),
        })
    }
}

/// All reading of one process.
#[derive(Debug)]
pub(crate) struct Replay {
    store: Arc<dyn Store>,
    seams: Seams,
    runtime: Handle,
    budget: ByteBudget,
    footers: FooterCache,
    pub(crate) spills: SpillCache,
    parked: Mutex<VecDeque<Reader>>,
}

impl Replay {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        seams: Seams,
        runtime: Handle,
        budget_bytes: usize,
    ) -> Arc<Self> {
        Arc::new(Replay {
            store,
            seams,
            runtime,
            budget: ByteBudget::new(budget_bytes as u64),
            footers: FooterCache::default(),
            spills: SpillCache::default(),
            parked: Mutex::new(VecDeque::new()),
        })
    }

    /// Reads whole batches from `from` on: waits for the first ones, then takes what is here, up to `max_bytes`.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        source: &Arc<Source>,
        from: Offset,
        max_bytes: usize,
    ) -> Result<ColdRead, ReadError> {
        let manifest = source.manifest()?;
        let (start, end) = (manifest.start_offset, manifest.end_offset());
        if from < start || from > end {
            return Err(ReadError::OutOfRange { offset: from.0, start: start.0, end: end.0 });
        }
        let reader =
            self.take_parked(source.partition, from).unwrap_or_else(|| Reader::start(self, source, from));
        // A caller that goes away leaves the reader, and what it read ahead, to the next one.
        let mut lease = Lease { replay: self, reader: Some(reader) };
        let mut read = ColdRead { batches: Vec::new(), next_offset: from, aborted: Vec::new() };
        let mut left = max_bytes;
        loop {
            let reader = lease.reader.as_mut().expect("the lease holds its reader until it ends");
            let block = if read.batches.is_empty() { reader.next().await } else { reader.try_next() };
            match block {
                None if read.batches.is_empty() => {
                    // The reader ended where the store ended when it was started; the store may have grown since.
                    lease.reader = None;
                    let manifest = source.manifest()?;
                    if manifest.has_records_from(from) {
                        lease.reader = Some(Reader::start(self, source, from));
                        continue;
                    }
                    // Nothing but declared holes from here to the end.
                    read.next_offset = manifest.end_offset().max(from);
                    return Ok(read);
                }
                None => break,
                Some(Err(error)) if read.batches.is_empty() => {
                    lease.reader = None;
                    return Err(error);
                }
                // What came before the fault is good; the next read meets the fault by itself.
                Some(Err(_)) => {
                    lease.reader = None;
                    break;
                }
                Some(Ok(block)) => {
                    let (bytes, rest) = cut_block(block, left, read.batches.is_empty());
                    let Some((bytes, next)) = bytes else {
                        reader.rest = rest;
                        break;
                    };
                    left = left.saturating_sub(bytes.len());
                    read.batches.push(bytes);
                    read.next_offset = next;
                    reader.next_offset = next;
                    let full = rest.is_some();
                    reader.rest = rest;
                    if full || left == 0 {
                        break;
                    }
                }
            }
        }
        read.aborted = self.aborted(source, &manifest, (from, read.next_offset)).await?;
        Ok(read)
    }

    fn take_parked(&self, partition: PartitionId, from: Offset) -> Option<Reader> {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |reader: &Reader| reader.partition == partition && reader.next_offset == from;
        let place = parked.iter().position(fits)?;
        parked.remove(place)
    }

    fn park(&self, mut reader: Reader) {
        reader.parked_at = Some(Instant::now());
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.push_back(reader);
        if parked.len() > PARKED_READERS {
            parked.pop_front();
        }
    }

    /// Gives the bytes of the reader that idled longest back to those who wait.
    fn release_one_parked(&self) {
        let dropped = self.parked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        drop(dropped);
    }

    /// Drops readers that nobody came back for.
    pub(crate) fn release_idle(&self) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.retain(|reader| reader.parked_at.is_none_or(|since| crate::timers::since(since) < PARKED_FOR));
    }

    /// The live segment that holds `offset`, or the next one behind a hole; `None` at the end.
    async fn segment_at(&self, source: &Source, offset: Offset) -> Result<Option<SegmentRow>, ReadError> {
        let manifest = source.manifest()?;
        let (start, end) = (manifest.start_offset, manifest.end_offset());
        if offset < start {
            return Err(ReadError::OutOfRange { offset: offset.0, start: start.0, end: end.0 });
        }
        if let Some(file) = manifest.spilled.iter().find(|file| file.end_offset > offset) {
            let rows = self.spilled_rows(source, file).await?;
            let row = rows.iter().find(|row| row.next_offset > offset);
            return Ok(row.copied());
        }
        let index = manifest.segments.partition_point(|row| row.next_offset <= offset);
        Ok(manifest.segments.get(index).copied())
    }

    async fn spilled_rows(
        &self,
        source: &Source,
        file: &crate::manifest::SpillFile,
    ) -> Result<Arc<Vec<SegmentRow>>, ReadError> {
        let rows = load_spilled(&*self.store, &source.log, file, (&self.spills, &self.seams)).await;
        rows.map_err(|error| match error {
            ManifestError::Store(error) if !error.is_not_found() => reader::unavailable(&error),
            error => ReadError::Damaged {
                key: crate::keys::spilled(&source.log, file.file_base, file.attempt).to_string(),
                start: file.base_offset.0,
                end: file.end_offset.0,
                detail: error.to_string(),
            },
        })
    }

    /// Aborted transactions that a reader of `[from, end)` must be told. Their markers may lie in later segments;
    /// those that list none cost nothing.
    async fn aborted(
        self: &Arc<Self>,
        source: &Arc<Source>,
        manifest: &PartitionManifest,
        (from, end): (Offset, Offset),
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let mut found = Vec::new();
        let mut rows: Vec<SegmentRow> = Vec::new();
        for file in manifest.spilled.iter().filter(|file| file.aborted > 0 && file.end_offset > from) {
            rows.extend(self.spilled_rows(source, file).await?.iter());
        }
        rows.extend(manifest.segments.iter());
        for row in rows.into_iter().filter(|row| row.aborted > 0 && row.next_offset > from) {
            let object = Object { replay: self.clone(), source: source.clone(), row, from };
            if object.footer().await?.aborted.collect(from, end, &mut found) {
                break;
            }
        }
        let plain = |entry: hotlog::aborted::AbortedTransaction| AbortedTransaction {
            producer_id: entry.producer_id,
            first_offset: entry.first_offset,
        };
        Ok(found.into_iter().map(plain).collect())
    }

    /// The first record at or after a time.
    pub(crate) async fn offset_for_time(
        self: &Arc<Self>,
        source: &Arc<Source>,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let manifest = source.manifest()?;
        for file in manifest.spilled.iter().filter(|file| file.max_timestamp_ms >= timestamp_ms) {
            for row in self.spilled_rows(source, file).await?.iter() {
                if let Some(found) =
                    self.time_in_segment(source, row, (manifest.start_offset, timestamp_ms)).await?
                {
                    return Ok(Some(found));
                }
            }
        }
        for row in &manifest.segments {
            if let Some(found) =
                self.time_in_segment(source, row, (manifest.start_offset, timestamp_ms)).await?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn time_in_segment(
        self: &Arc<Self>,
        source: &Arc<Source>,
        row: &SegmentRow,
        (start, timestamp_ms): (Offset, i64),
    ) -> Result<Option<TimestampOffset>, ReadError> {
        if row.max_timestamp_ms < timestamp_ms || row.next_offset <= start {
            return Ok(None);
        }
        let object = Object { replay: self.clone(), source: source.clone(), row: *row, from: start };
        let footer = object.footer().await?;
        for (index, block) in footer.blocks.iter().enumerate() {
            if block.max_timestamp_ms < timestamp_ms {
                continue;
            }
            let range = block.stored_position..block.stored_position + u64::from(block.stored_bytes);
            let mut taken = self.budget.take(u64::from(block.raw_bytes), || self.release_one_parked()).await;
            let stored = object.read(range).await?;
            let opened = object.block(&footer.blocks, index, stored, &mut taken).await?;
            if let Some(found) = time_in_batches(&opened.bytes, start, timestamp_ms) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Keeps a reader for the next fetch unless the fetch ended it.
struct Lease<'a> {
    replay: &'a Arc<Replay>,
    reader: Option<Reader>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.replay.park(reader);
        }
    }
}

/// Cuts what fits off a block: its bytes with the offset after them, and the rest.
fn cut_block(
    mut block: Block,
    max_bytes: usize,
    at_least_one: bool,
) -> (Option<(Bytes, Offset)>, Option<Block>) {
    let fitting = block.ends.partition_point(|(end, _)| *end <= max_bytes);
    let count = if fitting == 0 && at_least_one { 1 } else { fitting };
    let Some((end, next)) = count.checked_sub(1).and_then(|last| block.ends.get(last)).copied() else {
        return (None, Some(block));
    };
    if count == block.ends.len() {
        return (Some((block.bytes, next)), None);
    }
    let bytes = block.bytes.split_to(end);
    block.ends.drain(..count);
    block.ends.iter_mut().for_each(|(after, _)| *after -= end);
    (Some((bytes, next)), Some(block))
}

/// The first record of some batches that is at or above `start` and not older than a time.
fn time_in_batches(bytes: &Bytes, start: Offset, timestamp_ms: i64) -> Option<TimestampOffset> {
    let mut position = 0;
    while let Ok(batch) = BatchView::first(&bytes[position..]) {
        let header = batch.header();
        position += header.size_bytes;
        if header.max_timestamp_ms < timestamp_ms
            || header.next_offset() <= start
            || header.attributes.is_control()
        {
            continue;
        }
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            let offset = header.base_offset.max(start);
            return Some(TimestampOffset { offset, timestamp_ms: header.max_timestamp_ms });
        }
        let mut records = Records::new(&batch, BLOCK_LIMIT_BYTES);
        while let Ok(Some(record)) = records.next_record() {
            if record.timestamp_ms >= timestamp_ms && record.offset >= start {
                return Some(TimestampOffset { offset: record.offset, timestamp_ms: record.timestamp_ms });
            }
        }
    }
    None
}
