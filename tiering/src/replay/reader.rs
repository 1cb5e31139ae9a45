//! One sequential reader: a task that runs ahead, and the end that a consumer takes blocks from, in order.
//!
//! Owns: the order of ranges, retries, the one re-read of damaged bytes. Does not own: who reads what when.
//!
//! The planner takes bytes from the budget range by range, in the order in which they will be consumed, and never waits
//! for a later range while an earlier one waits for the budget: so readers cannot starve themselves.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use hotlog::PartitionId;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use wire::ids::Offset;

use super::budget::Taken;
use super::footers::{OpenFooter, open_tail};
use super::plan::{Ramp, blocks_inside, cut_range, guess_range};
use super::{Replay, Source};
use crate::keys;
use crate::limits::{RANGE_FIRST_BYTES, RANGES_IN_FLIGHT, READ_STALL};
use crate::manifest::SegmentRow;
use crate::object::{BlockRow, ObjectError, TRAILER_BYTES, check_batches, open_block};
use crate::seams::Backoff;
use crate::store::{StoreError, StoreKey, read_range};
use crate::tier::ReadError;

/// Objects up to this size are read by one request.
const WHOLE_OBJECT_BYTES: u64 = 2 * RANGE_FIRST_BYTES;
/// Blocks of one range that wait for their consumer; their bytes are bounded by the budget.
const BLOCKS_WAITING: usize = 8;

/// Whole batches of one block, checked.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    /// Per batch: where it ends in `bytes`, and the offset after it.
    pub(super) ends: Vec<(usize, Offset)>,
    /// Given back when the block was handed out.
    _taken: Taken,
}

type Blocks = mpsc::Receiver<Result<Block, ReadError>>;

/// The consumer's end.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) partition: PartitionId,
    pub(super) next_offset: Offset,
    pub(super) parked_at: Option<tokio::time::Instant>,
    ranges: mpsc::Receiver<Blocks>,
    current: Option<Blocks>,
    /// A block of which only the front was handed out.
    pub(super) rest: Option<Block>,
    planner: AbortHandle,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.planner.abort();
    }
}

impl Reader {
    /// Starts reading at `from`.
    pub(super) fn start(replay: &Arc<Replay>, source: &Arc<Source>, from: Offset) -> Reader {
        let (ranges_in, ranges) = mpsc::channel(RANGES_IN_FLIGHT);
        let planner =
            Planner { replay: replay.clone(), source: source.clone(), ramp: Ramp::new(), ranges: ranges_in };
        let planner = replay.runtime.spawn(planner.run(from)).abort_handle();
        Reader {
            partition: source.partition,
            next_offset: from,
            parked_at: None,
            ranges,
            current: None,
            rest: None,
            planner,
        }
    }

    /// The next block; `None` at the end of what the store holds. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Result<Block, ReadError>> {
        if let Some(rest) = self.rest.take() {
            return Some(Ok(rest));
        }
        loop {
            if let Some(current) = &mut self.current {
                if let Some(block) = current.recv().await {
                    return Some(block);
                }
                self.current = None;
            }
            self.current = Some(self.ranges.recv().await?);
        }
    }

    /// The next block if it is here already.
    pub(super) fn try_next(&mut self) -> Option<Result<Block, ReadError>> {
        if let Some(rest) = self.rest.take() {
            return Some(Ok(rest));
        }
        loop {
            if let Some(current) = &mut self.current {
                match current.try_recv() {
                    Ok(block) => return Some(block),
                    Err(mpsc::error::TryRecvError::Empty) => return None,
                    Err(mpsc::error::TryRecvError::Disconnected) => self.current = None,
                }
            }
            self.current = Some(self.ranges.try_recv().ok()?);
        }
    }
}

struct Planner {
    replay: Arc<Replay>,
    source: Arc<Source>,
    ramp: Ramp,
    ranges: mpsc::Sender<Blocks>,
}

impl Planner {
    async fn run(mut self, mut next: Offset) {
        // Aborting the planner drops the set, and with it every range under way.
        let mut fetches = JoinSet::new();
        loop {
            let result = match self.replay.segment_at(&self.source, next).await {
                // The ranges under way are waited for below.
                Ok(None) => break,
                Ok(Some(row)) => {
                    let from = std::mem::replace(&mut next, row.next_offset);
                    self.segment(&mut fetches, row, from).await
                }
                Err(error) => Err(error),
            };
            while fetches.try_join_next().is_some() {}
            if let Err(error) = result {
                if let Some(blocks) = self.queue().await {
                    let _ = blocks.send(Err(error)).await;
                }
                break;
            }
        }
        while fetches.join_next().await.is_some() {}
    }

    /// The channel of the next range, queued in order; `None` when nobody reads any more.
    async fn queue(&self) -> Option<mpsc::Sender<Result<Block, ReadError>>> {
        let (blocks_in, blocks) = mpsc::channel(BLOCKS_WAITING);
        self.ranges.send(blocks).await.ok().map(|()| blocks_in)
    }

    async fn take(&self, bytes: u64) -> Taken {
        let replay = self.replay.clone();
        self.replay.budget.take(bytes, move || replay.release_one_parked()).await
    }

    async fn segment(
        &mut self,
        fetches: &mut JoinSet<()>,
        row: SegmentRow,
        from: Offset,
    ) -> Result<(), ReadError> {
        let object = Object { replay: self.replay.clone(), source: self.source.clone(), row, from };
        if row.object_bytes <= WHOLE_OBJECT_BYTES {
            self.ramp.step();
            let taken = self.take(row.raw_bytes).await;
            if let Some(blocks) = self.queue().await {
                fetches.spawn(object.send_whole(taken, blocks));
            }
            return Ok(());
        }
        let (footer, mut first) = match self.replay.footers.get(row.attempt) {
            Some(footer) => {
                let first = first_block(&footer.blocks, from);
                (footer, first)
            }
            None => self.open_with_guess(fetches, &object).await?,
        };
        while first < footer.blocks.len() {
            let range = cut_range(&footer.blocks, first, self.ramp.step());
            first = range.end;
            let raw_bytes = footer.blocks[range.clone()].iter().map(|block| u64::from(block.raw_bytes)).sum();
            let taken = self.take(raw_bytes).await;
            let Some(blocks) = self.queue().await else { return Ok(()) };
            fetches.spawn(object.clone().send_range(footer.clone(), range, (taken, blocks)));
        }
        Ok(())
    }

    /// Asks for the footer and, at the same time, for the bytes where the offset probably lies. Returns the first block
    /// that is still to be asked for.
    async fn open_with_guess(
        &mut self,
        fetches: &mut JoinSet<()>,
        object: &Object,
    ) -> Result<(Arc<OpenFooter>, usize), ReadError> {
        let range = guess_range(&object.row, object.from, self.ramp.step());
        let mut taken = self.take(2 * (range.end - range.start)).await;
        let key = object.key();
        let guess = read_range(&*self.replay.store, &key, range.clone());
        let (footer, guessed) = futures::join!(object.footer(), crate::timers::timeout(READ_STALL, guess));
        let footer = footer?;
        let first = first_block(&footer.blocks, object.from);
        let inside = blocks_inside(&footer.blocks, first, &range);
        // A guess that failed or missed costs nothing but itself.
        let Ok(Ok(bytes)) = guessed else { return Ok((footer, first)) };
        if inside.is_empty() || bytes.len() as u64 != range.end - range.start {
            return Ok((footer, first));
        }
        let Some(blocks) = self.queue().await else { return Ok((footer, first)) };
        let (object, opened, end) = (object.clone(), footer.clone(), inside.end);
        fetches.spawn(async move {
            for index in inside {
                let row = opened.blocks[index];
                let start = (row.stored_position - range.start) as usize;
                let stored = bytes.slice(start..start + row.stored_bytes as usize);
                let block = object.block(&opened.blocks, index, stored, &mut taken).await;
                let failed = block.is_err();
                if blocks.send(block).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok((footer, end))
    }
}

/// The block where reading starts.
fn first_block(blocks: &[BlockRow], from: Offset) -> usize {
    blocks.partition_point(|row| row.base_offset <= from).saturating_sub(1)
}

/// One object being read from one offset on.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) replay: Arc<Replay>,
    pub(super) source: Arc<Source>,
    pub(super) row: SegmentRow,
    pub(super) from: Offset,
}

impl Object {
    pub(super) fn key(&self) -> StoreKey {
        keys::segment(&self.source.log, self.row.base_offset, self.row.leader_epoch, self.row.attempt)
    }

    /// The footer, from the cache or the store; damaged bytes are read once more.
    pub(super) async fn footer(&self) -> Result<Arc<OpenFooter>, ReadError> {
        if let Some(footer) = self.replay.footers.get(self.row.attempt) {
            return Ok(footer);
        }
        let start =
            self.row.object_bytes.saturating_sub(u64::from(self.row.footer_bytes) + TRAILER_BYTES as u64);
        let mut first_try = true;
        loop {
            let tail = self.read(start..self.row.object_bytes).await?;
            match open_tail(&self.source.log, &self.row, &tail) {
                Ok(footer) => {
                    let footer = Arc::new(footer);
                    self.replay.footers.put(self.row.attempt, footer.clone());
                    return Ok(footer);
                }
                Err(_) if std::mem::replace(&mut first_try, false) => {}
                Err(error) => return Err(self.damaged(&error)),
            }
        }
    }

    /// Reads a range into memory, with retries.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        let key = self.key();
        let mut backoff = Backoff::for_operation(&self.replay.seams);
        loop {
            let wanted = (range.end - range.start) as usize;
            let read =
                crate::timers::timeout(READ_STALL, read_range(&*self.replay.store, &key, range.clone()))
                    .await;
            let error = match read {
                Ok(Ok(bytes)) if bytes.len() == wanted => return Ok(bytes),
                Ok(Ok(_)) => "the store sent fewer bytes than were asked for".to_owned(),
                Ok(Err(error)) if error.is_not_found() => return Err(self.missing()),
                Ok(Err(error)) if !error.is_retriable() => return Err(unavailable(&error)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", READ_STALL.as_secs()),
            };
            if !backoff.pause().await {
                return Err(self.cut_short_or(error).await);
            }
        }
    }

    /// Why reads of an object keep failing: it is not as long as it was, or the store does not answer.
    async fn cut_short_or(&self, error: String) -> ReadError {
        let key = self.key();
        match crate::timers::timeout(READ_STALL, self.replay.store.head(&key)).await {
            Ok(Ok(size)) if size != self.row.object_bytes => {
                self.source.note_damaged(self.row.attempt);
                self.error(format!("the object has {size} bytes instead of {}", self.row.object_bytes))
            }
            _ => ReadError::Unavailable { detail: format!("{key}: {error}") },
        }
    }

    async fn send_whole(self, mut taken: Taken, out: mpsc::Sender<Result<Block, ReadError>>) {
        if let Err(error) = self.whole(&mut taken, &out).await {
            let _ = out.send(Err(error)).await;
        }
    }

    async fn whole(
        &self,
        taken: &mut Taken,
        out: &mpsc::Sender<Result<Block, ReadError>>,
    ) -> Result<(), ReadError> {
        let tail_bytes = u64::from(self.row.footer_bytes) + TRAILER_BYTES as u64;
        let bytes = self.read(0..self.row.object_bytes).await?;
        let tail = bytes.slice((self.row.object_bytes.saturating_sub(tail_bytes)) as usize..);
        // Damaged here, the footer is read once more by the ordinary way.
        let footer = match open_tail(&self.source.log, &self.row, &tail) {
            Ok(footer) => Arc::new(footer),
            Err(_) => self.footer().await?,
        };
        for index in first_block(&footer.blocks, self.from)..footer.blocks.len() {
            let row = footer.blocks[index];
            let (start, length) = (row.stored_position as usize, row.stored_bytes as usize);
            let block = self.block(&footer.blocks, index, bytes.slice(start..start + length), taken).await?;
            if out.send(Ok(block)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send_range(
        self,
        footer: Arc<OpenFooter>,
        range: Range<usize>,
        (mut taken, out): (Taken, mpsc::Sender<Result<Block, ReadError>>),
    ) {
        let mut backoff = Backoff::for_operation(&self.replay.seams);
        let mut next = range.start;
        while next < range.end {
            let rest = next..range.end;
            match self.stream(&footer.blocks, rest, (&mut taken, &out)).await {
                Ok(reached) if reached == range.end => return,
                Ok(reached) => next = reached,
                Err(error) => {
                    let _ = out.send(Err(error)).await;
                    return;
                }
            }
            // The body broke off: go on behind the last whole block.
            if !backoff.pause().await {
                let error = self.cut_short_or("the store breaks off again and again".into()).await;
                let _ = out.send(Err(error)).await;
                return;
            }
        }
    }

    /// Streams blocks out as their bytes arrive. Returns the first block that did not arrive whole, or the range's end.
    async fn stream(
        &self,
        blocks: &[BlockRow],
        range: Range<usize>,
        (taken, out): (&mut Taken, &mpsc::Sender<Result<Block, ReadError>>),
    ) -> Result<usize, ReadError> {
        let (first, last) = (blocks[range.start], blocks[range.end - 1]);
        let bytes = first.stored_position..last.stored_position + u64::from(last.stored_bytes);
        let opened =
            crate::timers::timeout(READ_STALL, self.replay.store.get_range(&self.key(), bytes)).await;
        let mut body = match opened {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if error.is_not_found() => return Err(self.missing()),
            Ok(Err(error)) if !error.is_retriable() => return Err(unavailable(&error)),
            Ok(Err(_)) | Err(_) => return Ok(range.start),
        };
        let mut carry = Bytes::new();
        for index in range.clone() {
            let wanted = blocks[index].stored_bytes as usize;
            let Some(stored) = fill(&mut body, &mut carry, wanted).await else { return Ok(index) };
            let block = self.block(blocks, index, stored, taken).await?;
            if out.send(Ok(block)).await.is_err() {
                // Nobody reads any more.
                return Ok(range.end);
            }
        }
        Ok(range.end)
    }

    /// Checks and unpacks one block; damaged bytes are read once more, then the object is reported.
    pub(super) async fn block(
        &self,
        blocks: &[BlockRow],
        index: usize,
        stored: Bytes,
        taken: &mut Taken,
    ) -> Result<Block, ReadError> {
        let row = blocks[index];
        let end = blocks.get(index + 1).map_or(self.row.next_offset, |next| next.base_offset);
        let opened = match open_checked(&row, stored, end) {
            Ok(opened) => opened,
            Err(_) => {
                let again = row.stored_position..row.stored_position + u64::from(row.stored_bytes);
                let stored = self.read(again).await?;
                open_checked(&row, stored, end).map_err(|error| self.damaged(&error))?
            }
        };
        let (bytes, mut ends) = opened;
        // Batches wholly below the offset asked for stay out of the answer.
        let skip = ends.partition_point(|(_, next)| *next <= self.from);
        let cut = skip.checked_sub(1).map_or(0, |last| ends[last].0);
        ends.drain(..skip);
        ends.iter_mut().for_each(|(end, _)| *end -= cut);
        Ok(Block { bytes: bytes.slice(cut..), ends, _taken: taken.split(u64::from(row.raw_bytes)) })
    }

    fn damaged(&self, error: &ObjectError) -> ReadError {
        self.source.note_damaged(self.row.attempt);
        self.error(error.to_string())
    }

    fn missing(&self) -> ReadError {
        let manifest = self.source.view.get();
        let start = manifest.map_or(Offset(0), |manifest| manifest.start_offset);
        if self.row.next_offset <= start {
            // Deleted by retention while we read: the reader is late, nothing is wrong.
            return ReadError::OutOfRange { offset: self.from.0, start: start.0, end: start.0 };
        }
        self.source.note_damaged(self.row.attempt);
        self.error("the object is missing".into())
    }

    fn error(&self, detail: String) -> ReadError {
        let (start, end) = (self.row.base_offset.0, self.row.next_offset.0);
        tracing::error!(key = %self.key(), start, end, %detail, "tiered segment is damaged");
        ReadError::Damaged { key: self.key().to_string(), start, end, detail }
    }
}

type Opened = (Bytes, Vec<(usize, Offset)>);

fn open_checked(row: &BlockRow, stored: Bytes, end: Offset) -> Result<Opened, ObjectError> {
    let raw = open_block(row, stored)?;
    let mut position = 0;
    let ends = check_batches(row, &raw, end, false)?
        .into_iter()
        .map(|header| {
            position += header.size_bytes;
            (position, header.next_offset())
        })
        .collect();
    Ok((raw, ends))
}

/// What a reader is told of a store's error; it is not the object's fault.
pub(super) fn unavailable(error: &StoreError) -> ReadError {
    let detail = error.to_string();
    if error.is_denied() { ReadError::Denied { detail } } else { ReadError::Unavailable { detail } }
}

/// Takes exactly `wanted` bytes off a body; `None` when it ends, fails or stalls before.
async fn fill(body: &mut crate::store::ByteStream, carry: &mut Bytes, wanted: usize) -> Option<Bytes> {
    if carry.len() >= wanted {
        return Some(carry.split_to(wanted));
    }
    let mut whole = BytesMut::with_capacity(wanted);
    whole.extend_from_slice(carry);
    loop {
        let mut piece = crate::timers::timeout(READ_STALL, body.next()).await.ok()??.ok()?;
        let missing = wanted - whole.len();
        if piece.len() >= missing {
            if whole.is_empty() {
                *carry = piece.split_off(missing);
                return Some(piece);
            }
            whole.extend_from_slice(&piece.split_to(missing));
            *carry = piece;
            return Some(whole.freeze());
        }
        whole.extend_from_slice(&piece);
    }
}
