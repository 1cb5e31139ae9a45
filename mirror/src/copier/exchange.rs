//! What goes into a copier and what comes out.

use wire::batch::sequence_after;

use super::batch::Outgoing;
use crate::events::EventKind;
use crate::map_topic::{BatchIntent, MapRecord, PartitionKey};
use crate::offset_map::{OffsetMap, Position, Provenance, SourceOffset, TargetOffset};

/// Who a batch is produced as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the next record.
    pub sequence: i32,
}

impl Producer {
    /// The producer with the sequence after so many records.
    #[must_use]
    pub fn after(self, records: i32) -> Self {
        Self { sequence: sequence_after(self.sequence, records), ..self }
    }

    pub(super) fn is_same_life(&self, other: &Self) -> bool {
        (self.id, self.epoch) == (other.id, other.epoch)
    }
}

/// What a copier starts from.
#[derive(Debug)]
pub struct Resume {
    /// The partition.
    pub key: PartitionKey,
    /// Its map, at the position that recovery found, with a block begun for this generation.
    pub map: OffsetMap,
    /// This owner's generation and the target's leader epoch.
    pub provenance: Provenance,
    /// Producer of the batches that the owner before may still have in the air, at the first of them.
    pub replay_as: Producer,
    /// Batches that may still arrive, and are produced again as `replay_as`.
    pub replay: Vec<BatchIntent>,
    /// Producer of all that follows.
    pub then_as: Producer,
    /// Leader epoch of the last copied source batch, -1 before the first.
    pub source_epoch: i32,
    /// Whether owners before left batches out because they came from the target.
    pub left_out: bool,
    /// Tombstones of what owners before left behind and the first commit takes the place of.
    pub superseded: Vec<MapRecord>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Source batches were turned into target batches; all below `covered_to` is in them or nothing to copy.
    Planned {
        /// The batches, in order.
        batches: Vec<Outgoing>,
        /// First source offset that was not looked at.
        covered_to: SourceOffset,
    },
    /// The map topic acknowledged a commit.
    Committed {
        /// The commit's number.
        revision: u64,
    },
    /// The target acknowledged a batch.
    Acked {
        /// The batch.
        id: u64,
        /// Offset of its first record.
        base_offset: TargetOffset,
        /// Leader epoch that acknowledged.
        target_leader_epoch: i32,
    },
    /// The target did not acknowledge a batch.
    Failed {
        /// The batch.
        id: u64,
        /// How it failed.
        failure: Failure,
    },
    /// The tail was read back: so many batches beyond the position are there, and where.
    ReadBack {
        /// Offsets of the first records of the batches that arrived, in order.
        arrived: Vec<(TargetOffset, i32)>,
    },
    /// The tail does not fit the intents, or another event was noticed outside.
    Halt(EventKind),
    /// The target has no record below this any more.
    TargetLogStart(TargetOffset),
    /// An interval has passed: time to list what was gathered, and to write what has nothing else to travel with, a
    /// position or tombstones.
    Flush,
    /// Finish what is in flight, write the position, send nothing more.
    Stop,
}

/// How a batch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may be in the log, or may still get there.
    Doubtful(String),
    /// It is above the target's limit for a batch.
    TooLarge,
    /// The target does not take its codec.
    CodecRefused,
    /// It will never be taken.
    Refused(String),
    /// A newer owner's producer epoch was seen.
    Fenced(String),
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Write these records to the map topic, at once or not at all.
    Commit {
        /// The commit's number, to be given back.
        revision: u64,
        /// Its records.
        records: Vec<MapRecord>,
    },
    /// Produce a batch.
    Produce {
        /// The batch's number, to be given back.
        id: u64,
        /// Who as.
        producer: Producer,
        /// The batch.
        batch: Outgoing,
    },
    /// Read the target's tail from the position on and match these intents.
    ReadBack {
        /// Where to read from.
        position: Position,
        /// Producer of the first intent.
        producer: Producer,
        /// What may be there.
        intents: Vec<BatchIntent>,
    },
    /// The target holds records between the last batch and this one: look whether they are somebody else's.
    LookBetween {
        /// Producer that must have written none of them.
        producer_id: i64,
        /// Source offset at which the copy stood.
        source: SourceOffset,
        /// The first of them.
        from: TargetOffset,
        /// The first offset after them.
        to: TargetOffset,
    },
    /// Plan again from here on, with batches cut smaller or written in another codec.
    Replan {
        /// First source offset to plan.
        from: SourceOffset,
        /// Why the plan did not do.
        because: ReplanReason,
    },
    /// The partition is paused.
    Paused(EventKind),
    /// Nothing is in flight and the position is written.
    Stopped,
}

/// Why a plan did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplanReason {
    /// A batch of so many bytes was too large.
    TooLarge {
        /// Size of the refused batch.
        size_bytes: usize,
    },
    /// The target does not take the codec.
    CodecRefused,
}
