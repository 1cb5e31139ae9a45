//! What the map topic still has to be told of a partition's map: blocks that changed, and blocks that went.
//!
//! Owns: which blocks a commit carries, which tombstones, and how many of them.
//! Does not own: when a commit is made and the progress in it (`copier`), the blocks themselves (`offset_map`).
//!
//! Invariants:
//!   A. A commit carries each block that changed since the one before, and no other, so what the map holds is in the
//!      topic with the progress that covers it.
//!   B. A tombstone names a block that the map does not hold, under the generation that wrote it. Starts of blocks only
//!      rise, so such a key never comes back.
//!   C. The progress of a commit says where the map starts, so readers pass over what is below it. Tombstones may come
//!      later than that, in several commits or from the next owner: every reader has the same map all the same.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::map_topic::{Key, MapRecord, PartitionKey};
use crate::offset_map::{Block, OffsetMap, SourceOffset};

/// Tombstones that one commit carries at most, about 300 KiB of keys: the map topic refuses a write above 8 MiB, and a
/// target that deletes a long log at once forgets as many blocks as a map may hold.
pub(super) const TOMBSTONES_AT_ONCE: usize = 2_048;

/// What the map topic lacks.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Start of the oldest block that the topic does not have in its present form.
    changed_from: Option<SourceOffset>,
    /// Oldest first; bounded by what maps, this owner's and the one before's, may hold.
    tombstones: VecDeque<MapRecord>,
}

impl Unwritten {
    /// Of a new owner: its own blocks are not written, and what it found `superseded` is not forgotten.
    pub(super) fn new(map: &OffsetMap, generation: u64, superseded: Vec<MapRecord>) -> Self {
        let own = map.blocks().find(|block| block.provenance().generation == generation);
        Self { changed_from: own.map(|block| block.start().source), tombstones: superseded.into() }
    }

    /// A run was added to the open block of `map`, or has begun it. The block before it, if it has begun one, is as the
    /// topic has it.
    pub(super) fn note_run(&mut self, map: &OffsetMap) {
        let open = map.open_block().map(|block| block.start().source);
        self.changed_from = self.changed_from.or(open);
    }

    /// The map has let go of these blocks.
    pub(super) fn forget(&mut self, partition: &PartitionKey, gone: &[Block]) {
        self.tombstones.extend(gone.iter().map(|block| MapRecord::forget(&block_key(partition, block))));
    }

    /// Whether tombstones wait for a commit.
    pub(super) fn has_tombstones(&self) -> bool {
        !self.tombstones.is_empty()
    }

    /// The changed blocks, for the commit that is being made.
    pub(super) fn take_blocks(&mut self, partition: &PartitionKey, map: &OffsetMap) -> Vec<MapRecord> {
        let Some(from) = self.changed_from.take() else { return Vec::new() };
        let changed = map.blocks().filter(|block| block.start().source >= from);
        changed.map(|block| MapRecord::set(&block_key(partition, block), block.encode())).collect()
    }

    /// The next tombstones, for the commit that is being made.
    pub(super) fn take_tombstones(&mut self) -> impl Iterator<Item = MapRecord> {
        let count = self.tombstones.len().min(TOMBSTONES_AT_ONCE);
        self.tombstones.drain(..count)
    }
}

fn block_key(partition: &PartitionKey, block: &Block) -> Key {
    let generation = block.provenance().generation;
    Key::Block { partition: partition.clone(), generation, start: block.start().source }
}
