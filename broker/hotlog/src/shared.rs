//! What a log directory's partitions and workers share.
//!
//! Owns: the queues between them. Does not own: the table of partitions, the work itself.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use wire::ids::LeaderEpoch;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::Poisoned;
use crate::health::{Health, lock};
use crate::journal::Journal;
use crate::partition::{Partition, PartitionId};
use crate::segment::cache::SegmentCache;
use crate::space::Space;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) directory: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) health: Arc<Health>,
    pub(crate) space: Arc<Space>,
    pub(crate) cache: SegmentCache,
    /// The unit of segment writes in bytes.
    pub(crate) block: u32,
    /// Bytes of one partition that the segment writer does not wait for a checkpoint with.
    pub(crate) write_threshold: u32,
    pub(crate) queues: Mutex<Queues>,
}

/// What waits for the segment worker. Each partition stands in a list at most once.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// For the next checkpoint.
    pub(crate) changed: Vec<Arc<Partition>>,
    /// With enough bytes for a large write.
    pub(crate) to_write: VecDeque<Arc<Partition>>,
    /// Deleted: their files are to go.
    pub(crate) removed: Vec<PartitionId>,
    /// A checkpoint is wanted although the journal does not need one.
    pub(crate) checkpoint_now: bool,
    /// The archiver found sealed segments that only a checkpoint lets it take.
    pub(crate) archiver_waits: bool,
    /// The directory is gone: nobody looks at the lists any more.
    ended: bool,
}

impl Queues {
    /// Empties the lists for good. A partition in one of them holds, by way of what all share, the list itself.
    fn end(&mut self) {
        *self = Self { ended: true, ..Self::default() };
    }
}

impl Shared {
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.journal.start_number().cast_signed())
    }

    pub(crate) fn list_for_checkpoint(&self, partition: Arc<Partition>) {
        let mut queues = lock(&self.queues);
        if !queues.ended {
            queues.changed.push(partition);
        }
    }

    pub(crate) fn queue_write(&self, partition: Arc<Partition>) {
        let mut queues = lock(&self.queues);
        if !queues.ended {
            queues.to_write.push_back(partition);
        }
        drop(queues);
        self.journal.storage_bell.ring();
    }

    pub(crate) fn queue_removal(&self, partition: PartitionId) {
        lock(&self.queues).removed.push(partition);
        self.journal.storage_bell.ring();
    }

    pub(crate) fn want_checkpoint(&self) {
        lock(&self.queues).checkpoint_now = true;
        self.journal.storage_bell.ring();
    }

    /// How much disk space is to be held: all that the journal can take, and a checkpoint file replaced by a larger one.
    pub(crate) fn reserve_target(&self, checkpoint_bytes: u64) -> u64 {
        reserve_target(self.journal.capacity(), checkpoint_bytes)
    }

    /// The last handle of the directory is gone: nothing is placed or queued any more, and what was is let go of.
    pub(crate) fn end(&self) {
        self.health.close();
        // Whoever was writing a commit is done now, and nobody begins another.
        self.journal.chain_point();
        self.journal.forget_gathered();
        lock(&self.queues).end();
        self.journal.wake_all();
    }

    /// A write or sync failed: the directory is out of service.
    pub(crate) fn poison(&self, operation: &str, error: &std::io::Error) -> Poisoned {
        let poisoned = self.health.poison(operation, error);
        self.journal.wake_all();
        poisoned
    }
}

/// How much disk space a directory holds in reserve.
pub(crate) fn reserve_target(journal_bytes: u64, checkpoint_bytes: u64) -> u64 {
    journal_bytes + journal_bytes / 4 + 2 * checkpoint_bytes
}
