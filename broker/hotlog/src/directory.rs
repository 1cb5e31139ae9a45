//! One log directory: its partitions, its journal, and the work behind them.
//!
//! Owns: the table of partitions, opening and closing, what is handed to workers.
//! Does not own: a partition's own rules, the format of any file, recovery's steps.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::disk::DiskLock;
use crate::error::{ChangeError, CommitError, OpenError};
use crate::health::lock;
use crate::journal::{CommitFuture, Journal, Room, RoomFuture, Ticket};
use crate::limits;
use crate::options::{FlushMode, LogOptions, PartitionConfig};
use crate::partition::change::Cutting;
use crate::partition::state::PartitionState;
use crate::partition::{Partition, PartitionId};
use crate::recover::Recovering;
use crate::shared::Shared;
use crate::storage::{CheckpointFigures, Storage};
use crate::worker::{Step, Worker};

/// What the metadata says about topics, for recovery.
#[derive(Debug, Clone, Default)]
pub struct TopicDirectory {
    /// The topics there are. The metadata's own is one without being named.
    pub live: BTreeSet<TopicId>,
    /// The topics there were.
    pub deleted: BTreeSet<TopicId>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: LogOptions,
    pub(crate) shared: Arc<Shared>,
    pub(crate) partitions: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    pub(crate) storage: Mutex<Storage>,
    pub(crate) lock: Mutex<Option<Box<dyn DiskLock>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Inner {
    fn all_partitions(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Arc<Partition>> = partitions.values().cloned().collect();
        drop(partitions);
        all.sort_unstable_by_key(|partition| partition.id());
        all
    }

    pub(crate) fn make_checkpoint(&self, storage: &mut Storage) -> Result<CheckpointFigures, CommitError> {
        while storage.remove_next()? {}
        storage.make_checkpoint(&self.all_partitions())
    }
}

/// An open log directory. Clones share it; it closes, without a flush, when the last one is dropped.
#[derive(Debug, Clone)]
pub struct LogDirectory {
    inner: Arc<Inner>,
}

impl LogDirectory {
    /// Locks the directory and reads what recovery needs. A new directory is made; of an existing one nothing is changed yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: LogOptions) -> Result<Recovering, OpenError> {
        Recovering::open(options)
    }

    /// Starts the workers of a recovered directory.
    pub(crate) fn start(inner: Inner) -> Result<Self, OpenError> {
        let inner = Arc::new(inner);
        let journal = &inner.shared.journal;
        let mut workers: Vec<Box<dyn Worker>> = Vec::new();
        if inner.options.flush == FlushMode::Ack {
            workers
                .push(Box::new(CommitWorker { inner: Arc::downgrade(&inner), journal: Arc::clone(journal) }));
        }
        workers.push(Box::new(StorageWorker { inner: Arc::downgrade(&inner), journal: Arc::clone(journal) }));
        for worker in workers {
            let operation = format!("starting worker {}", worker.name());
            inner.options.spawner.start(worker).map_err(|source| OpenError::Io { operation, source })?;
        }
        Ok(Self { inner })
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
        self.inner.shared.health.check()?;
        let mut partitions = self.inner.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let partition = partitions.entry(id).or_insert_with(|| {
            Arc::new(Partition::new(id, Arc::clone(&self.inner.shared), PartitionState::new(config)))
        });
        partition.configure(config);
        Ok(Arc::clone(partition))
    }

    /// The partition, if it is there.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.inner.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All partitions, in the order of their ids.
    #[must_use]
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.inner.all_partitions()
    }

    /// Forgets the partition and removes its files in the background. The metadata record that deletes its topic has to be
    /// committed first: it is what keeps a crash from bringing the partition back. The id never comes back either.
    pub fn delete_partition(&self, id: PartitionId) {
        let removed = self.inner.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(partition) = removed {
            partition.state().deleted = true;
            self.inner.shared.queue_removal(id);
        }
    }

    /// Forgets every batch of the partition that reaches `to`, which is not below the local log start, or beyond; the log then ends behind
    /// the last batch that is left, or at the local log start. Ask for [`Partition::change_bytes`] of room. Blocks on the disk.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn truncate(
        &self,
        partition: &Arc<Partition>,
        mut room: Room,
        to: Offset,
    ) -> Result<Ticket, ChangeError> {
        loop {
            match partition.truncate(room, to)? {
                Cutting::Done(ticket) => return Ok(ticket),
                Cutting::CheckpointFirst(back) => room = back,
            }
            self.checkpoint()?;
        }
    }

    /// Waits for room for one batch (or change) of `bytes`. Hold nothing uncommitted while waiting: when the first poll is pending,
    /// commit what was appended before.
    #[must_use]
    pub fn reserve_room(&self, bytes: usize) -> RoomFuture {
        RoomFuture::new(Arc::clone(&self.inner.shared.journal), bytes)
    }

    /// The largest batch that is ever taken: an eighth of the journal.
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        self.inner.shared.journal.payload_limit()
    }

    /// Starts the commit of everything appended up to `ticket` and waits for it. In flush mode `os` the work is done in this call
    /// when the ring is free; otherwise whoever holds it takes this along.
    #[must_use]
    pub fn commit(&self, ticket: Ticket) -> CommitFuture {
        CommitFuture::start(Arc::clone(&self.inner.shared.journal), ticket)
    }

    /// The epoch that new batches get.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.inner.shared.leader_epoch()
    }

    /// Whether producers are refused because the disk is full.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        self.inner.shared.space.is_short()
    }

    /// Whether the directory still takes writes.
    ///
    /// # Errors
    /// [`CommitError`]: why it does not.
    pub fn health(&self) -> Result<(), CommitError> {
        self.inner.shared.health.check()
    }

    /// Makes a checkpoint now. Blocks on the disk.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn checkpoint(&self) -> Result<CheckpointFigures, CommitError> {
        self.inner.shared.health.check()?;
        self.inner.make_checkpoint(&mut lock(&self.inner.storage))
    }

    /// Writes and checkpoints everything, last partial blocks too, so that other tools read the segments whole. Blocks.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn flush_remainders(&self) -> Result<(), CommitError> {
        self.inner.shared.health.check()?;
        let mut storage = lock(&self.inner.storage);
        self.inner.make_checkpoint(&mut storage)?;
        storage.write_remainders(&self.inner.all_partitions())
    }

    /// [`LogDirectory::flush_remainders`], then stops the workers and lets go of the directory. Blocks.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn close(&self) -> Result<(), CommitError> {
        self.inner.shared.health.check()?;
        let mut storage = lock(&self.inner.storage);
        // From here on nothing is placed any more, so that the checkpoint is the last word.
        self.inner.shared.health.close();
        let result = self
            .inner
            .make_checkpoint(&mut storage)
            .and_then(|_| storage.write_remainders(&self.inner.all_partitions()));
        self.inner.shared.journal.wake_all();
        // Whoever was writing a commit is done now, and nobody begins another.
        self.inner.shared.journal.chain_point();
        lock(&self.inner.lock).take();
        result
    }
}

/// Writes commits in flush mode `ack`.
#[derive(Debug)]
struct CommitWorker {
    inner: Weak<Inner>,
    journal: Arc<Journal>,
}

impl Worker for CommitWorker {
    fn name(&self) -> &'static str {
        "hotlog-commit"
    }

    fn step(&mut self) -> Step {
        let Some(inner) = self.inner.upgrade().filter(|inner| inner.shared.health.check().is_ok()) else {
            return Step::Done;
        };
        match inner.shared.journal.commit_next() {
            Ok(true) => Step::Worked,
            Ok(false) => Step::Idle,
            Err(_) => Step::Done,
        }
    }

    fn wait(&self) {
        self.journal.commit_bell.wait(Duration::from_millis(limits::WORKER_WAIT_MS));
    }
}

/// Writes segments, makes checkpoints, removes files.
#[derive(Debug)]
struct StorageWorker {
    inner: Weak<Inner>,
    journal: Arc<Journal>,
}

impl StorageWorker {
    fn work(inner: &Inner) -> Result<bool, CommitError> {
        let mut storage = lock(&inner.storage);
        inner.shared.health.check()?;
        if storage.remove_next()? || storage.write_next()? {
            return Ok(true);
        }
        let now_ms = inner.shared.clock.now_ms();
        let (now, archiver_waits) = {
            let queues = lock(&inner.shared.queues);
            (queues.checkpoint_now, queues.archiver_waits)
        };
        let longest = if archiver_waits { limits::CHECKPOINT_INTERVAL_FOR_ARCHIVER_MS } else { i64::MAX };
        let interval_ms = inner.options.checkpoint_interval_ms.min(longest);
        if now || inner.shared.journal.wants_checkpoint(now_ms, interval_ms) {
            inner.make_checkpoint(&mut storage)?;
            return Ok(true);
        }
        storage.restore_space()?;
        Ok(false)
    }
}

impl Worker for StorageWorker {
    fn name(&self) -> &'static str {
        "hotlog-storage"
    }

    fn step(&mut self) -> Step {
        let Some(inner) = self.inner.upgrade() else { return Step::Done };
        match Self::work(&inner) {
            Ok(true) => Step::Worked,
            Ok(false) => Step::Idle,
            Err(_) => Step::Done,
        }
    }

    fn wait(&self) {
        self.journal.storage_bell.wait(Duration::from_millis(limits::WORKER_WAIT_MS));
    }
}
