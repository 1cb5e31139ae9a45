//! One partition's log as its owner sees it: append, read, offsets, truncation, retention.
//!
//! Owns: the order of batches and everything derived from them (index, producers, epochs, watermarks).
//! Does not own: the journal's ring (it asks for a place), when segments are written, topic configuration.

mod append;
mod beginning;
pub(crate) mod change;
mod marker;
pub(crate) mod persist;
mod read;
mod retain;
mod sidecar_rebuild;
pub(crate) mod state;
mod times;
mod truncate;

pub use beginning::LogBeginning;
pub use retain::{Committed, RetentionPass};
pub use times::OffsetAndTime;

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use wire::ids::{LeaderEpoch, Offset, TopicId};

use crate::aborted::AbortedTransaction;
use crate::disk::DiskFile;
use crate::epochs::{EpochEnd, EpochHistory};
use crate::health::lock;
use crate::journal::Ticket;
use crate::options::PartitionConfig;
use crate::producers::ProducerView;
use crate::shared::Shared;
use state::PartitionState;

/// A partition's identity for all time: the topic's id, never its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition of the topic, not negative.
    pub partition: i32,
}

impl PartitionId {
    /// The cluster's own metadata log. All its commits are synced, in both flush modes.
    pub const METADATA: Self = Self { topic_id: TopicId::CLUSTER_METADATA, partition: 0 };
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// Who sends a batch, which decides what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: no control batches; producer epoch and sequence are checked.
    Client,
    /// The broker itself (group offsets, metadata, transaction markers): control batches are fine.
    Internal,
}

/// A batch that is in the log, though not committed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// When it was appended, in milliseconds since 1970.
    pub append_time_ms: i64,
    /// Where the log starts.
    pub log_start: Offset,
    /// Whether it had been appended before: the offsets and the time are those of the first time.
    pub duplicate: bool,
    /// To be handed to [`crate::LogDirectory::commit`] before anybody is told, also for a duplicate.
    pub ticket: Ticket,
}

/// How much a read may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes in all; whole batches are returned, so the answer may be smaller.
    pub max_bytes: usize,
    /// The first batch is returned whole even when it is larger.
    pub at_least_one_batch: bool,
}

/// What a reader may see. Kafka's `isolation.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset, with the aborted transactions in the range.
    ReadCommitted,
}

/// A part of what a read found. A batch may begin in a file and end in memory, where the file's last whole block ends: only all
/// pieces of a read together are whole batches.
#[derive(Clone, Debug)]
pub enum HotPiece {
    /// A copy.
    Memory(Bytes),
    /// Bytes of a segment file.
    File(FileRange),
}

/// Bytes of a segment file. The file stays readable while this is held, also when its name is gone.
#[derive(Clone, Debug)]
pub struct FileRange {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where in the file.
    pub position: u64,
    /// How many bytes.
    pub length: usize,
}

impl FileRange {
    /// The operating system's file, for `sendfile`.
    #[must_use]
    pub fn std_file(&self) -> Option<&Arc<File>> {
        self.file.std_file()
    }

    /// Reads the bytes. Blocks on the disk.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.length];
        let read = self.file.read_at(&mut bytes, self.position)?;
        if read < self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes.into())
    }
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct HotRead {
    /// Together whole batches in order, the first one holding or following the offset asked for; empty at the end of the log.
    pub pieces: Vec<HotPiece>,
    /// The high watermark at the time of the read.
    pub high_watermark: Offset,
    /// The last stable offset at the time of the read.
    pub last_stable_offset: Offset,
    /// The log start at the time of the read.
    pub log_start: Offset,
    /// For [`Isolation::ReadCommitted`] only.
    pub aborted: Vec<AbortedTransaction>,
}

/// What a commit makes visible of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitEffect {
    /// The log's end then.
    pub(crate) end: Offset,
    /// The log start, when it moved.
    pub(crate) log_start: Option<Offset>,
    /// The truncations of the partition until then: what was placed before a later one says nothing about the end.
    pub(crate) truncations: u32,
}

impl CommitEffect {
    /// Adds what a later entry of the same commit does.
    pub(crate) fn merge(&mut self, later: Self) {
        let log_start = later.log_start.or(self.log_start);
        *self = Self { log_start, ..later };
    }
}

/// One partition's log.
pub struct Partition {
    id: PartitionId,
    shared: Arc<Shared>,
    /// Kept beside the lock, for readers that only ask.
    high_watermark: AtomicI64,
    last_stable_offset: AtomicI64,
    /// As far as it is committed.
    log_start: AtomicI64,
    state: Mutex<PartitionState>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("id", &self.id)
            .field("high_watermark", &self.high_watermark())
            .finish_non_exhaustive()
    }
}

impl Partition {
    pub(crate) fn new(id: PartitionId, shared: Arc<Shared>, state: PartitionState) -> Self {
        let partition = Self {
            id,
            shared,
            high_watermark: AtomicI64::new(0),
            last_stable_offset: AtomicI64::new(0),
            log_start: AtomicI64::new(0),
            state: Mutex::new(state),
        };
        partition.publish_all();
        partition
    }

    /// Everything in the state is committed: as after recovery.
    pub(crate) fn publish_all(&self) {
        let mut state = lock(&self.state);
        let end = state.log_end;
        self.log_start.store(state.log_start.0, Ordering::Release);
        self.publish(&mut state, end);
    }

    fn publish(&self, state: &mut PartitionState, end: Offset) {
        state.producers.advance_high_watermark(end);
        let stable = state.producers.last_stable_offset(end);
        self.last_stable_offset.store(stable.0, Ordering::Release);
        self.high_watermark.store(end.0, Ordering::Release);
    }

    /// A commit with this partition's entries is done.
    pub(crate) fn committed(&self, effect: CommitEffect) {
        let mut state = lock(&self.state);
        if let Some(log_start) = effect.log_start {
            self.log_start.fetch_max(log_start.0, Ordering::AcqRel);
        }
        if effect.truncations == state.truncations {
            self.publish(&mut state, effect.end);
        }
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Sets its configuration; counts from the next append or pass on.
    pub fn configure(&self, config: PartitionConfig) {
        lock(&self.state).config = config;
    }

    /// The first offset that is not committed yet; readers stop here.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Where read-committed readers stop.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        Offset(self.last_stable_offset.load(Ordering::Acquire))
    }

    /// The first offset of the log, wherever its bytes are.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    /// The first offset whose bytes are held locally.
    #[must_use]
    pub fn local_log_start(&self) -> Offset {
        let state = lock(&self.state);
        state.local_log_start.max(self.log_start())
    }

    /// The offset that the next record gets.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        lock(&self.state).log_end
    }

    /// The epoch that new batches get.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.shared.leader_epoch()
    }

    /// Where an epoch ends (`OffsetForLeaderEpoch`), as far as it is committed; `None` when the epoch is newer than the log's.
    #[must_use]
    pub fn offset_for_leader_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let state = lock(&self.state);
        let high_watermark = self.high_watermark();
        if epoch == self.leader_epoch() {
            return Some(EpochEnd { epoch, end_offset: high_watermark });
        }
        let end = state.epochs.end_offset_for(epoch, high_watermark)?;
        Some(EpochEnd { end_offset: end.end_offset.min(high_watermark), ..end })
    }

    /// The leader-epoch history, oldest first.
    #[must_use]
    pub fn epochs(&self) -> EpochHistory {
        lock(&self.state).epochs.clone()
    }

    /// The idempotent and transactional producers, the one idle longest first (`DescribeProducers`).
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerView> {
        lock(&self.state).producers.iter().collect()
    }

    /// Forgets producers that have not appended for their configured time. Returns how many went.
    pub fn expire_producers(self: &Arc<Self>) -> usize {
        let mut state = lock(&self.state);
        let expiration_ms = state.config.producer_expiration_ms;
        let expired = state.producers.expire(self.shared.clock.now_ms(), expiration_ms);
        if expired > 0 {
            self.note_changed(&mut state);
        }
        expired
    }

    /// The next checkpoint has to look at this partition.
    fn note_changed(self: &Arc<Self>, state: &mut PartitionState) {
        state.changed = true;
        if !state.listed {
            state.listed = true;
            self.shared.list_for_checkpoint(Arc::clone(self));
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, PartitionState> {
        lock(&self.state)
    }
}

/// A segment that will not change any more, and is safe on disk.
#[derive(Debug, Clone)]
pub struct SealedSegment {
    /// The first offset it stands for.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Bytes of batches, which is the file's length.
    pub size_bytes: u64,
    /// The largest record time in it, -1 for none.
    pub max_timestamp_ms: i64,
    /// The epoch of its last batch.
    pub leader_epoch: LeaderEpoch,
    /// When its last batch was appended, in milliseconds since 1970.
    pub last_append_time_ms: i64,
    /// All its bytes.
    pub bytes: FileRange,
    /// The sidecar, verbatim: [`crate::sidecar::Sidecar::decode`] reads it.
    pub sidecar: Bytes,
}
