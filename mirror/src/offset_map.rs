//! Where a record lives on the other side, for one partition of one flow.
//!
//! Owns: the acknowledged runs, the position that advances over holes, and the only rule that turns a
//! `SourceOffset` into a `TargetOffset` or back.
//! Does not own: fetching, producing, group state, where the blocks are kept (`map_topic` writes them).
//!
//! Invariants:
//!   A. Runs rise and never overlap, in both columns.
//!   B. Every run was acknowledged by the target, or read back from it.
//!   C. Translation never overshoots: a consumer that goes on at the answer may read again, never skip.
//!   D. The position is never below the end of the last run, in either column.
//!   E. The map is bounded: beyond `MAX_MAP_BYTES` the oldest block goes, and what it held is `Before`. Whoever made it
//!      go is told which, so that the map topic forgets it too.

mod block;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;

#[cfg(test)]
pub(crate) use block::write_varint;
pub use block::{Block, BlockFormatError, RUNS_PER_BLOCK};

/// Blocks that one partition's map may hold, but for the last one; about sixteen million runs of a thinned topic.
pub const MAX_MAP_BYTES: usize = 64 * 1024 * 1024;

/// An offset in a partition of the source cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceOffset(pub i64);

/// An offset in a partition of the target cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetOffset(pub i64);

macro_rules! offset_arithmetic {
    ($offset:ident) => {
        impl $offset {
            /// The offset `records` further on.
            #[must_use]
            pub fn plus(self, records: u64) -> Self {
                Self(self.0.saturating_add_unsigned(records))
            }

            /// How far `earlier` lies below this offset; zero when it does not.
            #[must_use]
            pub fn since(self, earlier: Self) -> u64 {
                u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
            }
        }

        impl fmt::Display for $offset {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
offset_arithmetic!(SourceOffset);
offset_arithmetic!(TargetOffset);

/// Consecutive source records that became consecutive target records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset of the first record at the source.
    pub source: SourceOffset,
    /// Offset of the same record at the target.
    pub target: TargetOffset,
    /// Records in the run, at least one.
    pub length: u64,
}

impl Run {
    /// The first source offset after the run.
    #[must_use]
    pub fn source_end(&self) -> SourceOffset {
        self.source.plus(self.length)
    }

    /// The first target offset after the run.
    #[must_use]
    pub fn target_end(&self) -> TargetOffset {
        self.target.plus(self.length)
    }
}

/// A pair of offsets that mean the same place in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Every committed source record below this was copied, or was found to be no record at all.
    pub source: SourceOffset,
    /// The target offset after the last copied record.
    pub target: TargetOffset,
}

/// The leader epochs and the owner under which runs were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Leader epoch of the source batches.
    pub source_leader_epoch: i32,
    /// Leader epoch of the target partition when it acknowledged.
    pub target_leader_epoch: i32,
    /// Generation of the owner that wrote the runs.
    pub generation: u64,
}

/// Where a consumer that would read a given offset next goes on, on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation<T> {
    /// The same place: nothing is read twice, nothing is skipped.
    Exact(T),
    /// The offset is beyond what was copied; `T` is where the copy stands.
    Ahead(T),
    /// The offset is below what the map holds; `T` is where the map begins.
    Before(T),
    /// The topic is copied both ways, and records that are the other side's own and were not read here lie before the
    /// place; `T` is the first of them, and nothing is skipped from there on. Only [`crate::both_ways`] answers this.
    Unread(T),
    /// The offset holds a record that another producer wrote to the target; `T` follows the last copied
    /// record before it. Only the way from target to source answers this.
    Foreign(T),
}

impl<T: Copy> Translation<T> {
    /// The offset of the answer, whatever its kind.
    #[must_use]
    pub fn offset(self) -> T {
        match self {
            Self::Exact(offset)
            | Self::Ahead(offset)
            | Self::Before(offset)
            | Self::Unread(offset)
            | Self::Foreign(offset) => offset,
        }
    }

    /// The kind, as `longhaul mirror translate` prints it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Exact(_) => "exact",
            Self::Ahead(_) => "ahead",
            Self::Before(_) | Self::Unread(_) => "before",
            Self::Foreign(_) => "foreign",
        }
    }
}

impl<T: Copy + fmt::Display> fmt::Display for Translation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.offset())
    }
}

/// A run that would break invariant A or D.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {run:?} does not lie at or after the position {position:?} in both columns")]
pub struct RunOutOfOrder {
    /// The refused run.
    pub run: Run,
    /// Where the map stood.
    pub position: Position,
}

/// The offset map of one partition.
///
/// Blocks stand in rising order. A block covers the source and target offsets from its own start to the
/// start of the next one; the last block covers up to the position.
#[derive(Clone, Debug)]
pub struct OffsetMap {
    blocks: VecDeque<Block>,
    position: Position,
    /// Of all blocks together.
    held_bytes: usize,
    max_bytes: usize,
    /// Whether blocks went from its beginning, for whatever reason.
    has_forgotten: bool,
}

impl OffsetMap {
    /// An empty map that begins at `start`: nothing below it was, or will be, copied.
    #[must_use]
    pub fn new(start: Position, provenance: Provenance) -> Self {
        let open = Block::new(start, provenance);
        let held_bytes = open.held_bytes();
        let blocks = VecDeque::from([open]);
        Self { blocks, position: start, held_bytes, max_bytes: MAX_MAP_BYTES, has_forgotten: false }
    }

    /// The same map under another bound.
    #[cfg(test)]
    pub(crate) fn limited_to(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self.shed();
        self
    }

    /// A map from the blocks that `map_topic` kept. Blocks of an older generation end where a newer one
    /// begins: an owner that was replaced may have written on. What is above the bound is left out. `None` without
    /// any block.
    #[must_use]
    pub fn from_blocks(mut kept: Vec<Block>, position: Position) -> Option<Self> {
        kept.sort_by_key(|block| (Reverse(block.provenance().generation), block.start().source));
        let mut blocks: Vec<Block> = Vec::with_capacity(kept.len());
        // Of the generations newer than the one at hand, and of all seen so far: the lowest start.
        let (mut newer, mut seen) = (position, position);
        let mut generation = None;
        for mut block in kept {
            if generation.replace(block.provenance().generation) != Some(block.provenance().generation) {
                newer = seen;
            }
            if block.start().source < newer.source || (blocks.is_empty() && block.start() == position) {
                block.cut_at(newer);
                if block.start().source < seen.source {
                    seen = block.start();
                }
                blocks.push(block);
            }
        }
        blocks.sort_by_key(|block| block.start().source);
        if blocks.is_empty() {
            return None;
        }
        let held_bytes = blocks.iter().map(Block::held_bytes).sum();
        let (blocks, max_bytes) = (blocks.into(), MAX_MAP_BYTES);
        let mut map = Self { blocks, position, held_bytes, max_bytes, has_forgotten: false };
        map.shed();
        Some(map)
    }

    /// Where the map begins: the oldest pair it can answer for.
    #[must_use]
    pub fn start(&self) -> Position {
        self.blocks.front().map_or(self.position, Block::start)
    }

    /// Where the copy stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The blocks, oldest first.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.blocks.iter()
    }

    /// The block that the next run may extend.
    #[must_use]
    pub fn open_block(&self) -> Option<&Block> {
        self.blocks.back()
    }

    /// Runs held.
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.blocks.iter().map(Block::run_count).sum()
    }

    /// Adds a run that the target has acknowledged, and moves the position to its end. A run that goes on
    /// where the last one ended, in both columns, joins it. Answers the oldest blocks, if any had to go for it.
    pub fn record(&mut self, run: Run, provenance: Provenance) -> Result<Vec<Block>, RunOutOfOrder> {
        let position = self.position;
        if run.length == 0 || run.source < position.source || run.target < position.target {
            return Err(RunOutOfOrder { run, position });
        }
        let open = self.blocks.back().filter(|open| open.accepts(run, provenance));
        if open.is_none() {
            self.open_block_at_last_run(provenance);
        }
        let block = self.blocks.back_mut().expect("a map holds at least one block");
        let before = block.held_bytes();
        block.push(run);
        self.held_bytes += block.held_bytes() - before;
        self.position = Position { source: run.source_end(), target: run.target_end() };
        Ok(self.shed())
    }

    /// Moves the position over source offsets that hold no record to copy.
    pub fn advance(&mut self, source: SourceOffset) {
        self.position.source = self.position.source.max(source);
    }

    /// Begins a new block for a new owner, so that a late write of the owner before cannot reach it.
    pub fn begin_generation(&mut self, provenance: Provenance) {
        match self.blocks.back() {
            Some(open) if open.run_count() == 0 && self.blocks.len() == 1 => {
                let start = open.start();
                self.blocks[0] = Block::new(start, provenance);
            }
            _ => self.open_block_at_last_run(provenance),
        }
    }

    /// Forgets blocks whose records all lie below the target's log start. Answers which blocks went.
    pub fn trim_below(&mut self, target_log_start: TargetOffset) -> Vec<Block> {
        let mut gone = Vec::new();
        while self.blocks.get(1).is_some_and(|next| next.start().target <= target_log_start) {
            gone.extend(self.pop_oldest());
        }
        gone
    }

    /// The target offset at which a consumer goes on that would read `next` from the source.
    #[must_use]
    pub fn translate(&self, next: SourceOffset) -> Translation<TargetOffset> {
        let start = self.start();
        if next < start.source {
            return Translation::Before(start.target);
        }
        if next > self.position.source {
            return Translation::Ahead(self.position.target);
        }
        let after = self.blocks.partition_point(|block| block.start().source <= next);
        let block = &self.blocks[after - 1];
        let mut aligned = block.start().target;
        for run in block.runs().take_while(|run| run.source <= next) {
            if next < run.source_end() {
                return Translation::Exact(run.target.plus(next.since(run.source)));
            }
            aligned = run.target_end();
        }
        Translation::Exact(aligned)
    }

    /// The source offset at which a consumer goes on that would read `next` from the target.
    #[must_use]
    pub fn translate_back(&self, next: TargetOffset) -> Translation<SourceOffset> {
        let start = self.start();
        if next < start.target {
            return Translation::Before(start.source);
        }
        if next >= self.position.target {
            let position = self.position;
            return match next == position.target {
                true => Translation::Exact(position.source),
                false => Translation::Ahead(position.source),
            };
        }
        let after = self.blocks.partition_point(|block| block.start().target <= next);
        let block = &self.blocks[after - 1];
        let mut aligned = block.start().source;
        for run in block.runs().take_while(|run| run.target <= next) {
            if next < run.target_end() {
                return Translation::Exact(run.source.plus(next.since(run.target)));
            }
            aligned = run.source_end();
        }
        Translation::Foreign(aligned)
    }

    /// The first run that ends beyond a target offset.
    pub(crate) fn run_from_target(&self, offset: TargetOffset) -> Option<Run> {
        let after = self.blocks.partition_point(|block| block.start().target <= offset);
        let mut runs = self.blocks.range(after.saturating_sub(1)..).flat_map(Block::runs);
        runs.find(|run| run.target_end() > offset)
    }

    /// The first run that ends beyond a source offset.
    pub(crate) fn run_from_source(&self, offset: SourceOffset) -> Option<Run> {
        let after = self.blocks.partition_point(|block| block.start().source <= offset);
        let mut runs = self.blocks.range(after.saturating_sub(1)..).flat_map(Block::runs);
        runs.find(|run| run.source_end() > offset)
    }

    /// Where the copies end that lie at the target one after the other from `at` on and come from below `source`.
    pub(crate) fn copies_end(&self, mut at: TargetOffset, source: SourceOffset) -> TargetOffset {
        let after = self.blocks.partition_point(|block| block.start().target <= at);
        for run in self.blocks.range(after.saturating_sub(1)..).flat_map(Block::runs) {
            let copied = run.target.plus(source.since(run.source).min(run.length));
            if run.target > at || (copied <= at && run.target_end() > at) {
                break;
            }
            at = at.max(copied);
        }
        at
    }

    /// Where the originals end that lie at the source one after the other from `at` on and were copied to below `target`.
    pub(crate) fn originals_end(&self, mut at: SourceOffset, target: TargetOffset) -> SourceOffset {
        let after = self.blocks.partition_point(|block| block.start().source <= at);
        for run in self.blocks.range(after.saturating_sub(1)..).flat_map(Block::runs) {
            let copied = run.source.plus(target.since(run.target).min(run.length));
            if run.source > at || (copied <= at && run.source_end() > at) {
                break;
            }
            at = at.max(copied);
        }
        at
    }

    /// The last run that begins below a source offset.
    pub(crate) fn run_below_source(&self, offset: SourceOffset) -> Option<Run> {
        let after = self.blocks.partition_point(|block| block.start().source < offset);
        let last = |block: &Block| block.runs().take_while(|run| run.source < offset).last();
        self.blocks.range(..after).rev().find_map(last)
    }

    /// The last run that begins below a target offset.
    pub(crate) fn run_below_target(&self, offset: TargetOffset) -> Option<Run> {
        let after = self.blocks.partition_point(|block| block.start().target < offset);
        let last = |block: &Block| block.runs().take_while(|run| run.target < offset).last();
        self.blocks.range(..after).rev().find_map(last)
    }

    /// Whether blocks went from its beginning, trimmed or above the bound: it did not begin where it begins now, so that
    /// copies may have been made below.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    /// The same map, of which a part went before it was kept.
    #[must_use]
    pub fn forgot_before(mut self, has_forgotten: bool) -> Self {
        self.has_forgotten |= has_forgotten;
        self
    }

    fn open_block_at_last_run(&mut self, provenance: Provenance) {
        let start = self.blocks.back().map_or(self.position, Block::end);
        let without_runs = self.blocks.back().filter(|open| open.run_count() == 0).map(Block::held_bytes);
        // A block without runs says nothing; the new one takes its place.
        if let Some(bytes) = without_runs {
            self.blocks.pop_back();
            self.held_bytes -= bytes;
        }
        let open = Block::new(start, provenance);
        self.held_bytes += open.held_bytes();
        self.blocks.push_back(open);
    }

    /// Drops the oldest blocks until the rest is within the bound. The last one stays: runs are added to it.
    fn shed(&mut self) -> Vec<Block> {
        let mut gone = Vec::new();
        while self.held_bytes > self.max_bytes && self.blocks.len() > 1 {
            gone.extend(self.pop_oldest());
        }
        gone
    }

    fn pop_oldest(&mut self) -> Option<Block> {
        let gone = self.blocks.pop_front()?;
        self.held_bytes -= gone.held_bytes();
        self.has_forgotten = true;
        Some(gone)
    }
}
