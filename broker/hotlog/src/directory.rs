//! One log directory: its partitions, its journal, and the three kinds of work behind them.
//!
//! Owns: opening and closing, the table of partitions, what is handed to workers.
//! Does not own: a partition's own rules, the format of any file.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use wire::ids::{LeaderEpoch, TopicId};

use crate::error::{CommitError, OpenError};
use crate::journal::{CommitFuture, RoomFuture, Ticket};
use crate::options::{LogOptions, PartitionConfig};
use crate::partition::{Partition, PartitionId};

/// What the metadata says about topics, for recovery.
#[derive(Debug, Clone, Default)]
pub struct TopicDirectory {
    /// The topics there are. The metadata's own is one without being named.
    pub live: BTreeSet<TopicId>,
    /// The topics there were.
    pub deleted: BTreeSet<TopicId>,
}

/// What recovery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The new start number, which is the leader epoch of all partitions.
    pub start_number: u32,
    /// Commits read from the journal.
    pub commits: u64,
    /// Batches in them.
    pub batches: u64,
    /// What was lost, one sentence each; empty after a clean stop, a kill, or a power loss in flush mode `ack`.
    pub losses: Vec<String>,
}

/// A log directory between reading its journal and serving.
#[derive(Debug)]
pub struct Recovering {
    _options: LogOptions,
}

impl Recovering {
    /// All batches of the metadata partition, concatenated per segment, oldest first.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn metadata_batches(&self) -> Result<Vec<Bytes>, OpenError> {
        unimplemented!("lands next")
    }

    /// Rebuilds the partitions of live topics, drops those of deleted ones, makes the new start durable, and starts the workers.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn finish(self, topics: &TopicDirectory) -> Result<(LogDirectory, RecoveryReport), OpenError> {
        let _ = topics;
        unimplemented!("lands next")
    }
}

/// An open log directory. Clones share it.
#[derive(Debug, Clone)]
pub struct LogDirectory {
    _options: Arc<LogOptions>,
}

impl LogDirectory {
    /// Locks the directory and reads what recovery needs. Nothing is changed yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: LogOptions) -> Result<Recovering, OpenError> {
        let _ = options;
        unimplemented!("lands next")
    }

    /// The partition, made in memory where missing (its folder comes with its first segment write). After a restart, partitions
    /// that hold anything are there already; calling this for each live one sets its configuration.
    ///
    /// # Errors
    /// [`CommitError`] when the directory is closed or poisoned.
    pub fn create_partition(
        &self,
        id: PartitionId,
        config: PartitionConfig,
    ) -> Result<Arc<Partition>, CommitError> {
        let _ = (id, config);
        unimplemented!("lands next")
    }

    /// The partition, if it is there.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        let _ = id;
        unimplemented!("lands next")
    }

    /// Forgets the partition and removes its files in the background. The metadata record that deletes its topic has to be
    /// committed first: it is what keeps a crash from bringing the partition back.
    pub fn delete_partition(&self, id: PartitionId) {
        let _ = id;
        unimplemented!("lands next")
    }

    /// Waits for room for one batch (or change) of `bytes`. Hold nothing uncommitted while waiting: when the first poll is pending,
    /// commit what was appended before.
    #[must_use]
    pub fn reserve_room(&self, bytes: usize) -> RoomFuture {
        let _ = bytes;
        unimplemented!("lands next")
    }

    /// Starts the commit of everything appended up to `ticket` and waits for it. In flush mode `os` the work is done in this call
    /// when the ring is free; otherwise whoever holds it takes this along.
    #[must_use]
    pub fn commit(&self, ticket: Ticket) -> CommitFuture {
        let _ = ticket;
        unimplemented!("lands next")
    }

    /// The epoch that new batches get.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        unimplemented!("lands next")
    }

    /// Writes and checkpoints everything, last partial blocks too, so that other tools read the segments whole. Blocks.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn flush_remainders(&self) -> Result<(), CommitError> {
        unimplemented!("lands next")
    }

    /// [`LogDirectory::flush_remainders`], then stops the workers and lets go of the directory. Blocks.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn close(&self) -> Result<(), CommitError> {
        unimplemented!("lands next")
    }
}
